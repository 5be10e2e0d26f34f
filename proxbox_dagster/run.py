"""One run over one endpoint: its connections, what it has read, what it has written.

An :class:`EndpointRun` is made when the first step needs it and shared by all steps of the run in this process: each
Proxmox source is fetched once, each NetBox table read once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from proxbox_dagster import stages
from proxbox_dagster.absence import probe_of
from proxbox_dagster.ahead import ahead, beside, read_ahead, task_cursor
from proxbox_dagster.audit import Audit, audit
from proxbox_dagster.facts import Fetched, Gap, GapKind
from proxbox_dagster.lock import EndpointLock
from proxbox_dagster.netbox.applied import Applied
from proxbox_dagster.netbox.apply import Writer
from proxbox_dagster.netbox.changes import Plan, Rules
from proxbox_dagster.netbox.client import NetBoxClient
from proxbox_dagster.netbox.errors import NetBoxForbidden, NetBoxRefused
from proxbox_dagster.netbox.names import Names
from proxbox_dagster.netbox.plan import plan
from proxbox_dagster.netbox.spec import NOTHING_COVERED, Coverage, Desired, ModelSpec, ObjectClass
from proxbox_dagster.netbox.state import ENDPOINT_FILTER, NetBoxState
from proxbox_dagster.permitted import Permitted
from proxbox_dagster.places import Places
from proxbox_dagster.preflight import foreign_cluster, missing_upstream, unknown_scope
from proxbox_dagster.progress import Progress, tell
from proxbox_dagster.proxmox.session import ProxmoxSession
from proxbox_dagster.proxmox.sources import data_version
from proxbox_dagster.report import ClassReport, report_of
from proxbox_dagster.rules import context_of, needed_permissions, rules_of
from proxbox_dagster.scope import Scope
from proxbox_dagster.settings import ConcurrencyConfig, Settings, SettingsError, SettingsFile
from proxbox_dagster.stages.stage import Stage, StageContext

CANCELLED = "the run was cancelled"

GRACE = 1.0
"""Seconds for which a cancelled run waits for NetBox's answer to what it has sent, so as to count it."""

TASKS = "node_tasks"
HISTORY_WINDOW = timedelta(days=7)
"""How far back from the newest row a class that grows for ever is read."""

CLOCKS_DIFFER = timedelta(days=1)
"""A row of such a class that is dated further in the future tells of a wrong clock, not of what is new."""

_NOTHING_AMISS = (GapKind.NOT_APPLICABLE, GapKind.OUT_OF_SCOPE)
"""Gaps that nobody can or wants to mend."""


class RunCancelled(Exception):
    """Somebody has ended the run: no step shall start any more."""


