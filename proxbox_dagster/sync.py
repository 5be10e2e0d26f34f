"""Runs ``full_update`` in this process, endpoint by endpoint, recorded on the Dagster instance."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import dagster as dg

from proxbox_dagster import early
from proxbox_dagster.assembly import build_definitions
from proxbox_dagster.failures import NOT_STARTED, words_of
from proxbox_dagster.jobs import FULL_UPDATE, guest_stages, stage_selection
from proxbox_dagster.progress import Progress, watch
from proxbox_dagster.report import ClassReport
from proxbox_dagster.rules import checked
from proxbox_dagster.run import CANCELLED, RunOptions
from proxbox_dagster.settings import Settings, SettingsError, load_settings
from proxbox_dagster.stages import STAGES, left_out
from proxbox_dagster.summary_page import some_failed

LOCATION_TAG, LOCATION = ".dagster/repository", "__repository__@proxbox_dagster"
"""By this tag Dagster's UI shows a run on its job's page; runs that the UI starts have it."""

TROUBLE_EVERY = 10.0
"""Seconds from one line about a NetBox that does not answer to the next; Dagster's log has each."""

ASKED = "The command line was asked to end."
"""What is noted of a cancelled run."""


@dataclass(frozen=True)
class Order:
    """What the command line asks for; empty means all."""

    endpoints: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    vmids: tuple[int, ...] = ()
    dry_run: bool = False
    override_brake: bool = False
    changes: bool = False
    """Tell each change field by field, and not the counts only."""


class Audience(Protocol):
    """Who watches the runs: :class:`proxbox_dagster.terminal.Terminal`."""

    def notice(self, text: str) -> None: ...

    def endpoint_started(self, name: str) -> None: ...

    def progress(self, step: Progress) -> None: ...

    def endpoint_ended(self, name: str, result: dict[str, Any]) -> None: ...


def sync_endpoints(order: Order, audience: Audience) -> dict[str, Any]:
    """The ``--json`` object. One endpoint's failure never stops another; being cancelled does (key ``cancelled``).

    Raises :class:`SettingsError`, and :class:`FolderNotOurs`.
    """
    settings = checked(load_settings())
    settings.require()
    names = list(dict.fromkeys(order.endpoints)) or settings.endpoint_names
    for name in names:
        settings.endpoint(name)  # unknown names and missing secrets, before anything is contacted
    settings.netbox_connection()
    run_ids = {name: str(uuid.uuid4()) for name in names}
    results: dict[str, Any] = {}
    cancelled = False
    try:
        _read_early(order, settings, names[0], run_ids[names[0]])
        job = build_definitions(settings).resolve_job_def(FULL_UPDATE)
        selection = _selection(order, settings)
        if notice := left_out(plugin=settings.require().plugin):
            audience.notice(notice)
        with _instance(order) as instance:
            for name in names:
                audience.endpoint_started(name)
                _read_early(order, settings, name, run_ids[name])
                results[name], cancelled = _sync_one(job, instance, name, run_ids[name], order, selection, audience)
                audience.endpoint_ended(name, results[name])
                if cancelled:
                    break
    except KeyboardInterrupt:  # between two runs, or before the first
        cancelled = True
        name = next((name for name in names if name not in results), names[-1])
        results.setdefault(name, _told(order, run_ids[name], False, {}, [CANCELLED]))
    finally:
        for name, run_id in run_ids.items():
            early.end(name, run_id)
    ok = not cancelled and all(result["ok"] for result in results.values())
    told = {"ok": ok, "dry_run": order.dry_run, "endpoints": results}
    return {**told, "cancelled": True} if cancelled else told


def _read_early(order: Order, settings: Settings, endpoint: str, run_id: str) -> None:
    """Have a run over the whole endpoint read while Dagster sets itself up; once it was told so, it does already."""
    if not order.stages and not order.vmids:
        early.begin(settings, endpoint, run_id, RunOptions(dry_run=order.dry_run, override_brake=order.override_brake))


def _selection(order: Order, settings: Settings) -> list[dg.AssetKey] | None:
    names = list(order.stages)
    if not names and order.vmids:
        names = [stage.name for stage in guest_stages()]
    if not names:
        return None
    if order.vmids and not any("guests" in stage.sources for stage in STAGES if stage.name in names):
        raise SettingsError(
            f"--vmid narrows a run to guests, of which there are none in {', '.join(names)}: leave it out, "
            "or name a stage of guests."
        )
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


