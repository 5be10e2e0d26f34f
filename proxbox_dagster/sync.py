"""Runs ``full_update`` in this process, endpoint by endpoint, recorded on the Dagster instance."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import dagster as dg

from proxbox_dagster import run as runs
from proxbox_dagster.definitions import build_definitions
from proxbox_dagster.jobs import FULL_UPDATE, guest_stages, stage_selection
from proxbox_dagster.report import ClassReport
from proxbox_dagster.settings import Settings, SettingsError, load_settings
from proxbox_dagster.stages import STAGES


@dataclass(frozen=True)
class Order:
    """What the command line asks for; empty means all."""

    endpoints: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    vmids: tuple[int, ...] = ()
    dry_run: bool = False
    override_brake: bool = False


class Audience(Protocol):
    """Who watches the runs: :class:`proxbox_dagster.terminal.Terminal`."""

    def endpoint_started(self, name: str) -> None: ...

    def progress(self, step: runs.Progress) -> None: ...

    def endpoint_ended(self, name: str, result: dict[str, Any]) -> None: ...


def sync_endpoints(order: Order, audience: Audience) -> dict[str, Any]:
    """The ``--json`` object. One endpoint's failure never stops another. Raises :class:`SettingsError`."""
    settings = load_settings()
    settings.require()
    names = list(order.endpoints) or settings.endpoint_names
    for name in names:
        settings.endpoint(name)  # unknown names and missing secrets, before anything is contacted
    settings.netbox_connection()
    definitions = build_definitions(settings)
    job = definitions.resolve_job_def(FULL_UPDATE)
    selection = _selection(order, settings)
    results: dict[str, Any] = {}
    with _instance(order) as instance:
        for name in names:
            audience.endpoint_started(name)
            results[name] = _sync_one(job, instance, name, order, selection, audience)
            audience.endpoint_ended(name, results[name])
    return {"ok": all(result["ok"] for result in results.values()), "dry_run": order.dry_run, "endpoints": results}


def _selection(order: Order, settings: Settings) -> list[dg.AssetKey] | None:
    names = list(order.stages)
    if not names and order.vmids:
        names = [stage.name for stage in guest_stages()]
    if not names:
        return None
    plugin = settings.require().plugin
    left = [stage.name for stage in STAGES if stage.name in names and stage.classes(plugin=plugin)]
    if not left:
        raise SettingsError(f"with 'plugin: off' there is nothing to do in {', '.join(names)}.")
    graph = build_definitions(settings).resolve_asset_graph()
    return sorted(stage_selection(left, plugin=plugin).resolve(graph))


@contextmanager
def _instance(order: Order) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance of ``$DAGSTER_HOME``.

    A dry run is not recorded there: nothing was materialized, and freshness and automation must not think so.
    """
    if order.dry_run or not os.environ.get("DAGSTER_HOME"):
        with dg.DagsterInstance.ephemeral() as instance:
            yield instance
    else:
        with dg.DagsterInstance.get() as instance:
            yield instance


def _sync_one(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    endpoint: str,
    order: Order,
    selection: list[dg.AssetKey] | None,
    audience: Audience,
) -> dict[str, Any]:
    reports: dict[str, ClassReport] = {}

    def collect(step: runs.Progress) -> None:
        if step.endpoint == endpoint:
            if step.report:
                reports[step.object_class] = step.report
            audience.progress(step)

    stop = runs.watch(collect)
    try:
        result = job.execute_in_process(
            instance=instance,
            partition_key=endpoint,
            asset_selection=selection,
            run_config={
                "resources": {
                    "proxbox": {
                        "config": {
                            "vmids": list(order.vmids),
                            "dry_run": order.dry_run,
                            "override_brake": order.override_brake,
                        }
                    }
                },
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            raise_on_error=False,
        )
    finally:
        stop()
    return {
        "ok": result.success and not any(report.failed for report in reports.values()),
        "run_id": result.run_id,
        "stages": [runs.numbers(report) for report in reports.values()],
        "errors": _errors(result, reports),
    }


def _errors(result: dg.ExecuteInProcessResult, reports: dict[str, ClassReport]) -> list[str]:
    """What went wrong, the cause first: a stage that never started for it is not another error."""
    lines: list[str] = []
    for report in reports.values():
        lines += [f"{report.object_class}: {item.label}: {item.reason}" for item in report.failures]
    for event in result.all_events:
        if event.event_type is not dg.DagsterEventType.STEP_FAILURE:
            continue
        data = event.step_failure_data
        failure = data.user_failure_data
        error = data.error
        text = failure.description if failure and failure.description else _root(error)
        if not text.startswith("not started:") and not (lines and "objects failed" in text):
            lines.append(f"{event.step_key}: {text}")
    return list(dict.fromkeys(lines))


def _root(error: Any) -> str:
    """The innermost cause's own line."""
    while error is not None and error.cause is not None:
        error = error.cause
    return " ".join(error.message.split()) if error else "the step failed"
