"""The observation sweep, the automation switch, and the notice of failed runs. Off until switched on."""

from typing import Any

import dagster as dg
import requests

from proxbox_dagster.failures import EXPECTED
from proxbox_dagster.keys import source_key
from proxbox_dagster.proxmox.session import ProxmoxSession
from proxbox_dagster.proxmox.sources import SOURCES, data_version
from proxbox_dagster.settings import Settings, load_settings

SWEPT = tuple(source.name for source in SOURCES.values() if source.per == "cluster")
"""Sources that one request reads for the whole cluster: cheap enough to look at every few minutes."""


def observe_endpoint(settings: Settings, endpoint: str) -> list[dg.AssetObservation]:
    """One look at an endpoint's cluster-wide sources. Raises what the clients raise."""
    file = settings.require()
    events = []
    with ProxmoxSession(settings.endpoint(endpoint), file.concurrency) as session:
        session.prefetch(SWEPT)
        for name in SWEPT:
            fetched = session.fetched(name)
            events.append(
                dg.AssetObservation(
                    source_key(name),
                    partition=endpoint,
                    metadata={"rows": len(fetched.frame), "complete": fetched.complete},
                    tags={"dagster/data_version": data_version(fetched)},
                )
            )
    return events


def observation_sensor(seconds: int) -> dg.SensorDefinition:
    """Notes the data versions of the cheap sources, without a run."""

    @dg.sensor(
        name="observe_sources",
        minimum_interval_seconds=seconds,
        default_status=dg.DefaultSensorStatus.STOPPED,
        asset_selection=dg.AssetSelection.assets(*(source_key(name) for name in SWEPT)),
        description="Looks at every endpoint's cluster-wide sources and notes what changed. Starts no run.",
    )
    def observe_sources(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        settings = load_settings()
        settings.require()
        events: list[dg.AssetObservation] = []
        failures: list[str] = []
        for endpoint in settings.endpoint_names:
            try:
                events += observe_endpoint(settings, endpoint)
            except EXPECTED as error:
                failures.append(f"{endpoint}: {error}")
                context.log.warning(failures[-1])
        if failures and not events:
            # Every endpoint failing would otherwise look like a quiet night.
            raise dg.Failure("no endpoint could be observed: " + "; ".join(failures))
        return dg.SensorResult(asset_events=events)

    return observe_sources


def automation_sensor(owner_tags: dict[str, str] | None = None) -> dg.AutomationConditionSensorDefinition:
    """The switch of the automation conditions."""
    return dg.AutomationConditionSensorDefinition(
        "materialize_changes",
        target=dg.AssetSelection.key_prefixes(["netbox"]),
        default_status=dg.DefaultSensorStatus.STOPPED,
        run_tags=owner_tags or {},
        description="Materializes what changed at its source. Needs observe_sources switched on too.",
    )


def failure_notice(run: Any, error: str) -> dict[str, str]:
    """What is told of a failed run: names and the first line of the error, never configuration or secrets."""
    return {
        "job": str(run.job_name),
        "endpoint": str(run.tags.get("dagster/partition", "")),
        "run_id": str(run.run_id),
        "error": " ".join(error.split())[:500],
    }


def failure_sensor(webhook: str | None) -> dg.SensorDefinition:
    """Logs each failed run, and posts it to the settings' ``failure_webhook`` where there is one."""

    @dg.run_failure_sensor(
        name="notify_failures",
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Logs failed runs; posts them as JSON to 'failure_webhook' where the settings name one.",
    )
    def notify_failures(context: dg.RunFailureSensorContext) -> None:
        notice = failure_notice(context.dagster_run, context.failure_event.message or "")
        context.log.error(f"{notice['job']} of {notice['endpoint']} failed: {notice['error']}")
        if webhook:
            answer = requests.post(webhook, json=notice, timeout=10)
            if not answer.ok:
                context.log.error(f"failure_webhook answered {answer.status_code}")

    return notify_failures
