"""``dagster dev`` over a NetBox and two simulated clusters: what an operator sees and clicks, and what the daemon does.

Its records are in PostgreSQL, shared by the UI, the daemon, the code location, the runs and the command line.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pytest

from proxbox_dagster.demo.dagster_ui import DagsterUI, prepare_home
from proxbox_dagster.demo.proxmox import load_cluster
from proxbox_dagster.jobs import FULL_UPDATE
from proxbox_dagster.keys import SUMMARY_KEY, class_key, source_key
from proxbox_dagster.stages import STAGES, object_classes
from proxbox_dagster_tests.proxmox_http import Wire
from proxbox_dagster_tests.support.browser import Browser, browser, missing
from proxbox_dagster_tests.support.browser_session import Person
from proxbox_dagster_tests.support.dagster_server import POSTGRES, RUN, DagsterServer, records_in_postgres
from proxbox_dagster_tests.support.polling import PATIENCE, until
from proxbox_dagster_tests.support.synced import VMS, Synced, X, laid_out

GROUPS = ("proxmox", "infrastructure", "guest_data", "networking", "operational", "summary")
MARKDOWN = "//*[normalize-space(text())='[Show Markdown]']"
BULK = 5
"""Rows in a list: a first one can arrive while the run is cancelled in the second."""

SOON = 2.0
"""Seconds from a person's request to the end of the run."""

pytestmark = pytest.mark.real


class Piped(Synced):
    """``piped`` is the command line's process that has synced one of the clusters: its outputs went to pipes."""

    piped: subprocess.CompletedProcess[str]


def in_browser(test: Callable[..., None]) -> Callable[..., None]:
    """A test that drives a real Chromium; skipped where there is none."""
    why_not = missing()
    marked: Callable[..., None] = pytest.mark.skipif(why_not is not None, reason=str(why_not))(test)
    return pytest.mark.browser(marked)


@pytest.fixture(scope="module")
def lab(netbox_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Piped]:
    """Two clusters; the command line has synced one, and a guest of it was renamed since."""
    folder = tmp_path_factory.mktemp("dagster-dev")
    home = prepare_home(folder, POSTGRES)
    clusters = {name: load_cluster(name) for name in ("ams1", "lab")}
    with (
        pytest.MonkeyPatch.context() as patch,
        records_in_postgres(netbox_server, patch),
        laid_out(netbox_server, folder, kind=Piped, **clusters) as found,
    ):
        found.settings["netbox"]["bulk_size"] = BULK
        found.settings["concurrency"] = {"netbox_max_concurrent": 1}  # a list leaves once the one before has arrived
        found.save()
        patch.setenv("DAGSTER_HOME", str(home))
        command = [sys.executable, "-m", "proxbox_dagster.cli", "sync", "--endpoint", "lab", "--json"]
        found.piped = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        clusters["lab"].rename("lxc", 200, "pihole-old")
        yield found


@pytest.fixture(scope="module")
def server(lab: Synced) -> Iterator[DagsterServer]:
    with DagsterUI(lab.folder) as dagster:
        dagster.wait()
        with dg.DagsterInstance.get() as instance:
            yield DagsterServer(dagster.url, instance)


@pytest.fixture(scope="module")
def ui(server: DagsterServer) -> Iterator[Browser]:
    with browser(server.url) as window:
        yield window


# -- by the command line --------------------------------------------------------------------------------------------


def test_in_a_pipe_the_json_object_is_all_that_comes_out(lab: Piped) -> None:
    assert lab.piped.returncode == 0, lab.piped.stderr
    [line] = lab.piped.stdout.splitlines()
    told = json.loads(line)
    assert (told["ok"], set(told["endpoints"])) == (True, {"lab"})
    assert lab.piped.stderr == ""


def test_the_ui_has_the_run_of_another_process(server: DagsterServer, lab: Piped) -> None:
    run_id = json.loads(lab.piped.stdout)["endpoints"]["lab"]["run_id"]
    found = server.ask(RUN, id=run_id)
    assert (found["status"], found["jobName"]) == ("SUCCESS", FULL_UPDATE)
    assert {made["assetKey"]["path"][-1] for made in found["assetMaterializations"]} > {"devices", "virtual_machines"}


# -- by clicks ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clicked_run(ui: Browser) -> str:
    """The page of a run that was started by clicks, and has ended: one stage, a partition chosen in the dialog."""
    ui.open("/locations/proxbox_dagster/jobs/sync_virtual_machines")
    ui.click_button("Materialize all")
    ui.sees("Partition selection")
    ui.click("//*[normalize-space(text())='Select a partition or create one']")
    ui.click("//*[normalize-space(text())='lab']")
    ui.click_button("Launch 1 run")
    ui.wait(lambda: "Partition selection" not in ui.text(), "the end of the dialog")
    ui.open("/runs")
    ui.sees("sync_virtual_machines")
    ui.click("(//a[contains(@href, '/runs/')])[1]")  # the newest stands first
    ui.wait(lambda: "/runs/" in ui.driver.current_url, "the page of the run")
    ui.wait(lambda: {"Success", "Failure", "Canceled"} & set(ui.text().splitlines()), "the end of the run")
    assert "Success" in ui.text().splitlines(), ui.text()
    return ui.driver.current_url


