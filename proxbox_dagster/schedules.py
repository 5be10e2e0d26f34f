"""Runs by the clock: the whole pipeline, and a quick pass over guests and their addresses. Off until switched on."""

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg

from proxbox_dagster.jobs import FULL_UPDATE, QUICK_UPDATE
from proxbox_dagster.keys import PARTITION_TAG
from proxbox_dagster.settings import ScheduleConfig

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def _schedule(job: str, cron: str, endpoints: list[str], description: str) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=f"{job}_schedule",
        job_name=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=description,
    )
    def each_endpoint(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        moment = context.scheduled_execution_time.isoformat()
        busy = [name for name in endpoints if _unfinished(context.instance, job, name)]
        for endpoint in endpoints:
            if endpoint not in busy:
                yield dg.RunRequest(run_key=f"{endpoint}@{moment}", partition_key=endpoint)
        if busy and len(busy) == len(endpoints):
            yield dg.SkipReason(f"the runs before have not ended yet: {', '.join(busy)}")

    return each_endpoint


def _unfinished(instance: dg.DagsterInstance, job: str, endpoint: str) -> bool:
    """Whether a run of this job still waits or runs: another one behind it would only find the same."""
    wanted = dg.RunsFilter(job_name=job, statuses=UNFINISHED, tags={PARTITION_TAG: endpoint})
    return bool(instance.get_run_ids(wanted, limit=1))


def freshness_of(config: ScheduleConfig) -> dg.FreshnessPolicy:
    """Overdue is what was not materialized for ``fresh_hours``: the full update's interval and some slack."""
    window = timedelta(hours=config.fresh_hours)
    return dg.FreshnessPolicy.time_window(fail_window=window, warn_window=window * 0.96)


def schedules(config: ScheduleConfig, endpoints: list[str]) -> list[dg.ScheduleDefinition]:
    """A run per endpoint at each tick, so that one endpoint's failure is its own."""
    return [
        _schedule(FULL_UPDATE, config.full_update, endpoints, "The whole pipeline for every endpoint."),
        _schedule(QUICK_UPDATE, config.quick, endpoints, "Guests, their interfaces and addresses, for every endpoint."),
    ]