def now() -> datetime:
    """The time that marks of missing objects are dated with, and grace periods measured by."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class RunOptions:
    """What a run is asked to do beyond the settings."""

    scope: Scope = field(default_factory=Scope)
    dry_run: bool = False
    override_brake: bool = False
    concurrency: ConcurrencyConfig | None = None


class EndpointRun:
    """One run over one endpoint. Raises :class:`SettingsError` when its settings or secrets are missing."""

    def __init__(
        self, settings: Settings, endpoint: str, run_id: str, options: RunOptions, warn: Callable[[str], None]
    ) -> None:
        self.file: SettingsFile = settings.require()
        self.endpoint = settings.endpoint(endpoint)
        self.connection = settings.netbox_connection()
        self.options = options
        self.run_id = run_id
        self.reports: dict[str, ClassReport] = {}
        self.concurrency = options.concurrency or self.file.concurrency
        self.warn = warn
        self._versions: dict[str, str] = {}
        self._lock = threading.Lock()
        self._lock_endpoint = EndpointLock(self.connection.url, endpoint)
        self._told: set[str] = set()
        self._checked = False
        self._cursor_set = False
        self._looks_ahead = False
        self._cursor_lock = threading.Lock()
        self.braked = False
        """Set once the brake has stopped a removal: no further class removes anything in this run."""
        self.cancelled = False
        self.started = datetime.now(UTC)
        self._read_by: dict[str, tuple[list[Gap], int]] = {}
        """By stage that has begun: what its sources could not show, and the requests that they cost."""
        self._mapping = threading.Lock()
        self._mapped_ahead: dict[str, dict[str, Desired]] = {}

    # -- one run at a time --------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Before the first look at what is to be written: keep other runs from writing this endpoint.

        Raises :class:`EndpointBusy`, and :class:`RunCancelled` in a run that was.
        """
        if self.cancelled:
            raise RunCancelled(f"not started: {CANCELLED}")
        if not self.options.dry_run:
            self._lock_endpoint.acquire(self.run_id)

    def cancel(self) -> None:
        """End what is under way on both sides, within about a second. No step of the run starts after it."""
        if self.cancelled:
            return
        self.cancelled = True
        self.close(GRACE)
        tell(Progress(self.endpoint.name, cancelled=True))

    # -- reading ------------------------------------------------------------------------------------------------

    @cached_property
    def proxmox(self) -> ProxmoxSession:
        return ProxmoxSession(self.endpoint, self.concurrency, self.options.scope)

    def fetched(self, source: str) -> Fetched:
        """A source, read at most once in this run. Raises :class:`ProxmoxError`."""
        if source == TASKS and self.file.plugin:
            self._set_task_cursor()
        return self.proxmox.fetched(source)

    def version(self, source: str) -> str:
        """The data version of a source as read in this run. Raises :class:`ProxmoxError`."""
        if source not in self._versions:
            self._versions[source] = data_version(self.fetched(source))
        return self._versions[source]

    def made_from(self, stage: str) -> dict[str, Any]:
        """The data versions of what the stage has read, from when on (epoch seconds), and what limited the run.

        ``narrowed`` is ``None`` in a run that brings NetBox true to all of its sources. Dagster's own provenance tells
        of a partitioned source that was observed, not which version of it.
        """
        narrowed = "dry run" if self.options.dry_run else str(self.options.scope)
        return {
            "versions": {source: self.version(source) for source in stages.BY_NAME[stage].sources},
            "read_from": self.started.timestamp(),
            "narrowed": narrowed if self.options.dry_run or not self.options.scope.is_full else None,
        }

    def prefetch(self, sources: list[str]) -> None:
        """Read these sources side by side; what fails is raised by :meth:`fetched`.

        Raises :class:`NetBoxError` where NetBox cannot tell which tasks it has.
        """
        if TASKS not in sources or not self.file.plugin:
            self.proxmox.prefetch(sources)
            return
        _ = self.state, self.proxmox  # made once, before there are two threads

        def tasks() -> None:
            self._set_task_cursor()
            self.proxmox.prefetch([TASKS])

        # Everything else need not wait until NetBox has told which tasks it has.
        beside(tasks, lambda: self.proxmox.prefetch([name for name in sources if name != TASKS]))

    def look_ahead(self, names: Collection[str]) -> None:
        """Begin to read what the stages ``names`` will need of NetBox, while Proxmox is read.

        Only in a run over everything: a narrowed one reads so little that it asks when it knows what for. What fails
        here is tried again, and told, where it is needed. Raises :class:`NetBoxError` where NetBox is not fit.
        """
        if not self.options.scope.is_full or self._looks_ahead:
            return
        self._looks_ahead = True
        wanted = [stage for stage in stages.STAGES if stage.name in names]
        state, proxmox = self.state, self.proxmox  # made here, before there are two threads

        def is_read(stage: Stage) -> bool:
            return all(proxmox.has(name) for name in stage.sources)

        ahead(lambda: read_ahead(state, wanted, self._map_ahead, is_read, plugin=self.file.plugin))

    def _set_task_cursor(self) -> None:
        """Tasks that NetBox has already are not fetched again, so that a run's cost does not grow with history."""
        spec = self.state.specs.get("task_history")
        with self._cursor_lock:
            if spec is None or self._cursor_set:
                return
            self.state.load(spec)
            self.proxmox.cursor = task_cursor(self.state.rows(spec), self.started + CLOCKS_DIFFER)
            self._cursor_set = True

    @cached_property
    def netbox(self) -> NetBoxClient:
        """The client, once NetBox and its plugin are found fit. Raises :class:`NetBoxError`."""

        def trouble(text: str) -> None:
            self.warn(text)
            tell(Progress(self.endpoint.name, trouble=text))

        client = NetBoxClient(self.connection, self.run_id, trouble)
        client.check(plugin=self.file.plugin)
        if notice := stages.left_out(plugin=self.file.plugin):
            self.warn(notice)
        return client

    @cached_property
    def state(self) -> NetBoxState:
        specs = stages.specs(plugin=self.file.plugin)
        return NetBoxState(self.netbox, self.endpoint.name, specs, self._window, self.options.scope.vmids)

    def _window(self, spec: ModelSpec) -> str | None:
        """From when on the rows of a class that grows for ever are read: a week before the newest."""
        if spec.window is None:
            return None
        horizon = (self.started + CLOCKS_DIFFER).isoformat()
        filters = {ENDPOINT_FILTER: self.endpoint.name, f"{spec.window}__lte": horizon}
        newest = self.netbox.newest(spec.path, spec.window, filters)
        if newest is None:
            return None
        return (datetime.fromisoformat(newest) - HISTORY_WINDOW).isoformat()

    @cached_property
    def context(self) -> StageContext:
        """What the pure mappings may know. Raises :class:`NetBoxError`."""
        places = Places(self.state)
        if notice := places.differ(self.endpoint.site):
            self.warn(notice)
        return context_of(self.file, self.endpoint, self.options.scope, places.cluster(), places)

    @cached_property
    def rules(self) -> Rules:
        return replace(rules_of(self.file, override_brake=self.options.override_brake), proof=self._hidden)

    # -- the one write path -------------------------------------------------------------------------------------

    def build(self, stage: Stage, inputs: dict[str, Fetched]) -> dict[str, Desired]:
        """The stage's desired rows by object class."""
        wanting = [gap for read in inputs.values() for gap in read.gaps if gap.kind not in _NOTHING_AMISS]
        with self._mapping:
            self._read_by[stage.name] = (list(dict.fromkeys(wanting)), sum(read.requests for read in inputs.values()))
            # What is written changes it: a step that is tried again maps anew.
            return self._mapped_ahead.pop(stage.name, None) or self._map(stage, inputs)

    def _map(self, stage: Stage, inputs: Mapping[str, Fetched]) -> dict[str, Desired]:
        return {desired.object_class.name: desired for desired in stage.build(inputs, self.context)}

    def _map_ahead(self, stage: Stage) -> Iterable[Desired]:
        """What the look ahead needs to know of a stage; nothing once its step has begun."""
        inputs = {name: self.fetched(name) for name in stage.sources}
        with self._mapping:
            if stage.name in self._read_by:
                return ()
            found = self._mapped_ahead[stage.name] = self._map(stage, inputs)
            return list(found.values())

    def preflight(self, stage: Stage, desired: Mapping[str, Desired]) -> None:
        """Before a stage writes anything: refuse a NetBox cluster that another endpoint keeps, or a missing upstream.

        Raises :class:`NetBoxRefused`, and :class:`SettingsError` for a run narrowed to what is not there. Costs a
        request only where this endpoint has no cluster in NetBox yet.
        """
        wrong = unknown_scope(self.options.scope, self.endpoint.name, stage, self.fetched, self.reports)
        if wrong:
            raise SettingsError(wrong)
        problem = missing_upstream(stage, desired, self.state, self.reports, plugin=self.file.plugin)
        problem = problem or foreign_cluster(desired, self.state)
        if problem:
            raise NetBoxRefused(problem)

    def write(self, stage: str, desired: Desired) -> ClassReport:
        """Plan one object class, write the plan (unless dry), and report. Raises :class:`NetBoxError`."""
        started, costs = time.monotonic(), self._netbox_costs()
        if self.braked:
            desired.coverage = NOTHING_COVERED
        if self.options.scope.vmids and desired.object_class.fixed:
            desired.rows.clear()
        self._doubt(desired)
        made = plan(desired, self.state, self.rules, now())
        self.names.learn(desired, made.creates)
        applied = Applied()
        self._tell(stage, made, 0)
        ended: str | None = None
        try:
            if made.writes and not self.options.dry_run:
                self._ask_permission()
                self._writer(stage, made).apply(made, applied)
        except BaseException as error:
            if not isinstance(error, Exception):
                self.cancel()  # first, so that what is answered in the meantime is counted
            if isinstance(error, NetBoxForbidden):
                self._permitted.forget()
            ended = str(error) or CANCELLED
            raise
        finally:
            report = report_of(
                stage,
                made,
                applied,
                dry_run=self.options.dry_run,
                seconds=time.monotonic() - started,
                ended=ended,
                names=self.names,
            )
            report.netbox_requests, report.netbox_rows = (
                after - before for after, before in zip(self._netbox_costs(), costs, strict=True)
            )
            report.gaps, report.proxmox_requests = self._read_by.get(stage, ([], 0))
            self.reports[report.object_class] = report
            self.braked = self.braked or bool(report.braked)
            self._tell(stage, made, report.created + report.updated, report)
        return report

    def _hidden(self, spec: ModelSpec, row: dict[str, Any]) -> str | None:
        """Why a row's source may be hidden from the token rather than gone; asks Proxmox."""
        probe = probe_of(spec, row)
        gap = self.proxmox.absence_gap(*probe) if probe else None
        return gap.reason if gap else None

    def _doubt(self, desired: Desired) -> None:
        """Where the whole read is in doubt, nothing of any class is taken for gone."""
        covered = desired.coverage.everything or desired.coverage.parents
        reason = self.proxmox.incomplete() if covered else None
        if reason is None:
            return
        desired.coverage = Coverage(reason=reason, gap=True)
        if reason not in self._told:
            self._told.add(reason)
            self.warn(reason)

    def _netbox_costs(self) -> tuple[int, int]:
        """Requests to NetBox and rows read or written by this run until now."""
        client = self.__dict__.get("netbox")
        return (client.requests.total(), client.rows.total()) if client else (0, 0)

    @cached_property
    def names(self) -> Names:
        """What rows are called in reports."""
        return Names(self.state)

    def audit(self, item: ObjectClass) -> Audit:
        """What can be asserted of a class that this run has written."""
        return audit(item.spec, self.state, whole=self.options.scope.is_full and not self.options.dry_run)

    def _writer(self, stage: str, made: Plan) -> Writer:
        done = 0

        def count(rows: int) -> None:
            nonlocal done
            with self._lock:
                done += rows
            self._tell(stage, made, done)

        return Writer(
            self.netbox,
            self.state,
            bulk_size=self.connection.bulk_size,
            workers=min(self.concurrency.netbox_write_concurrency, self.concurrency.netbox_max_concurrent),
            progress=count,
            pause=self.netbox.pause,
        )

    def _ask_permission(self) -> None:
        """Before the first write of a full run: may the token do all that it may need?"""
        if self._checked:
            return
        if self.options.scope.is_full:
            self._permitted.ask(self.netbox, self.concurrency.netbox_max_concurrent)
        self._checked = True  # not after a refusal: with 'on_stage_failure: continue' the next stage asks again

    @cached_property
    def _permitted(self) -> Permitted:
        return Permitted(self.connection, needed_permissions(self.file))

    def _tell(self, stage: str, made: Plan, done: int, report: ClassReport | None = None) -> None:
        total = len(made.creates) + len(made.updates)
        tell(Progress(self.endpoint.name, stage, made.object_class.name, done, total, report))

    def close(self, grace: float = 0.0) -> None:
        """End every request: one to NetBox may take ``grace`` seconds to be answered. A waiting retry ends at once."""
        if "proxmox" in self.__dict__:
            self.proxmox.close()
        if "netbox" in self.__dict__:
            self.netbox.close(grace)
        self._lock_endpoint.release()
