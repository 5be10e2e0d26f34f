"""Runs by the clock: the whole pipeline, and a quick pass over guests and their addresses. Off until switched on."""

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg

from proxbox_dagster.jobs import FULL_UPDATE, QUICK_UPDATE
from proxbox_dagster.settings import ScheduleConfig


def _schedule(job: str, cron: str, endpoints: list[str], description: str) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=f"{job}_schedule",
        job_name=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=description,
    )
    def each_endpoint(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        moment = context.scheduled_execution_time.isoformat()
        for endpoint in endpoints:
            yield dg.RunRequest(run_key=f"{endpoint}@{moment}", partition_key=endpoint)

    return each_endpoint


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
