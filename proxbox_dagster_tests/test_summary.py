"""The page about a run: what it says, how it is drawn, and that a run that breaks has one too."""

from __future__ import annotations

import base64
import re
from typing import Any
from xml.etree import ElementTree

import dagster as dg
import pytest

from proxbox_dagster.assembly import build_definitions
from proxbox_dagster.audit import Audit
from proxbox_dagster.chart import BARS, COLOURS, LABELS, LEAST, Bar, chart
from proxbox_dagster.jobs import FULL_UPDATE
from proxbox_dagster.keys import SUMMARY_KEY
from proxbox_dagster.metadata import reasons_table
from proxbox_dagster.netbox.errors import NetBoxUnreachable
from proxbox_dagster.netbox.spec import Outcome, Skip
from proxbox_dagster.report import ClassReport
from proxbox_dagster.stages import STAGES, object_classes
from proxbox_dagster.summary_page import ClassLine, RunStory, page
from proxbox_dagster_tests.support.fake_run import FakeRun, FakeWorld, let_a_device_fail
from proxbox_dagster_tests.support.graph import two_endpoints

NOTHING = dict.fromkeys(ClassReport("s", "c", dry_run=False).counts(), 0)


def line(stage: str, name: str, **counts: Any) -> ClassLine:
    more = {key: counts.pop(key) for key in list(counts) if key not in NOTHING}
    return ClassLine(stage, name, {**NOTHING, **counts}, **more)


def story(*lines: ClassLine, **more: Any) -> RunStory:
    return RunStory("full_update", "ams1", "run-1", lines=list(lines), **more)


def section(text: str, title: str) -> str:
    parts = re.split(r"^### ", text, flags=re.MULTILINE)
    return next((part for part in parts if part.startswith(title)), "")


# -- the page ---------------------------------------------------------------------------------------------------


def test_a_good_run_says_so_and_asks_for_nothing() -> None:
    text = page(story(line("devices", "devices", seen=3, unchanged=3), proxmox_requests=12))
    assert text.startswith("## ✓ full_update of ams1\n\nnothing changed: 3 unchanged")
    assert "Nothing: all is well" in section(text, "What to do next")
    assert "12 requests to Proxmox" in text
    assert not section(text, "What failed")


def test_failed_objects_are_named_with_their_reason() -> None:
    table = reasons_table([Skip("web01", "name is taken", Outcome.FAILED)])
    text = page(story(line("virtual_machines", "virtual_machines", seen=2, created=1, failed=1, failures=table)))
    assert "✗" in text
    assert "1 object failed: virtual_machines (1)" in text
    assert "web01" in section(text, "What failed")
    assert "name is taken" in section(text, "What failed")
    assert "Mend the failed objects" in section(text, "What to do next")


def test_an_object_without_an_outcome_makes_the_run_red() -> None:
    lost = story(line("devices", "devices", seen=3, unchanged=2), line("devices", "sites", seen=1, created=1))
    assert not lost.ok
    assert lost.headline == "not every object is accounted for in devices"
    assert "not accounted for: devices; this is a fault" in section(page(lost), "What failed")


def test_a_broken_stage_comes_with_cause_and_remedy() -> None:
    text = page(story(broken={"storage": "NetBox is out of reach"}, not_started=["backups", "snapshots"]))
    assert "stopped in storage: NetBox is out of reach" in text
    assert "not started for it: backups, snapshots" in section(text, "What failed")
    assert "Re-execute from failure" in section(text, "What to do next")


def test_brake_conflicts_and_missing_objects_each_have_their_next_step() -> None:
    text = section(
        page(
            story(
                line("a", "x", seen=1, unchanged=1, braked=True, still_missing=4),
                line("a", "y", seen=1, unchanged=1, conflicts="| object |\n| --- |\n| vm |"),
            )
        ),
        "What to do next",
    )
    assert "--endpoint ams1 --override-brake" in text
    assert "create_only" in text
    assert "4 objects are marked as missing" in text


def test_what_a_stage_says_of_all_its_classes_is_one_line() -> None:
    lines = [line("devices", f"class{n}", seen=1, unchanged=1, attention="node pve3 is offline") for n in range(9)]
    text = section(page(story(*lines)), "Look at this")
    assert text.count("node pve3 is offline") == 1


def test_the_page_stays_small_when_every_class_has_much_to_tell() -> None:
    table = reasons_table([Skip(f"guest{n}" * 20, f"reason {chr(97 + n % 26)} {'x' * n}") for n in range(400)])
    lines = [
        line(stage.name, item.name, seen=9, failed=9, failures=table, conflicts=table, attention="a" * 400)
        for stage in STAGES
        for item in stage.object_classes
    ]
    assert len(page(story(*lines)).encode()) < 100_000