@in_browser
def test_the_asset_graph_shows_the_groups(ui: Browser) -> None:
    ui.open("/asset-groups")
    ui.sees("Global asset lineage", *GROUPS)


@in_browser
def test_a_run_of_the_command_line_is_on_its_jobs_page(ui: Browser) -> None:
    ui.open("/locations/proxbox_dagster/jobs/full_update/runs")
    ui.sees("partition: lab", "Success")


@in_browser
def test_schedules_and_sensors_are_listed_and_off(ui: Browser) -> None:
    ui.open("/automation")
    ui.sees("full_update_schedule", "quick_update_schedule", "observe_sources", "materialize_changes")
    # A box to select each of the five and a switch to turn it on, all of them check boxes to the browser.
    boxes = ui.wait(lambda: ui.driver.find_elements("css selector", "input[type=checkbox]")[9:] and True, "switches")
    assert boxes
    assert not ui.driver.find_elements("css selector", "input[type=checkbox]:checked")


@in_browser
def test_a_stage_materialized_by_clicks_shows_what_it_changed(ui: Browser, lab: Synced, clicked_run: str) -> None:
    ui.open("/assets/netbox/virtual_machines?view=events")
    ui.sees("1 updated, 3 unchanged", "in_netbox", "cf_proxmox_endpoint=lab", "duration_seconds")
    ui.sees("pihole-old", "update", "before", "after")  # a short table stands open, a long one behind a click
    # The table of changes stands in a cell of the table of metadata.
    [row] = ui.all("//tr[not(.//tr)][contains(., 'pihole-old')][contains(., 'update')]")
    assert row.text.split()[-4:] == ["update", "name", "pihole", "pihole-old"]
    links = [link.get_attribute("href") or "" for link in row.find_elements("tag name", "a")]
    assert links[0].startswith(f"{lab.proxy.url}/virtualization/virtual-machines/")
    assert links[1].startswith("https://")
    vm = lab.rows("virtualization/virtual-machines", name="pihole-old")
    assert links[0].endswith(f"/{vm[0]['id']}/")


@in_browser
def test_the_summary_of_that_run_shows_its_chart(ui: Browser, clicked_run: str) -> None:
    ui.open("/assets/proxbox/run_summary?view=events")
    ui.sees("updated", clicked_run.split("/runs/")[1][:8])
    ui.click(MARKDOWN)
    ui.sees("sync_virtual_machines of lab", "What to do next")
    assert ui.image_width() > 0


# -- by the daemon --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cancelled:
    """A run of ams1 that was cancelled while NetBox held the second list of its machines back."""

    run_id: str
    machines: int
    """That NetBox had by then."""


@pytest.fixture(scope="module")
def cancelled(server: DagsterServer, lab: Synced) -> Cancelled:
    reached, released = threading.Event(), threading.Event()
    hold = (reached.set, lambda: released.wait(PATIENCE))
    lab.proxy.add_fault(
        "POST", f"^/api/{VMS}/$", above=3, after=1, count=None, drop="before", before=lambda: [do() for do in hold]
    )
    run_id = server.launch(FULL_UPDATE, "ams1")
    try:
        until(lambda: reached.is_set() or server.status(run_id) == "FAILURE", "the second list of machines")
        server.terminate(run_id)
        server.ended(run_id)
    finally:
        released.set()
        lab.proxy.clear()
    return Cancelled(run_id, len(lab.rows(VMS, cf_proxmox_endpoint="ams1")))


def test_a_run_that_the_ui_cancels_ends_within_two_seconds_with_partial_counts(
    server: DagsterServer, cancelled: Cancelled
) -> None:
    kinds = dg.DagsterEventType
    assert server.status(cancelled.run_id) == "CANCELED"
    [asked] = server.entries(cancelled.run_id, kinds.PIPELINE_CANCELING)
    [ended] = server.entries(cancelled.run_id, kinds.PIPELINE_CANCELED)
    assert ended.timestamp - asked.timestamp < SOON
    assert cancelled.machines == BULK
    failures = {
        entry.step_key: entry.dagster_event.step_failure_data.user_failure_data
        for entry in server.entries(cancelled.run_id, kinds.STEP_FAILURE)
        if entry.dagster_event
    }
    failure = failures.pop("virtual_machines")
    started = server.steps(cancelled.run_id, kinds.STEP_START)
    after = started[started.index("virtual_machines") + 1 :]
    assert set(after) == set(failures), "none of them did anything"
    assert len(after) <= 1, "it hands Dagster the interruption, and no other starts"
    assert failure.description == "the run was cancelled; start it again and it goes on where it was"
    told = {name: failure.metadata[name].value for name in ("seen", "created", "skipped", "failed")}
    assert told == {"seen": 13, "created": BULK, "skipped": 13 - BULK, "failed": 0}
    finished = {
        entry.asset_materialization.asset_key
        for entry in server.entries(cancelled.run_id, kinds.ASSET_MATERIALIZATION)
        if entry.asset_materialization
    }
    assert finished >= {class_key("devices"), class_key("storage"), class_key("guest_platforms")}
    assert class_key("virtual_machines") not in finished


