"""A run that is cancelled, or whose process is killed: how soon it ends, what it tells, and that it is resumed."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableRepository
from rich.console import Console

from proxbox_dagster import sync
from proxbox_dagster.jobs import FULL_UPDATE
from proxbox_dagster.resources import ProxboxResource
from proxbox_dagster.terminal import Terminal
from proxbox_dagster_tests.support.command import Command
from proxbox_dagster_tests.support.faulty_proxy import WRITES
from proxbox_dagster_tests.support.graph import two_endpoints
from proxbox_dagster_tests.support.history import History, assert_same, history_lab, prepare
from proxbox_dagster_tests.support.polling import until
from proxbox_dagster_tests.support.synced import VMS, errors
from proxbox_dagster_tests.support.workspace import workspace

SOON = 5.0
"""Seconds from the signal to the end of the process: two, as promised, and what a busy machine adds. What is waited for
here takes a minute."""

Arrange = Callable[[History, threading.Event], None]

lab = history_lab


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Dagster instance that outlives the commands."""
    folder = tmp_path_factory.mktemp("dagster-home")
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    return folder


def run_of(home: Path, run_id: str) -> tuple[dg.DagsterRun, list[dict[str, Any]]]:
    """A run of the instance, and the metadata of its failures as plain values."""
    with dg.DagsterInstance.from_config(str(home)) as instance:
        run = instance.get_run_by_id(run_id)
        assert run is not None
        records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
        found = []
        for record in records:
            event = record.event_log_entry.dagster_event
            failure = event.step_failure_data.user_failure_data if event else None
            if failure:
                found.append({name: entry.value for name, entry in failure.metadata.items()})
        return run, found


def until_started(home: Path, known: set[str]) -> None:
    """Wait until Dagster has started a run that is not among these: both servers are read before."""
    wanted = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
    with dg.DagsterInstance.from_config(str(home)) as instance:
        until(lambda: {run.run_id for run in instance.get_runs(wanted)} - known, "the start of a run")


def runs_of(home: Path) -> set[str]:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        return {run.run_id for run in instance.get_runs()}


def _in_a_write(lab: History, reached: threading.Event) -> None:
    """Two lists are under way on threads of their own: the longest wait, for they may still be answered."""
    never = threading.Event()
    prepare(lab, bulk_size=2)
    lab.proxy.add_fault("POST", f"^/api/{VMS}/$", above=3, count=None, before=lambda: (reached.set(), never.wait(60)))


def _in_a_retry_pause(lab: History, reached: threading.Event) -> None:
    lab.proxy.add_fault(
        "GET", "^/api/virtualization/", count=None, status=503, headers={"Retry-After": "60"}, act=reached.set
    )


def _in_a_long_read_of_netbox(lab: History, reached: threading.Event) -> None:
    never = threading.Event()
    lab.proxy.add_fault("GET", f"^/api/{VMS}/", before=lambda: (reached.set(), never.wait(60)))


@pytest.mark.parametrize(
    ("arrange", "number", "stage"),
    [
        (_in_a_write, signal.SIGINT, "virtual_machines"),
        (_in_a_retry_pause, signal.SIGTERM, "clusters"),
        (_in_a_long_read_of_netbox, signal.SIGINT, "virtual_machines"),
    ],
    ids=["write", "retry-pause", "netbox-read"],
)
def test_a_cancelled_command_ends_at_once_with_its_counts_and_is_resumed(
    arrange: Arrange, number: signal.Signals, stage: str, lab: History, home: Path
) -> None:
    lab.begin()
    reached = threading.Event()
    arrange(lab, reached)
    known = runs_of(home)
    with Command(lab.folder, "sync", "--json", DAGSTER_HOME=str(home)) as command:
        assert reached.wait(240), command.errors()
        until_started(home, known)
        started = time.monotonic()
        command.send(number)
        assert command.wait(60) == 130, command.errors()
        took = time.monotonic() - started
    assert took < SOON, command.errors()
    result = command.result()
    assert (result["ok"], result["cancelled"]) == (False, True)
    found = result["endpoints"]["small"]
    assert any("cancelled" in line for line in errors(result)), errors(result)
    assert not [line for line in errors(result) if "not started" in line]
    run, failures = run_of(home, found["run_id"])
    assert run.status is dg.DagsterRunStatus.CANCELED
    if arrange is _in_a_write:
        lines = {line["object_class"]: line for line in found["stages"]}
        assert lines["devices"]["created"] == 3
        written = lines["virtual_machines"]
        assert written["created"] == 0
        assert written["seen"] == written["skipped"] + written["failed"] == 4
        partial = next(metadata for metadata in failures if "seen" in metadata)
        assert {name: partial[name] for name in ("seen", "created", "skipped")} == {
            name: written[name] for name in ("seen", "created", "skipped")
        }
    lab.proxy.clear()
    prepare(lab)
    lab.run()
    assert_same(lab, lab.after_first)


