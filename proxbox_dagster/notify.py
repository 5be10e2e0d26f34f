"""The notice of failed runs: logged, and posted to the settings' ``failure_webhook`` where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

import dagster as dg
import requests

from proxbox_dagster.failures import words_of
from proxbox_dagster.keys import PARTITION_TAG
from proxbox_dagster.settings_file import SettingsError, Webhook

WEBHOOK_TIMEOUT = (5.0, 10.0)
"""Seconds to connect, and between two bytes of the answer."""

MAX_ERROR = 500


def failure_notice(run: dg.DagsterRun, failures: Sequence[dg.DagsterEvent], message: str) -> dict[str, str]:
    """What is told of a failed run: names and the first failed step's own words; no configuration, no secret.

    ``text`` is all of it in a line, under the key that the webhooks of most chats show.
    """
    endpoint, stage = run.tags.get(PARTITION_TAG, ""), failures[0].step_key or "" if failures else ""
    error = " ".join((words_of(failures[0].step_failure_data) if failures else message).split())[:MAX_ERROR]
    where = f"{run.job_name}{f' of {endpoint}' if endpoint else ''} failed{f' in {stage}' if stage else ''}"
    return {
        "job": run.job_name,
        "endpoint": endpoint,
        "run_id": run.run_id,
        "stage": stage,
        "error": error,
        "text": f"{where}: {error}",
    }


def tell(webhook: Webhook, notice: dict[str, str]) -> str | None:
    """Find the address and :func:`post`. Returns what went wrong."""
    try:
        return post(webhook.resolve("failure_webhook").get_secret_value(), notice)
    except SettingsError as error:
        return str(error)


def post(webhook: str, notice: dict[str, str]) -> str | None:
    """Post a notice as JSON. Returns what went wrong, without the address: its path is often a secret."""
    host = urlsplit(webhook).hostname or "the webhook"
    try:
        answer = requests.post(webhook, json=notice, timeout=WEBHOOK_TIMEOUT, allow_redirects=False)
    except requests.RequestException as error:
        return f"failure_webhook: {host} could not be reached ({type(error).__name__})"
    return None if 200 <= answer.status_code < 300 else f"failure_webhook: {host} answered {answer.status_code}"


def failure_sensor(webhook: Webhook | None) -> dg.SensorDefinition:
    """Logs each failed run and posts it. A webhook that fails is logged; the run's notice is not tried again."""

    @dg.run_failure_sensor(
        name="notify_failures",
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Logs failed runs; posts them as JSON to 'failure_webhook' where the settings name one.",
    )
    def notify_failures(context: dg.RunFailureSensorContext) -> None:
        failures = context.get_step_failure_events()
        notice = failure_notice(context.dagster_run, failures, context.failure_event.message or "")
        context.log.error(notice["text"])
        if webhook and (problem := tell(webhook, notice)):
            context.log.error(problem)

    return notify_failures
