"""The code location: it loads with nothing configured, says what to set, and its graph is the design's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.freshness import TimeWindowFreshnessPolicy

from proxbox_dagster.assembly import build_definitions
from proxbox_dagster.jobs import FULL_UPDATE, OBSERVE
from proxbox_dagster.keys import SUMMARY_KEY, class_key, source_key
from proxbox_dagster.proxmox.sources import SOURCES
from proxbox_dagster.settings import load_settings
from proxbox_dagster.stages import BY_NAME, STAGES, object_classes
from proxbox_dagster_tests.support.fake_run import FakeWorld
from proxbox_dagster_tests.support.graph import STORED, shape, text, two_endpoints

PROJECT = Path(__file__).parent.parent

UPSTREAM = {1: (), 2: (1,), 3: (1,), 4: (2, 3), 5: (3,), 6: (2, 3), 7: (3,), 8: (1,), 9: (3,), 10: (9,), 11: (3,)} | {
    12: (1, 2)
}
"""The pipeline page's order of stages."""

GROUPS = {
    "infrastructure": (1, 2),
    "guest_data": (3, 4, 5, 6, 7),
    "networking": (8, 9, 10),
    "operational": (11, 12),
}
"""The four colours of the pipeline page."""


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working directory without settings, and an environment without any of ours."""
    for name in list(os.environ):
        if name.startswith(("PROXBOX_", "PROXMOX_", "NETBOX_", "DAGSTER_HOME")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    return build_definitions(two_endpoints())


# -- loading ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "partition"),
    [
        (FULL_UPDATE, "default"),
        (OBSERVE, "default"),
        ("sync_storage", "default"),
        ("sync_guests", "default"),
        (FULL_UPDATE, None),
    ],
)
def test_without_settings_everything_loads_and_a_run_says_what_to_set(
    nothing: Path, job: str, partition: str | None
) -> None:
    definitions = build_definitions(load_settings())
    message = why_it_fails(definitions, job, partition)
    for word in ("proxbox.yaml", "PROXMOX_HOST", "PROXMOX_USER", "NETBOX_URL", "docs/configuration.md"):
        assert word in message


def why_it_fails(definitions: dg.Definitions, job: str, partition: str | None) -> str:
    result = definitions.resolve_job_def(job).execute_in_process(partition_key=partition, raise_on_error=False)
    assert not result.success
    first = next(event for event in result.all_events if event.is_step_failure)
    return str(first.step_failure_data.user_failure_data.description)


def test_a_run_without_a_partition_says_for_which_it_can_be_started(nothing: Path, definitions: dg.Definitions) -> None:
    endpoint = "{name: %s, hosts: [h], user: a@pve, token_name: t, token_value: {env: T}}"
    (nothing / "proxbox.yaml").write_text(
        f"netbox: {{url: 'https://n', token: {{env: T}}}}\nendpoints: [{endpoint % 'ams1'}, {endpoint % 'lab'}]\n"
    )
    message = why_it_fails(definitions, FULL_UPDATE, None)
    assert message.startswith("this run has no partition, and so no endpoint: start it for one of ams1, lab")


@pytest.mark.parametrize(
    "command", [("sync",), ("plan", "--json"), ("doctor",), ("purge", "--endpoint", "ams1")], ids=" ".join
)
def test_wrong_settings_are_one_line_of_every_command(nothing: Path, command: tuple[str, ...]) -> None:
    (nothing / "proxbox.yaml").write_text("netbox: {url: 'https://n', tokenn: x}\nendpoints: []\n")
    # In a process of its own: in this one everything has been imported with other settings.
    done = subprocess.run(
        [sys.executable, "-m", "proxbox_dagster.cli", *command], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    told = done.stdout + done.stderr
    assert "netbox.tokenn: unknown key" in told
    assert len(told.splitlines()) == 1, told


def test_a_missing_secret_is_named_before_anything_is_contacted(nothing: Path) -> None:
    (nothing / "proxbox.yaml").write_text(
        """
        netbox: {url: "https://127.0.0.1:1", token: {env: TEST_NETBOX_TOKEN}}
        endpoints:
          - {name: ams1, hosts: ["127.0.0.1"], user: a@pve, token_name: t, token_value: {env: TEST_AMS1_TOKEN}}
        """
    )
    job = build_definitions(load_settings()).resolve_job_def(FULL_UPDATE)
    result = job.execute_in_process(partition_key="ams1", raise_on_error=False)
    [failure] = [event for event in result.all_events if event.is_step_failure]
    message = failure.step_failure_data.user_failure_data.description
    assert "endpoints.ams1.token_value" in message
    assert "TEST_AMS1_TOKEN" in message


def run_tool(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """One of Dagster's own tools beside this Python, in ``folder``, without settings."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    tool = Path(sys.executable).parent / command[0]
    return subprocess.run(
        [str(tool), *command[1:]],
        cwd=folder,
        env={**kept, "DAGSTER_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "at_home"),
    [
        ((), True),
        (("-w", str(PROJECT / "workspace.yaml")), True),
        (("-w", str(PROJECT / "workspace.yaml")), False),
        (("-m", "proxbox_dagster.definitions"), False),
    ],
    ids=["pyproject", "workspace", "workspace from elsewhere", "module from elsewhere"],
)
def test_dagster_validates_it(tmp_path: Path, arguments: tuple[str, ...], at_home: bool) -> None:
    done = run_tool("dagster", "definitions", "validate", *arguments, folder=PROJECT if at_home else tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All code locations passed validation" in done.stdout + done.stderr


def test_dg_lists_it() -> None:
    done = run_tool("dg", "list", "defs", "--json", folder=PROJECT)
    assert done.returncode == 0, done.stdout + done.stderr
    listed = json.loads(done.stdout[done.stdout.index("{") :])
    assert {item["name"] for item in listed["jobs"]} >= {FULL_UPDATE, OBSERVE, "sync_guests"}


# -- the graph --------------------------------------------------------------------------------------------------


def test_stages_groups_and_order_are_the_pipelines() -> None:
    assert [stage.number for stage in STAGES] == list(range(1, 13))
    for stage in STAGES:
        assert tuple(sorted(BY_NAME[name].number for name in stage.upstream)) == UPSTREAM[stage.number], stage.name
        assert stage.number in GROUPS[stage.group], stage.name


@pytest.mark.parametrize("plugin", [True, False])
def test_assets_derive_from_the_table(plugin: bool) -> None:
    graph = build_definitions(two_endpoints(plugin=plugin)).resolve_asset_graph()
    expected = {source_key(name) for name in SOURCES} | {SUMMARY_KEY}
    for stage in STAGES:
        # Of each stage before it, the class that is named as the stage.
        above = {class_key(name) for name in stage.upstream if BY_NAME[name].classes(plugin=plugin)}
        above |= {source_key(name) for name in stage.sources}
        for item in stage.classes(plugin=plugin):
            key = class_key(item.name)
            expected.add(key)
            node = graph.get(key)
            assert node.group_name == stage.group
            assert node.parent_keys == above, key
            assert node.partitions_def is not None
            assert node.partitions_def.get_partition_keys() == ["ams1", "lab"]
            assert node.code_version
            assert item.spec.model in (node.description or "")
    assert graph.get_all_asset_keys() == expected


def test_every_source_is_observed_by_one_step_and_read_by_a_stage(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    for name, source in SOURCES.items():
        node = graph.get(source_key(name))
        assert node.is_observable
        assert not node.is_materializable
        assert node.group_name == "proxmox"
        assert node.child_keys, f"no stage reads {name}"
        assert source.path in (node.description or "")
    assert len({id(graph.get(source_key(name)).assets_def.op) for name in SOURCES}) == 1


def test_owners_come_from_the_settings() -> None:
    graph = build_definitions(two_endpoints(owners=["team:network", "a@example.org"])).resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        assert sorted(graph.get(key).owners) == ["a@example.org", "team:network"]


def test_the_graph_is_the_stored_one(definitions: dg.Definitions) -> None:
    found, stored = shape(definitions), json.loads(STORED.read_text())
    renew = "wanted? then: python -m proxbox_dagster_tests.support.graph"
    for part, value in stored.items():
        assert found[part] == value, renew
    assert text(found) == STORED.read_text(), renew


def test_every_asset_tells_what_it_is_and_where_to_read_on(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    headings = {line.lstrip("# ") for line in (PROJECT / "docs/mapping.md").read_text().splitlines() if line[:1] == "#"}
    for stage in STAGES:
        for item in stage.object_classes:
            node = graph.get(class_key(item.name))
            assert node.tags["proxbox/stage"] == stage.name
            assert node.metadata["docs"].value.removeprefix("docs/mapping.md, ") in headings
            assert len(node.metadata["dagster/column_schema"].columns) == len(item.spec.fields)
            assert item.title in (node.description or "")
    for name, source in SOURCES.items():
        node = graph.get(source_key(name))
        assert node.metadata["docs"].value.removeprefix("docs/mapping.md, ") in headings
        assert source.privilege in (node.description or "")
        assert BY_NAME[node.tags["proxbox/stage"]]


def test_every_object_class_is_overdue_after_the_hours_of_the_settings() -> None:
    graph = build_definitions(two_endpoints(schedules={"fresh_hours": 10})).resolve_asset_graph()
    for item in object_classes(plugin=True):
        policy = graph.get(class_key(item.name)).freshness_policy
        assert isinstance(policy, TimeWindowFreshnessPolicy), item.name
        assert policy.fail_window.to_timedelta() == timedelta(hours=10)


def test_the_docs_are_linked_where_the_settings_know_their_address() -> None:
    graph = build_definitions(two_endpoints(docs_url="https://git.example.org/docs/")).resolve_asset_graph()
    link = graph.get(class_key("virtual_machines")).metadata["docs"].url
    assert link == "https://git.example.org/docs/mapping.md#virtual-machines-netboxvirtual_machines"


# -- the order of a run -----------------------------------------------------------------------------------------


def test_a_full_update_runs_the_stages_strictly_in_order(
    definitions: dg.Definitions, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = FakeWorld(two_endpoints())
    world.install(monkeypatch)
    job = definitions.resolve_job_def(FULL_UPDATE)
    result = job.execute_in_process(partition_key="ams1")
    steps = [event.step_key for event in result.all_events if event.is_step_start]
    assert steps == ["read_proxmox", *(stage.name for stage in STAGES), "run_summary"]
    classes = [(stage.name, item.name) for stage in STAGES for item in stage.object_classes]
    assert world.written == classes


def test_two_stages_of_different_branches_run_in_order_too(
    definitions: dg.Definitions, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = FakeWorld(two_endpoints())
    world.install(monkeypatch)
    chosen = ["vm_ip_addresses", "node_interfaces", "backup_routines", "storage"]
    keys = [class_key(item.name) for name in chosen for item in BY_NAME[name].object_classes]
    definitions.resolve_job_def(FULL_UPDATE).execute_in_process(partition_key="lab", asset_selection=keys)
    order = list(dict.fromkeys(stage for stage, _ in world.written))
    assert order == ["storage", "node_interfaces", "vm_ip_addresses", "backup_routines"]