def test_a_long_read_of_proxmox_is_cancelled_at_once(lab: History, home: Path) -> None:
    lab.rewind()
    lab.log.forget()
    simulator = lab.simulators["small"]
    simulator.reset_counters()
    fault = simulator.faults.add("config$", delay=25)
    known = runs_of(home)
    with Command(lab.folder, "sync", "--json", DAGSTER_HOME=str(home)) as command:
        until(lambda: fault.struck, "the slow answer")
        until_started(home, known)
        started = time.monotonic()
        command.send(signal.SIGINT)
        assert command.wait(60) == 130, command.errors()
        assert time.monotonic() - started < SOON
    assert command.result()["cancelled"] is True
    assert lab.written() == []


def test_a_command_that_is_interrupted_between_two_steps_leaves_a_canceled_run(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There Dagster itself notices the interruption, and takes it for a failure: nobody has asked it for an end."""

    def interrupted(*_: Any) -> None:
        raise dg.DagsterExecutionInterruptedError

    settings = two_endpoints()
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    for name in ("AMS1", "LAB", "NETBOX"):
        monkeypatch.setenv(f"TEST_{name}_TOKEN", "secret")
    monkeypatch.setattr(sync, "load_settings", lambda: settings)
    monkeypatch.setattr(ProxboxResource, "run_over", interrupted)
    result = sync.sync_endpoints(sync.Order(stages=("devices",)), Terminal(Console(), quiet=True))
    assert (result["cancelled"], list(result["endpoints"])) == (True, ["ams1"]), "the second one is not begun"
    assert errors(result) == ["the run was cancelled"]
    run, _ = run_of(home, result["endpoints"]["ams1"]["run_id"])
    assert run.status is dg.DagsterRunStatus.CANCELED


def test_a_run_that_is_terminated_in_the_ui_ends_at_once_with_its_counts(
    lab: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the button *Terminate* does, to a run that the launchpad started."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    lab.begin()
    reached = threading.Event()
    _in_a_write(lab, reached)
    with workspace(tmp_path) as dagster:
        run_id = dagster.launch(FULL_UPDATE, "small")
        dagster.dequeue()
        assert reached.wait(240)
        started = time.monotonic()
        dagster.terminate(run_id)
        until(lambda: dagster.status(run_id) == ["CANCELED"], "the end of the run")
        took = time.monotonic() - started
    assert took < SOON
    _, failures = run_of(tmp_path, run_id)
    [partial] = [metadata for metadata in failures if metadata.get("seen")]
    assert (partial["seen"], partial["created"]) == (4, 0)
    lab.proxy.clear()


def test_scenario_06_a_killed_run_is_re_executed_from_its_failure(lab: History, home: Path) -> None:
    """What "Re-execute from failure" does: finished stages are left out, the killed one and the rest are run."""
    lab.begin()
    running: list[Command] = []
    lab.proxy.add_fault(WRITES, "backups/$", drop="after", act=lambda: running[0].kill())
    with Command(lab.folder, "sync", "--json", DAGSTER_HOME=str(home)) as command:
        running.append(command)
        assert command.wait(240) == -9
    lab.proxy.clear()
    module = lab.folder / "location.py"
    module.write_text(
        "from proxbox_dagster.assembly import build_definitions\n"
        "from proxbox_dagster.settings import load_settings\n\n"
        "defs = build_definitions(load_settings())\n"
    )
    job = ReconstructableRepository.for_file(str(module), "defs").get_reconstructable_job(FULL_UPDATE)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        [dead] = [run for run in instance.get_runs(limit=1) if run.status is dg.DagsterRunStatus.STARTED]
        # Dagster's run monitoring does this once it misses the process.
        instance.report_run_failed(dead, "the run's process is gone")
        again = dg.execute_job(
            job,
            instance,
            run_config=dead.run_config,
            tags={"dagster/partition": dead.tags["dagster/partition"]},
            reexecution_options=dg.ReexecutionOptions.from_failure(dead.run_id, instance),
        )
        with again:
            assert again.success, [event.message for event in again.all_events if event.is_failure]
            steps = {event.step_key for event in again.all_events if event.is_step_start}
    assert "devices" not in steps
    assert "virtual_machines" not in steps
    assert steps >= {"backups", "snapshots", "vm_ip_addresses", "backup_routines", "run_summary"}
    prepare(lab)
    assert_same(lab, lab.after_first)
