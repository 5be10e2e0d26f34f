"""A failed stage ends the run, and the run is resumed where it stopped: through Dagster's own re-execution."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from proxbox_dagster.assembly import build_definitions
from proxbox_dagster.jobs import FULL_UPDATE
from proxbox_dagster.keys import SUMMARY_KEY
from proxbox_dagster.stages import STAGES
from proxbox_dagster_tests.support.fake_run import FakeWorld, let_a_device_fail
from proxbox_dagster_tests.support.graph import two_endpoints

pytestmark = pytest.mark.real
NAMES = [stage.name for stage in STAGES]
SETTINGS = {"mode": "abort"}


def full_update() -> dg.JobDefinition:
    """Found again by name, as Dagster wants it for a run that is executed anew."""
    settings = two_endpoints(on_stage_failure=SETTINGS["mode"])
    return build_definitions(settings).resolve_job_def(FULL_UPDATE)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> FakeWorld:
    monkeypatch.setitem(SETTINGS, "mode", "abort")
    world = FakeWorld(two_endpoints())
    world.install(monkeypatch)
    return world


def refuse(stage: str) -> None:
    if stage == "snapshots":
        raise dg.Failure("NetBox is out of reach", allow_retries=False)


def run(instance: dg.DagsterInstance, again: dg.ReexecutionOptions | None = None) -> dg.JobExecutionResult:
    return dg.execute_job(
        dg.reconstructable(full_update),
        instance,
        tags={"dagster/partition": "ams1"},
        reexecution_options=again,
    )


def steps(result: dg.JobExecutionResult, *kinds: dg.DagsterEventType) -> list[str]:
    return [event.step_key or "" for event in result.all_events if event.event_type in kinds]


def done(result: dg.JobExecutionResult) -> list[str]:
    return steps(result, dg.DagsterEventType.STEP_SUCCESS)


def test_a_failed_stage_aborts_and_the_run_resumes_with_no_step_done_twice(
    instance: dg.DagsterInstance, world: FakeWorld
) -> None:
    world.on_write = lambda stage, object_class: refuse(stage)
    with run(instance) as first:
        assert not first.success
        assert done(first) == ["read_proxmox", *NAMES[:6]]
        failed = {event.step_key: event for event in first.all_events if event.is_step_failure}
        assert "snapshots" in failed
        for name in set(failed) - {"snapshots"}:
            reason = failed[name].step_failure_data.user_failure_data.description
            assert reason.startswith("not started: stage snapshots failed"), name
    assert {stage for stage, _ in world.written} == set(NAMES[:6]), "nothing was written after the failure"
    world.written.clear()
    world.on_write = lambda stage, object_class: None
    again = dg.ReexecutionOptions.from_failure(first.run_id, instance)
    with run(instance, again) as second:
        assert second.success
        assert done(second) == [*NAMES[6:], "run_summary"]
    assert {stage for stage, _ in world.written} == set(NAMES[6:])
    assert instance.get_run_by_id(second.run_id).parent_run_id == first.run_id


def test_set_to_continue_what_does_not_depend_on_it_goes_on_and_the_run_is_red(
    instance: dg.DagsterInstance, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SETTINGS, "mode", "continue")
    world.settings = two_endpoints(on_stage_failure="continue")
    world.on_write = lambda stage, object_class: refuse(stage)
    with run(instance) as first:
        assert not first.success
        assert done(first) == ["read_proxmox", *(name for name in NAMES if name != "snapshots")]
    world.on_write = lambda stage, object_class: None
    with run(instance, dg.ReexecutionOptions.from_failure(first.run_id, instance)) as second:
        assert second.success
        assert done(second) == ["snapshots", "run_summary"]


@pytest.mark.parametrize("mode", ["abort", "continue"])
def test_a_source_that_cannot_be_read_ends_the_run_or_only_the_stages_that_need_it(
    mode: str, instance: dg.DagsterInstance, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SETTINGS, "mode", mode)
    world.settings = two_endpoints(on_stage_failure=mode)
    world.unreadable = {"replication_jobs"}
    with run(instance) as first:
        assert not first.success
        stages = [name for name in NAMES if name != "replications"] if mode == "continue" else []
        assert done(first) == (["read_proxmox", *stages] if stages else [])
    world.unreadable = set()
    with run(instance, dg.ReexecutionOptions.from_failure(first.run_id, instance)) as second:
        assert second.success
        again = ["replications"] if mode == "continue" else ["read_proxmox", *NAMES]
        assert done(second) == [*again, "run_summary"]


def test_re_executed_from_failure_a_run_with_failed_objects_stays_red(
    instance: dg.DagsterInstance, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the summary is done again, and it would find that nothing at all had failed."""
    let_a_device_fail(monkeypatch)
    with run(instance) as result:
        assert done(result) == ["read_proxmox", *NAMES]
    for _ in range(2):
        with run(instance, dg.ReexecutionOptions.from_failure(result.run_id, instance)) as result:
            assert not result.success
            assert done(result) == []
            [event] = [event for event in result.all_events if event.is_step_failure]
            failure = event.step_failure_data.user_failure_data
            assert failure.description.startswith("1 object failed: devices (1)")
            assert "*Re-execute from failure* repeats no stage" in failure.metadata["summary"].value


def test_a_run_without_a_stage_is_not_green(world: FakeWorld) -> None:
    job = build_definitions(world.settings).resolve_job_def(FULL_UPDATE)
    result = job.execute_in_process(partition_key="ams1", asset_selection=[SUMMARY_KEY], raise_on_error=False)
    [event] = [event for event in result.all_events if event.is_step_failure]
    assert event.step_failure_data.user_failure_data.description.startswith("this run has no stage, so nothing was")


@pytest.mark.parametrize("selection", [None, "sync_storage"], ids=["with its observation", "a stage alone"])
def test_a_run_over_several_endpoints_says_to_start_one_for_each(selection: str | None, world: FakeWorld) -> None:
    job = build_definitions(world.settings).resolve_job_def(selection or FULL_UPDATE)
    tags = {"dagster/asset_partition_range_start": "ams1", "dagster/asset_partition_range_end": "lab"}
    result = job.execute_in_process(tags=tags, raise_on_error=False)
    assert not result.success
    first = next(event for event in result.all_events if event.is_step_failure)
    data = first.step_failure_data
    told = str(data.user_failure_data or "") + str(data.error)
    assert "this run covers the endpoints ams1, lab: start a run for each" in told
    assert world.written == []
