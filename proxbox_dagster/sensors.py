"""The observation sweep and the automation switch. Off until switched on."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Any

import dagster as dg

from proxbox_dagster.failures import EXPECTED
from proxbox_dagster.keys import source_key
from proxbox_dagster.proxmox.session import ProxmoxSession
from proxbox_dagster.proxmox.sources import SOURCES, data_version
from proxbox_dagster.settings import ScheduleConfig, Settings, load_settings

MOVING = frozenset({"node_tasks"})
"""Sources that change at every look, because somebody always does something; they come with the full update."""

TIMEOUT_VARIABLE, TIMEOUT = "DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS", 60.0
"""Dagster's own: when it ends a sensor, and with it what all endpoints have told."""

ANSWER, RETRIES = 15.0, 3.0
"""Seconds for one answer and for retries: the next sweep is a retry, and nobody waits for this one."""

LONGEST_PAUSE = 3600.0
"""Seconds after which an endpoint that does not answer is asked again at the latest."""


def patience() -> float:
    """Seconds that one sweep may take: enough of what Dagster gives it is left to tell what was found."""
    return float(os.environ.get(TIMEOUT_VARIABLE) or TIMEOUT) * 2 / 3


def swept(depth: str) -> tuple[str, ...]:
    """The sources of one sweep: ``cluster`` costs a request each, ``nodes`` one per node, ``guests`` one per guest."""
    units = {"cluster": {"cluster"}, "nodes": {"cluster", "node"}, "guests": {"cluster", "node", "guest", "storage"}}
    return tuple(name for name, source in SOURCES.items() if source.per in units[depth] and name not in MOVING)


@dataclass(frozen=True)
class Looked:
    """What one look at an endpoint has found, and what it could not read, with the reason."""

    events: list[dg.AssetObservation] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)


def observe_endpoint(settings: Settings, endpoint: str, sources: Sequence[str]) -> Looked:
    """One look at an endpoint. A source that cannot be read is left out when others can.

    Raises what the clients raise when none can be read.
    """
    looked, failed = Looked(), None
    connection = replace(settings.endpoint(endpoint), timeout=ANSWER, retry_budget=RETRIES)
    with ProxmoxSession(connection, settings.require().concurrency) as session:
        session.prefetch(sources)
        for name in sources:
            try:
                fetched = session.fetched(name)
            except EXPECTED as error:
                failed = error
                looked.unread[name] = str(error)
                continue
            looked.events.append(
                dg.AssetObservation(
                    source_key(name),
                    partition=endpoint,
                    metadata={"rows": len(fetched.frame), "complete": fetched.complete},
                    tags={"dagster/data_version": data_version(fetched)},
                )
            )
    if failed is not None and not looked.events:
        raise failed
    return looked


class Pauses:
    """The sensor's cursor: endpoints that did not answer, with how often and until when they are left alone."""

    def __init__(self, cursor: str | None, interval: float) -> None:
        self._interval = interval
        self.failing: dict[str, dict[str, Any]] = json.loads(cursor) if cursor else {}

    def due(self, endpoint: str, now: float) -> bool:
        return endpoint not in self.failing or now >= self.failing[endpoint]["until"]

    def answered(self, endpoint: str) -> None:
        self.failing.pop(endpoint, None)

    def failed(self, endpoint: str, now: float) -> None:
        """Twice the pause each time."""
        times = self.failing.get(endpoint, {}).get("times", 0) + 1
        pause = min(LONGEST_PAUSE, self._interval * 2 ** min(times, 10))
        self.failing[endpoint] = {"times": times, "until": now + pause}

    def cursor(self, endpoints: Sequence[str]) -> str:
        return json.dumps({name: value for name, value in self.failing.items() if name in endpoints})


def sweep(
    settings: Settings, endpoints: Sequence[str], sources: Sequence[str], seconds: float
) -> tuple[dict[str, Looked], dict[str, str]]:
    """All endpoints side by side, for so many seconds: looks by endpoint, and the reasons of those that gave none."""
    pool = ThreadPoolExecutor(max(1, len(endpoints)), thread_name_prefix="sweep")
    running: dict[str, Future[Looked]] = {
        name: pool.submit(observe_endpoint, settings, name, sources) for name in endpoints
    }
    wait(running.values(), timeout=seconds)
    pool.shutdown(wait=False, cancel_futures=True)
    found, failed = {}, {}
    for name, future in running.items():
        if not future.done():
            failed[name] = f"did not tell everything within {seconds:.0f} seconds ({TIMEOUT_VARIABLE} gives it more)"
        elif isinstance(error := future.exception(), EXPECTED):
            failed[name] = str(error)
        else:
            found[name] = future.result()
    return found, failed


def observation_sensor(clock: ScheduleConfig, now: Callable[[], float] = time.time) -> dg.SensorDefinition:
    """Notes the data versions of the cheap sources, without a run."""
    sources = swept(clock.observe)

    @dg.sensor(
        name="observe_sources",
        minimum_interval_seconds=clock.observe_seconds,
        default_status=dg.DefaultSensorStatus.STOPPED,
        asset_selection=dg.AssetSelection.assets(*(source_key(name) for name in sources)),
        description="Looks at the cheap sources of every endpoint and notes what changed. Starts no run: "
        "materialize_changes does, once it is switched on too.",
    )
    def observe_sources(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        settings = load_settings()
        settings.require()
        moment = now()
        pauses = Pauses(context.cursor, clock.observe_seconds)
        due = [name for name in settings.endpoint_names if pauses.due(name, moment)]
        found, failed = sweep(settings, due, sources, patience())
        for name, reason in failed.items():
            pauses.failed(name, moment)
            context.log.warning(f"{name}: {reason}")
        if failed and not found:  # those that are not due have failed before
            # A tick that fails is seen; one that finds nothing looks like a quiet night. It keeps no cursor: no pause.
            raise dg.Failure("no endpoint could be observed: " + "; ".join(f"{n}: {r}" for n, r in failed.items()))
        for name, looked in found.items():
            pauses.answered(name)
            for source, reason in looked.unread.items():
                context.log.warning(f"{name}: {source} is not observed: {reason}")
        waiting = [name for name in settings.endpoint_names if name not in due]
        if waiting:
            context.log.info(f"left alone for a while, because they did not answer: {', '.join(waiting)}")
        events = [event for looked in found.values() for event in looked.events]
        return dg.SensorResult(asset_events=events, cursor=pauses.cursor(settings.endpoint_names))

    return observe_sources


def automation_sensor() -> dg.AutomationConditionSensorDefinition:
    """The switch of the automation conditions, evaluated here because one of them is this project's own."""
    return dg.AutomationConditionSensorDefinition(
        "materialize_changes",
        target=dg.AssetSelection.key_prefixes(["netbox"]),
        default_status=dg.DefaultSensorStatus.STOPPED,
        use_user_code_server=True,
        description="Materializes what changed at its source, a run per endpoint. Needs observe_sources switched on "
        "too; without it, it follows what runs of the jobs have observed.",
    )