class _Watcher:
    """Passes on what one run tells, and keeps the reports of its classes."""

    def __init__(self, instance: dg.DagsterInstance, endpoint: str, run_id: str, audience: Audience) -> None:
        self.reports: dict[str, ClassReport] = {}
        self._instance, self._endpoint, self._run_id, self._audience = instance, endpoint, run_id, audience
        self._quiet_until = float("-inf")

    def __call__(self, step: Progress) -> None:
        if step.endpoint != self._endpoint:
            return
        if step.cancelled:
            _report_canceling(self._instance, self._run_id)
        elif step.trouble:
            if time.monotonic() >= self._quiet_until:
                self._quiet_until = time.monotonic() + TROUBLE_EVERY
                self._audience.notice(step.trouble)
        else:
            if step.report:
                self.reports[step.object_class] = step.report
            self._audience.progress(step)


def _run_config(order: Order) -> dict[str, Any]:
    asked = {"vmids": list(order.vmids), "dry_run": order.dry_run, "override_brake": order.override_brake}
    return {
        "resources": {"proxbox": {"config": asked}},
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
    }


def _sync_one(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    endpoint: str,
    run_id: str,
    order: Order,
    selection: list[dg.AssetKey] | None,
    audience: Audience,
) -> tuple[dict[str, Any], bool]:
    """The endpoint's part of the ``--json`` object, and whether the run was cancelled."""
    watcher = _Watcher(instance, endpoint, run_id, audience)
    reports = watcher.reports
    stop = watch(watcher)
    errors: list[str] = []
    ok = False
    try:
        result = job.execute_in_process(
            run_id=run_id,
            instance=instance,
            partition_key=endpoint,
            asset_selection=selection,
            tags={LOCATION_TAG: LOCATION},
            run_config=_run_config(order),
            raise_on_error=False,
        )
        ok = result.success and not any(report.failed for report in reports.values())
        errors = _errors(result, reports)
        cancelled = _was_cancelled(result)
    except KeyboardInterrupt:  # before the first step or after the last
        cancelled = True
    finally:
        stop()
    if cancelled:
        _report_canceled(instance, run_id)
        errors = errors or [CANCELLED]
    return _told(order, run_id, ok, reports, errors), cancelled


def _told(order: Order, run_id: str, ok: bool, reports: dict[str, ClassReport], errors: list[str]) -> dict[str, Any]:
    lines = [report.line() for report in reports.values()]
    warnings = [f"{report.object_class}: {line}" for report in reports.values() for line in report.warnings]
    skips = [
        f"{report.object_class}: {item.label}: {item.reason}" for report in reports.values() for item in report.skips
    ]
    told = {"ok": ok, "run_id": run_id, "stages": lines, "errors": errors, "warnings": warnings, "skips": skips}
    changes = [change for report in reports.values() for change in report.change_lines()]
    return {**told, "changes": changes} if order.changes else told


def _report_canceling(instance: dg.DagsterInstance, run_id: str) -> None:
    """Note that a person ends the run, as the UI does, so that Dagster calls it canceled and not failed."""
    run = instance.get_run_by_id(run_id)
    if run is not None and run.status is dg.DagsterRunStatus.STARTED:
        instance.report_run_canceling(run, ASKED)


def _report_canceled(instance: dg.DagsterInstance, run_id: str) -> None:
    """The same where the interruption struck between two steps, in Dagster's own code, and nobody could note it."""
    run = instance.get_run_by_id(run_id)
    if run is not None and run.status is not dg.DagsterRunStatus.CANCELED:
        instance.report_run_canceled(run, ASKED)


def _was_cancelled(result: dg.ExecuteInProcessResult) -> bool:
    for event in result.all_events:
        if event.event_type is dg.DagsterEventType.PIPELINE_CANCELED:
            return True
        if event.event_type is dg.DagsterEventType.PIPELINE_FAILURE:
            reason = event.job_failure_data.failure_reason
            return reason is not None and reason.value == "UNEXPECTED_TERMINATION"
    return False


def _errors(result: dg.ExecuteInProcessResult, reports: dict[str, ClassReport]) -> list[str]:
    """What went wrong, the cause first: a stage that never started for it is not another error."""
    lines: list[str] = []
    for report in reports.values():
        lines += [f"{report.object_class}: {item.label}: {item.reason}" for item in report.failures]
    counted = some_failed(sum(report.failed for report in reports.values()))
    for event in result.all_events:
        if event.event_type is not dg.DagsterEventType.STEP_FAILURE:
            continue
        data = event.step_failure_data
        if data.error_source is not None and data.error_source.value == "INTERRUPT":
            continue
        text = words_of(data)
        if not text.startswith(NOT_STARTED) and not (lines and text.startswith(counted)):
            lines.append(f"{event.step_key}: {text}")
    return list(dict.fromkeys(lines))
