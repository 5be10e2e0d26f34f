"""The last step of a job: the accounting of the whole run, read back from what Dagster recorded of it."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from proxbox_dagster.checks import ACCOUNTED
from proxbox_dagster.failures import NOT_STARTED, words_of
from proxbox_dagster.keys import PARTITION_TAG, SUMMARY_KEY, SUMMARY_STEP, class_key
from proxbox_dagster.metadata import MAX_TEXT, counts_of
from proxbox_dagster.summary_page import ClassLine, Doubt, RunStory, page

_TOLD = {
    dg.DagsterEventType.ASSET_MATERIALIZATION,
    dg.DagsterEventType.ASSET_OBSERVATION,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
}


def story_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> RunStory:
    """What the run has recorded until now, in the order in which it happened.

    Of a run that goes on where another one failed, that one's finished stages are a part: what failed in them has not
    arrived, and they are not repeated.
    """
    story = RunStory(run.job_name, run.tags.get(PARTITION_TAG, ""), run.run_id)
    for item, later in _with_those_before(instance, run):
        for entry in _entries(instance, item.run_id):
            if entry.step_key not in later:
                _note(story, entry)
    failed = {line.object_class for line in story.lines if line.failures}  # told with their reasons
    story.doubts = [item for item in story.doubts if item.check != ACCOUNTED or item.object_class not in failed]
    return story


def _with_those_before(
    instance: dg.DagsterInstance, run: dg.DagsterRun
) -> Iterator[tuple[dg.DagsterRun, frozenset[str]]]:
    """The run and those that it was re-executed from, the oldest first; each with the steps that were done again."""
    found: list[tuple[dg.DagsterRun, frozenset[str]]] = []
    later: frozenset[str] = frozenset()
    item: dg.DagsterRun | None = run
    while item is not None:
        found.append((item, later))
        later |= steps_of(instance, item)
        item = instance.get_run_by_id(item.parent_run_id) if item.parent_run_id else None
    return reversed(found)


def _note(story: RunStory, entry: Any) -> None:
    event = entry.dagster_event
    observation = entry.asset_observation
    materialization = entry.asset_materialization
    if materialization and materialization.asset_key.path[0] == "netbox":
        line = _class_line(entry.step_key, materialization.asset_key.path[-1], materialization.metadata)
        story.lines.append(line)
        story.dry_run = story.dry_run or "dry_run" in materialization.metadata
    elif observation and "requests" in observation.metadata:
        story.proxmox_requests = (story.proxmox_requests or 0) + int(_value(observation.metadata, "requests", 0))
    elif event and event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        check = event.asset_check_evaluation_data
        if not check.passed:
            story.doubts.append(Doubt(check.asset_key.path[-1], check.check_name, str(check.severity.value)))
    elif event and event.is_step_failure and entry.step_key != SUMMARY_STEP:
        _note_failure(story, entry.step_key, event.step_failure_data)


def steps_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> frozenset[str]:
    """The names of all steps that a run is to do."""
    if run.execution_plan_snapshot_id is None:
        return frozenset()
    return frozenset(instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id).step_keys_to_execute)


def _entries(instance: dg.DagsterInstance, run_id: str) -> Iterator[Any]:
    cursor = None
    while True:
        found = instance.get_records_for_run(run_id, cursor=cursor, of_type=_TOLD, limit=1000)
        yield from (record.event_log_entry for record in found.records)
        if not found.has_more:
            return
        cursor = found.cursor


def _class_line(step: str | None, name: str, metadata: Mapping[str, Any]) -> ClassLine:
    return ClassLine(
        stage=step or "",
        object_class=name,
        counts=counts_of(metadata),
        seconds=float(_value(metadata, "duration_seconds", 0.0)),
        attention=str(_value(metadata, "attention", "")),
        failures=str(_value(metadata, "failures", "")),
        conflicts=str(_value(metadata, "conflicts", "")),
        braked=bool(_value(metadata, "braked", False)),
        still_missing=int(_value(metadata, "still_missing", 0)),
        netbox_requests=int(_value(metadata, "netbox_requests", 0)),
    )


def _note_failure(story: RunStory, step: str, data: Any) -> None:
    failure = data.user_failure_data
    text = words_of(data)
    if text.startswith(NOT_STARTED):
        story.not_started.append(step)
        return
    story.broken[step] = text
    if failure and "object_class" in failure.metadata:
        # What a class had written when its stage failed is in the failure: it has no materialization.
        story.lines.append(_class_line(step, str(_value(failure.metadata, "object_class", "")), failure.metadata))


def _value(metadata: Mapping[str, Any], name: str, default: Any) -> Any:
    found = metadata.get(name)
    return default if found is None else found.value


def summary_metadata(story: RunStory) -> dict[str, Any]:
    """The page and the numbers; the numbers are drawn as trends."""
    text = story.headline
    data: dict[str, Any] = {
        "result": dg.MetadataValue.text(text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"),
        "summary": dg.MetadataValue.md(page(story)),
        "run": dg.MetadataValue.dagster_run(story.run_id),
        **story.total,
        "conflicting_classes": sum(1 for line in story.lines if line.conflicts),
        "still_missing": sum(line.still_missing for line in story.lines),
        "netbox_requests": sum(line.netbox_requests for line in story.lines),
        "duration_seconds": round(sum(line.seconds for line in story.lines), 3),
    }
    if story.proxmox_requests is not None:
        data["proxmox_requests"] = story.proxmox_requests
    return data


@dg.failure_hook(name="tell_failed_run")
def tell_failed_run(context: dg.HookContext) -> None:
    """Notes the summary of a run that a failed step keeps from its last step, on the summary's page."""
    run = context.instance.get_run_by_id(context.run_id)
    if run is None or context.step_key == SUMMARY_STEP:
        return
    story = story_of(context.instance, run)
    if context.step_key in story.not_started:
        return
    observation = dg.AssetObservation(
        SUMMARY_KEY, partition=story.endpoint or None, metadata=summary_metadata(story), description=story.headline
    )
    context.instance.report_runless_asset_event(observation)


def run_summary_asset(
    classes: list[str], partitions: dg.PartitionsDefinition[str], owners: list[str]
) -> dg.AssetsDefinition:
    """``proxbox/run_summary``: red where an object failed or is unaccounted for."""

    # A multi-asset, so that the step has the design's name and not the key's with its prefix.
    @dg.multi_asset(
        name=SUMMARY_STEP,
        specs=[
            dg.AssetSpec(
                SUMMARY_KEY,
                deps=[class_key(name) for name in classes],
                group_name="summary",
                owners=owners,
                kinds={"dagster"},
                description="**How the last run went**, on one page: open *summary* below. What changed by stage and "
                "object class, what failed and why, what to do next. Fails the run when an object failed.",
            )
        ],
        partitions_def=partitions,
        op_tags={"dagster/priority": "0"},
    )
    def run_summary(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        story = story_of(context.instance, context.run)
        if not story.lines:
            raise dg.Failure(
                "this run has no stage, so nothing was synced: run full_update, or materialize the object classes "
                "that it is to be about together with it",
                allow_retries=False,
            )
        metadata = summary_metadata(story)
        if not story.ok:
            context.log_event(dg.AssetObservation(SUMMARY_KEY, partition=context.partition_key, metadata=metadata))
            raise dg.Failure(
                f"{story.headline}; the reasons are on the assets' pages and in the summary",
                metadata=metadata,
                allow_retries=False,
            )
        return dg.MaterializeResult(metadata=metadata)

    return run_summary
