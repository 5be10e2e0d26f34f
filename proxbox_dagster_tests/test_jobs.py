"""What a job or a schedule refuses to start."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pytest

from proxbox_dagster.definitions import build_definitions
from proxbox_dagster.jobs import FULL_UPDATE, OBSERVE, QUICK_UPDATE, SYNC_GUESTS
from proxbox_dagster.schedules import UNFINISHED
from proxbox_dagster_tests.support.fake_run import FakeWorld
from proxbox_dagster_tests.support.graph import two_endpoints

STATUS = dg.DagsterRunStatus


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> FakeWorld:
    world = FakeWorld(two_endpoints())
    world.install(monkeypatch)
    return world


def test_sync_guests_without_a_vmid_says_where_to_give_it_and_writes_nothing(world: FakeWorld) -> None:
    job = build_definitions(world.settings).resolve_job_def(SYNC_GUESTS)
    refused = job.execute_in_process(partition_key="ams1", raise_on_error=False)
    assert not refused.success
    first = next(event for event in refused.all_events if event.is_step_failure)
    told = first.step_failure_data.user_failure_data.description
    assert told.startswith("sync_guests syncs single guests: give their VMIDs in the launchpad")
    assert "resources: {proxbox: {config: {vmids: [100]}}}" in told
    assert world.written == []
    config = {"resources": {"proxbox": {"config": {"vmids": [100]}}}}
    assert job.execute_in_process(partition_key="ams1", run_config=config).success
    assert world.written


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("schedules"))) as instance:
        yield instance


class Tick:
    """The schedule of a job over ams1 and lab; called, it gives the endpoints of the runs that it requests."""

    def __init__(self, job: str, instance: dg.DagsterInstance) -> None:
        self._repository = build_definitions(two_endpoints()).get_repository_def()
        self._schedule = self._repository.get_schedule_def(f"{job}_schedule")
        self._instance = instance
        self.skipped: str | None = None

    def __call__(self) -> list[str | None]:
        moment = datetime(2026, 3, 1, 3, tzinfo=UTC)
        with dg.build_schedule_context(
            instance=self._instance, scheduled_execution_time=moment, repository_def=self._repository
        ) as context:
            data = self._schedule.evaluate_tick(context)
        self.skipped = data.skip_message
        return [request.partition_key for request in data.run_requests or ()]


@pytest.mark.parametrize("job", [FULL_UPDATE, QUICK_UPDATE])
def test_a_tick_leaves_out_the_endpoint_whose_run_has_not_ended(job: str, instance: dg.DagsterInstance) -> None:
    def there_is(of_job: str, endpoint: str, status: dg.DagsterRunStatus) -> str:
        run_id = str(uuid.uuid4())
        instance.add_run(dg.DagsterRun(of_job, run_id, status=status, tags={"dagster/partition": endpoint}))
        return run_id

    tick = Tick(job, instance)
    for of_job, status in ((job, STATUS.SUCCESS), (job, STATUS.FAILURE), (OBSERVE, STATUS.STARTED)):
        there_is(of_job, "ams1", status)
    assert tick() == ["ams1", "lab"]
    assert STATUS.QUEUED in UNFINISHED, "a run that only a code location can make"
    for status in UNFINISHED:
        if status is STATUS.QUEUED:
            continue
        busy = there_is(job, "ams1", status)
        assert tick() == ["lab"], status
        busy_too = there_is(job, "lab", status)
        assert tick() == [], status
        assert tick.skipped == "the runs before have not ended yet: ams1, lab"
        for run_id in (busy, busy_too):
            instance.delete_run(run_id)
