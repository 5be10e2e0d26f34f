"""Through GraphQL, as Dagster's UI does it: launchpads, the queue with the shipped limits, backfills."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from proxbox_dagster.jobs import FULL_UPDATE, OBSERVE, QUICK_UPDATE, SYNC_GUESTS
from proxbox_dagster.settings import ConcurrencyConfig
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
