"""Through GraphQL, as Dagster's UI does it: launchpads, the queue with the shipped limits, backfills."""

from __future__ import annotations

import time
from collections.abc import Iterator

import dagster as dg
import pytest
import yaml

from proxbox_dagster.definitions import build_definitions
from proxbox_dagster.jobs import FULL_UPDATE, OBSERVE, QUICK_UPDATE, SYNC_GUESTS
from proxbox_dagster.settings import ConcurrencyConfig, load_settings
from proxbox_dagster.stages import STAGES
from proxbox_dagster_tests.support.workspace import LAUNCHPAD, VALIDATE, Workspace, workspace

pytestmark = pytest.mark.real
JOBS = [FULL_UPDATE, QUICK_UPDATE, OBSERVE, SYNC_GUESTS, *(f"sync_{stage.name}" for stage in STAGES)]
ENDPOINTS = ("ams1", "fra1", "lon1", "nyc1")


@pytest.fixture(scope="module")
def dagster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A code location with four endpoints and the shipped instance settings; runs are launched into nowhere."""
    folder = tmp_path_factory.mktemp("workspace")
    endpoints = [
        {"name": name, "hosts": ["127.0.0.1"], "user": "a@pve", "password": {"env": "NOT_SET"}} for name in ENDPOINTS
    ]
    netbox = {"url": "http://127.0.0.1:1", "token": {"env": "NOT_SET"}}
    (folder / "proxbox.yaml").write_text(yaml.safe_dump({"netbox": netbox, "endpoints": endpoints}))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("PROXBOX_CONFIG", str(folder / "proxbox.yaml"))
        with workspace(folder, launching=False) as dagster:
            yield dagster


@pytest.fixture
def queue(dagster: Workspace) -> Workspace:
    """Nothing queued, nothing running."""
    for run in dagster.instance.get_runs():
        dagster.instance.delete_run(run.run_id)
    return dagster


# -- the launchpad ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("job", JOBS)
def test_a_launchpad_opens_with_a_valid_configuration_of_what_one_may_want(job: str, dagster: Workspace) -> None:
    schema = dagster.ask(LAUNCHPAD, job=job)
    assert schema["__typename"] == "RunConfigSchema", schema
    config = yaml.safe_load(schema["rootDefaultYaml"])
    assert config == {
        "resources": {
            "proxbox": {"config": {"vmids": [], "nodes": [], "storages": [], "dry_run": False, "override_brake": False}}
        }
    }
    assert dagster.ask(VALIDATE, job=job, config=config)["__typename"] == "PipelineConfigValidationValid"


def test_every_field_of_a_launchpad_is_described(dagster: Workspace) -> None:
    types = dagster.ask(LAUNCHPAD, job=FULL_UPDATE)["allConfigTypes"]
    [fields] = [kind["fields"] for kind in types if any(f["name"] == "dry_run" for f in kind.get("fields") or ())]
    described = {field["name"]: field["description"] for field in fields}
    assert set(described) >= {
        "vmids",
        "nodes",
        "storages",
        "dry_run",
        "override_brake",
        *ConcurrencyConfig.model_fields,
    }
    assert all(described.values()), described


def test_a_launchpad_refuses_what_is_no_vmid(dagster: Workspace) -> None:
    config = {"resources": {"proxbox": {"config": {"vmids": ["web01"]}}}}
    answer = dagster.ask(VALIDATE, job=SYNC_GUESTS, config=config)
    assert answer["__typename"] == "RunConfigValidationInvalid"
    assert "vmids" in answer["errors"][0]["message"]


# -- the queue ----------------------------------------------------------------------------------------------------


def test_an_endpoint_has_one_run_at_a_time_and_netbox_two_from_the_first_run_on(queue: Workspace) -> None:
    first, again = queue.launch(FULL_UPDATE, "ams1"), queue.launch(QUICK_UPDATE, "ams1")
    others = [queue.launch("sync_storage", name) for name in ENDPOINTS[1:]]
    queue.dequeue()
    assert queue.status(first, again, *others) == ["STARTING", "QUEUED", "STARTING", "QUEUED", "QUEUED"]
    queue.dequeue()
    assert queue.status(first, again, *others) == ["STARTING", "QUEUED", "STARTING", "QUEUED", "QUEUED"]
    for run in queue.instance.get_runs():
        if run.status.value == "STARTING":
            queue.instance.report_run_failed(run)
    queue.dequeue()
    assert queue.status(again, *others[1:]) == ["STARTING", "STARTING", "QUEUED"]


def test_a_run_whose_process_is_gone_does_not_hold_its_endpoint_for_ever(
    queue: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed command line: Dagster has its run as started, and nothing that watches its process."""
    dead = queue.instance.create_run_for_job(
        build_definitions(load_settings()).resolve_job_def(FULL_UPDATE), tags={"dagster/partition": "ams1"}
    )
    started = dg.DagsterEvent(dg.DagsterEventType.PIPELINE_START.value, FULL_UPDATE)
    queue.instance.report_dagster_event(started, dead.run_id)
    assert queue.instance.run_monitoring_max_runtime_seconds == 12 * 3600
    waiting = queue.launch(FULL_UPDATE, "ams1")
    queue.dequeue()
    assert queue.status(dead.run_id, waiting) == ["STARTED", "QUEUED"]
    queue.monitor()
    assert queue.status(dead.run_id) == ["STARTED"], "twelve hours are not over"
    later = time.time() + 13 * 3600
    monkeypatch.setattr("dagster._daemon.monitoring.run_monitoring.get_current_timestamp", lambda: later)
    queue.monitor()
    assert queue.status(dead.run_id) == ["FAILURE"]
    queue.dequeue()
    assert queue.status(waiting) == ["STARTING"]
