"""A run over an endpoint without any server: what Dagster does around the stages is tested with it.

After :meth:`FakeWorld.install` every run of the resource is one of these; the real definitions, steps, IO managers and
jobs stay in place.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from proxbox_dagster.audit import Audit
from proxbox_dagster.facts import Fetched, frame_of
from proxbox_dagster.netbox.spec import Desired, Outcome, Skip
from proxbox_dagster.proxmox.errors import ProxmoxError
from proxbox_dagster.proxmox.sources import SOURCES, data_version
from proxbox_dagster.report import ClassReport
from proxbox_dagster.settings import Settings
from proxbox_dagster.stages import BY_NAME
from proxbox_dagster.stages.stage import StageContext


class FakeWorld:
    """Proxmox and NetBox as far as a run sees them. ``content[endpoint, source]`` is what a source holds."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.content: dict[tuple[str, str], str] = {}
        self.unreadable: set[str] = set()
        self.written: list[tuple[str, str]] = []
        """(stage, object class) in the order of writing."""
        self.on_write: Callable[[str, str], None] = lambda stage, object_class: None

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("proxbox_dagster.resources.EndpointRun", self.run)
        monkeypatch.setattr("proxbox_dagster.resources.load_settings", lambda: self.settings)

    def fetched(self, endpoint: str, source: str) -> Fetched:
        if source in self.unreadable:
            raise ProxmoxError(f"{source}: HTTP 500 internal error")
        columns = SOURCES[source].column_names
        row = {SOURCES[source].stable_columns[0]: self.content.get((endpoint, source), "as it was")}
        return Fetched(source, endpoint, frame_of([row], columns))

    def version(self, endpoint: str, source: str) -> str:
        return data_version(self.fetched(endpoint, source))

    def run(self, settings: Settings, endpoint: str, run_id: str, options: Any, warn: Any) -> FakeRun:
        return FakeRun(self, endpoint, options)


class FakeRun:
    """Has the public names of :class:`proxbox_dagster.run.EndpointRun` that steps use."""

    def __init__(self, world: FakeWorld, endpoint: str, options: Any) -> None:
        self._world = world
        self.endpoint = SimpleNamespace(name=endpoint)
        self.options = options
        self.file = world.settings.require()
        self.connection = SimpleNamespace(url="https://netbox.example.org")
        self.context = StageContext(endpoint)
        self.started = datetime(2026, 3, 1, 12, tzinfo=UTC)
        self.reports: dict[str, ClassReport] = {}
        self.read_from = time.time()
        self.narrowed = None if options.scope.is_full and not options.dry_run else "narrowed"
        self.cancelled = False
        self._read: dict[str, Fetched] = {}

    def hold(self) -> None:
        return

    def cancel(self) -> None:
        return

    def look_ahead(self, names: Any) -> None:
        return

    def prefetch(self, names: list[str]) -> None:
        return

    def fetched(self, name: str) -> Fetched:
        if name not in self._read:
            self._read[name] = self._world.fetched(self.endpoint.name, name)
        return self._read[name]

    def version(self, name: str) -> str:
        return data_version(self.fetched(name))

    def made_from(self, stage: str) -> dict[str, Any]:
        versions = {source: self.version(source) for source in BY_NAME[stage].sources}
        return {"versions": versions, "read_from": self.read_from, "narrowed": self.narrowed}

    def build(self, stage: Any, inputs: dict[str, Fetched]) -> dict[str, Desired]:
        return {}

    def preflight(self, stage: Any, desired: dict[str, Desired]) -> None:
        return

    def write(self, stage: str, desired: Desired) -> ClassReport:
        name = desired.object_class.name
        self._world.on_write(stage, name)
        self._world.written.append((stage, name))
        self.reports[name] = ClassReport(stage, name, dry_run=self.options.dry_run)
        return self.reports[name]

    def audit(self, item: Any) -> Audit:
        return Audit()

    def close(self) -> None:
        return


def let_a_device_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on every run has one device, and NetBox refuses it."""
    write = FakeRun.write

    def failing(self: FakeRun, stage: str, desired: Desired) -> ClassReport:
        report = write(self, stage, desired)
        if report.object_class == "devices":
            report.seen = 1
            report.failures.append(Skip("pve1", "name is taken", Outcome.FAILED))
        return report

    monkeypatch.setattr(FakeRun, "write", failing)