# -- the chart --------------------------------------------------------------------------------------------------


def test_the_chart_is_a_drawing_with_a_bar_for_each_count() -> None:
    text = chart([Bar("virtual machines", {"created": 1000, "failed": 1}, "note & <more>"), Bar("storage", {})])
    root = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    words = [item.text for item in root.iter(f"{space}text")]
    assert {"virtual machines", "storage", "note & <more>", *COLOURS} <= set(words)
    drawn = [
        item for item in root.iter(f"{space}rect") if float(item.get("x", 0)) >= LABELS and item.get("height") != "12"
    ]
    assert [item.get("fill") for item in drawn] == [COLOURS["created"], COLOURS["failed"]]
    widths = [float(item.get("width", 0)) for item in drawn]
    assert widths[1] >= LEAST
    assert sum(widths) <= BARS


def test_the_page_shows_the_chart_as_an_image() -> None:
    text = page(story(line("devices", "devices", seen=3, created=3)))
    [data] = re.findall(r"!\[.*?\]\(data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)\)", text)
    assert ElementTree.fromstring(base64.b64decode(data)).tag.endswith("svg")


# -- from Dagster's records -------------------------------------------------------------------------------------


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> FakeWorld:
    found = FakeWorld(two_endpoints())
    found.install(monkeypatch)
    return found


def run_job(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    job = build_definitions(two_endpoints()).resolve_job_def(FULL_UPDATE)
    return job.execute_in_process(instance=instance, partition_key="ams1", raise_on_error=False)


def told(instance: dg.DagsterInstance) -> str:
    """The newest summary on the asset's page, of a run that did not get to its last step."""
    [record] = instance.fetch_observations(SUMMARY_KEY, limit=1).records
    assert record.asset_observation is not None
    assert record.asset_observation.partition == "ams1"
    return str(record.asset_observation.metadata["summary"].value)


def test_a_whole_run_has_a_line_for_each_class(world: FakeWorld) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = run_job(instance)
        assert result.success
        [event] = [item for item in result.get_asset_materialization_events() if item.asset_key == SUMMARY_KEY]
        metadata = event.materialization.metadata
        assert metadata["seen"].value == 0
        assert metadata["proxmox_requests"].value == 0
        assert "✓" in metadata["summary"].value
        written = {item.asset_key.path[-1] for item in result.get_asset_materialization_events()}
        assert written == {item.name for item in object_classes()} | {"run_summary"}


def test_a_check_that_is_not_green_is_told_where_the_endpoints_run_is(
    world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own page shows the endpoint that was synced last; and no run fails for it."""
    doubles = {("ams1", "lxc", 200, "now"): [7, 8]}
    audited = FakeRun.audit
    monkeypatch.setattr(
        FakeRun, "audit", lambda run, item: Audit(doubles) if item.name == "snapshots" else audited(run, item)
    )
    with dg.DagsterInstance.ephemeral() as instance:
        result = run_job(instance)
        assert result.success
        [event] = [item for item in result.get_asset_materialization_events() if item.asset_key == SUMMARY_KEY]
        text = str(event.materialization.metadata["summary"].value)
        red = [item for item in result.get_asset_check_evaluations() if not item.passed]
    assert "| snapshots | snapshots | ERROR of its check one_row_per_identity |" in section(text, "Look at this")
    assert "checks that are not green" in section(text, "What to do next")
    assert "all is well" not in text
    assert [(item.description, item.metadata["endpoint"].value) for item in red] == [("endpoint ams1", "ams1")]


def test_a_run_that_breaks_leaves_its_summary_too(world: FakeWorld) -> None:
    def lose_netbox(stage: str, object_class: str) -> None:
        if object_class == "storage":
            raise NetBoxUnreachable("NetBox is out of reach: look at its web server")

    world.on_write = lose_netbox
    with dg.DagsterInstance.ephemeral() as instance:
        assert not run_job(instance).success
        text = told(instance)
    assert "stopped in storage: NetBox is out of reach" in text
    assert "Re-execute from failure" in text


def test_a_run_with_failed_objects_leaves_its_summary_too(world: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    let_a_device_fail(monkeypatch)
    with dg.DagsterInstance.ephemeral() as instance:
        assert not run_job(instance).success
        text = told(instance)
    assert "1 object failed: devices (1)" in text
    assert "name is taken" in text