def test_re_executed_from_its_failure_it_does_no_step_twice(
    server: DagsterServer, lab: Synced, cancelled: Cancelled
) -> None:
    again = server.re_execute_from_failure(cancelled.run_id)
    assert server.ended(again) == "SUCCESS"
    before, now = (server.steps(run, dg.DagsterEventType.STEP_SUCCESS) for run in (cancelled.run_id, again))
    assert not set(before) & set(now)
    assert {*before, *now} == {"read_proxmox", *(stage.name for stage in STAGES), "run_summary"}
    machines = lab.rows(VMS, cf_proxmox_endpoint="ams1")
    assert len(machines) == len({row["custom_fields"]["proxmox_vm_id"] for row in machines}) == 13


@pytest.fixture(scope="module")
def backfilled(server: DagsterServer, cancelled: Cancelled) -> list[dg.DagsterRun]:
    """Every object class materialized for both endpoints: two runs, and NetBox is true."""
    keys = [class_key(item.name) for item in object_classes(plugin=True)]
    backfill = server.backfill([*keys, SUMMARY_KEY], ("ams1", "lab"))
    assert server.ended_backfill(backfill) == "COMPLETED_SUCCESS"
    return server.runs(**{"dagster/backfill": backfill})


def test_a_backfill_is_a_run_for_each_endpoint(server: DagsterServer, backfilled: list[dg.DagsterRun]) -> None:
    assert sorted(run.tags["dagster/partition"] for run in backfilled) == ["ams1", "lab"]
    for run in backfilled:
        assert server.status(run.run_id) == "SUCCESS"
        steps = server.steps(run.run_id, dg.DagsterEventType.STEP_SUCCESS)
        assert set(steps) == {*(stage.name for stage in STAGES), "run_summary"}


def test_the_daemon_materializes_what_the_sweep_saw_change_and_nothing_else(
    server: DagsterServer, lab: Synced, backfilled: list[dg.DagsterRun]
) -> None:
    known = {run.run_id for run in server.runs()}
    lab.clusters["lab"].set_backup_job("backup-new", schedule="03:00", storage="local", all=1, enabled=1)
    place = dg.AssetRecordsFilter(asset_key=source_key("backup_jobs"), asset_partitions=["lab"])
    newest = server.instance.fetch_observations(place, limit=1).records[0].storage_id
    with server.switched_on("observe_sources"):
        until(
            lambda: server.instance.fetch_observations(place, limit=1).records[0].storage_id > newest,
            "the look at the sources",
        )
        with server.switched_on("materialize_changes"):
            requested = until(lambda: [run for run in server.runs() if run.run_id not in known], "a requested run")
            assert server.ended(requested[0].run_id) == "SUCCESS"
    [run] = [run for run in server.runs() if run.run_id not in known]
    assert run.tags["dagster/partition"] == "lab"
    assert run.tags["dagster/from_automation_condition"] == "true"
    readers = {
        class_key(item.name) for stage in STAGES if "backup_jobs" in stage.sources for item in stage.object_classes
    }
    assert run.asset_selection == readers
    assert lab.rows(f"{X}backup-routines", job_id="backup-new")


# -- links ----------------------------------------------------------------------------------------------------------


def links_of(server: DagsterServer) -> Iterator[str]:
    """Every link on the pages of the object classes, of all runs until now."""
    for run in server.runs():
        for entry in server.entries(run.run_id, dg.DagsterEventType.ASSET_MATERIALIZATION):
            made = entry.asset_materialization
            if made is None or made.asset_key == SUMMARY_KEY:
                continue
            values = {name: str(item.value) for name, item in made.metadata.items()}
            yield values["in_netbox"]
            yield values["in_proxmox"]
            yield from re.findall(r"\]\(([^)\s]+)\)", values.get("changes", ""))


def kind_of(link: str) -> str:
    """What links to other rows of the same class, or of another endpoint, have in common."""
    return re.sub(r"/\d+/|=\w+$", "", link)


def test_links_of_a_materialization_open_in_netbox_and_name_what_proxmox_has(
    server: DagsterServer, lab: Synced, backfilled: list[dg.DagsterRun]
) -> None:
    links = set(links_of(server))
    in_netbox = {kind_of(link): link for link in sorted(links) if link.startswith(lab.proxy.url)}
    assert len(in_netbox) > len(object_classes(plugin=True)), "lists, and rows that were new"
    with Person(lab.netbox) as person:
        opened = [person.problem(link.removeprefix(lab.proxy.url)) for link in in_netbox.values()]
    assert [problem for problem in opened if problem] == []
    known = set()
    for name, simulator in lab.simulators.items():
        places = {"cluster", *(row["id"] for row in Wire(simulator).data("/cluster/resources"))}
        known |= {f"https://{simulator.host}:{simulator.port}/#v1:0:={place}" for place in places}
        assert any(f":{simulator.port}/#v1:0:=qemu/" in link for link in links), name
    assert links - known - {link for link in links if link.startswith(lab.proxy.url)} == set()
