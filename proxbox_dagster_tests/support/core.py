"""Runs of planner and writer against a :class:`FakeNetBox`, as the stages would make them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from proxbox_dagster.netbox.applied import Applied
from proxbox_dagster.netbox.apply import Writer
from proxbox_dagster.netbox.changes import Plan, Rules
from proxbox_dagster.netbox.names import Names
from proxbox_dagster.netbox.plan import plan
from proxbox_dagster.netbox.removal import RemovalRules
from proxbox_dagster.netbox.spec import Desired
from proxbox_dagster.netbox.state import NetBoxState
from proxbox_dagster.report import ClassReport, report_of
from proxbox_dagster_tests.support.core_specs import ENDPOINT, MODELS, SPECS, cluster, machine, role, wanted
from proxbox_dagster_tests.support.fake_netbox import FakeNetBox

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def fake() -> FakeNetBox:
    return FakeNetBox(MODELS)


def state_of(netbox: FakeNetBox, endpoint: str = ENDPOINT, windows: Mapping[str, str] | None = None) -> NetBoxState:
    """NetBox as a new run sees it."""
    return NetBoxState(netbox, endpoint, SPECS, lambda spec: (windows or {}).get(spec.name))


class Run:
    """One run over one endpoint: ``write`` plans and applies classes in order, on one state.

    After it ``plans``, ``applied`` and ``reports`` hold what became of each class; every report is accounted for.
    """

    def __init__(
        self,
        netbox: FakeNetBox,
        rules: Rules | None = None,
        *,
        endpoint: str = ENDPOINT,
        now: datetime = NOW,
        dry_run: bool = False,
        **writer: Any,
    ) -> None:
        self.netbox, self.rules, self.now, self.dry_run = netbox, rules or Rules(), now, dry_run
        self.state = state_of(netbox, endpoint)
        self.writer = Writer(netbox, self.state, **writer)
        self.names = Names(self.state)
        self.plans: dict[str, Plan] = {}
        self.applied: dict[str, Applied] = {}
        self.reports: dict[str, ClassReport] = {}

    def write(self, *desired: Desired) -> Run:
        for one in desired:
            name = one.object_class.name
            made = self.plans[name] = plan(one, self.state, self.rules, self.now)
            done = self.applied[name] = Applied()
            self.names.learn(one, made.creates)
            if not self.dry_run:
                self.writer.apply(made, done)
            report = self.reports[name] = report_of(
                "stage", made, done, dry_run=self.dry_run, seconds=0.0, names=self.names
            )
            assert report.accounted, report
        return self

    def counts(self, name: str) -> dict[str, int]:
        """The counts of a class that are not zero."""
        return {key: value for key, value in self.reports[name].counts().items() if value}


def synced(*desired: Desired, netbox: FakeNetBox | None = None, **run: Any) -> FakeNetBox:
    """A NetBox after a first run: a cluster, a role, and these."""
    netbox = netbox or fake()
    Run(netbox, **run).write(wanted("roles", role("qemu")), wanted("clusters", cluster()), *desired)
    return netbox


def base() -> Sequence[Desired]:
    """What every run has before its guests."""
    return (wanted("roles", role("qemu")), wanted("clusters", cluster()))


def again(netbox: FakeNetBox, *desired: Desired, **run: Any) -> Run:
    """A further run, of everything."""
    return Run(netbox, **run).write(*base(), *desired)


OPEN = RemovalRules(brake_percent=100, brake_objects=99)
"""Removal without a brake."""


def whole(*vmids: int, **values: Any) -> Desired:
    """Guests, and no others: the read covered everything."""
    return wanted("virtual_machines", *(machine(vmid, **values) for vmid in vmids), whole=True)


def later(netbox: FakeNetBox, *desired: Desired, days: float = 0, removal: RemovalRules = OPEN) -> Run:
    """A further run, so many days later."""
    return Run(netbox, Rules(removal=removal), now=NOW + timedelta(days=days)).write(*base(), *desired)


def planned(netbox: FakeNetBox, desired: Desired, rules: Rules | None = None) -> Plan:
    """What a new run would do, with nothing written."""
    return plan(desired, state_of(netbox), rules or Rules(), NOW)


def changes(made: Plan) -> dict[str, dict[str, tuple[Any, Any]]]:
    """Changed fields, old and new, by the row's label."""
    return {item.row.label: item.changes for item in made.updates}
