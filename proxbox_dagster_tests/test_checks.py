"""Each asset check green and red, from states such as a run leaves them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from proxbox_dagster.audit import Audit, audit
from proxbox_dagster.checks import (
    ACCOUNTED,
    ADDRESSED,
    ADDRESSES,
    BLOCKING,
    IDENTITY,
    REFERENCES,
    accounted_check,
    addresses_check,
    check_results,
    check_specs,
    identity_check,
    references_check,
)
from proxbox_dagster.facts import Fetched, Gap, GapKind, frame_of
from proxbox_dagster.netbox.spec import Desired, ObjectClass, Ownership, Row, Skip
from proxbox_dagster.proxmox.sources import SOURCES
from proxbox_dagster.report import ClassReport
from proxbox_dagster.stages import object_classes
from proxbox_dagster.stages.vm_ip_addresses import VM_PRIMARY_ADDRESSES

CLASSES = {item.name: item for item in object_classes()}


def report(**counts: Any) -> ClassReport:
    return ClassReport("virtual_machines", "virtual_machines", dry_run=False, **counts)


def state(rows: list[dict[str, Any]], doubles: dict[tuple[Any, ...], list[int]] | None = None) -> Any:
    return SimpleNamespace(rows=lambda spec: rows, duplicates=lambda spec: doubles or {})


def number(result: dg.AssetCheckResult, name: str) -> Any:
    return getattr(result.metadata[name], "value", result.metadata[name])


def test_accounted() -> None:
    good = report(created=1, updated=1, unchanged=2, seen=4)
    assert accounted_check(good, held=4).passed
    assert accounted_check(good, held=7).passed, "rows that are marked, or were not observed, are more"
    fewer = accounted_check(good, held=3)
    assert not fewer.passed
    assert (number(fewer, "arrived"), number(fewer, "rows_in_netbox")) == (4, 3)
    assert accounted_check(good).passed, "not all rows were read: nothing to compare with"
    assert not accounted_check(report(created=1, seen=2)).passed
    failed = accounted_check(report(seen=1, failures=[Skip("web01 (qemu/100)", "NetBox refused it")]))
    assert not failed.passed
    assert failed.severity is dg.AssetCheckSeverity.ERROR
    assert "web01" in str(number(failed, "failures"))


def test_identity_stops_what_depends_on_it_where_others_hang_on_the_class() -> None:
    item = CLASSES["virtual_machines"]
    assert identity_check(item, {}).passed
    red = identity_check(item, {("ams1", "qemu", 100): [7, 9]})
    assert not red.passed
    assert "7, 9" in str(number(red, "rows"))
    blocking = {name for name, item in CLASSES.items() if any(spec.blocking for spec in check_specs(item))}
    assert blocking == BLOCKING


def orphans_of(item: ObjectClass, rows: list[dict[str, Any]]) -> dg.AssetCheckResult:
    return references_check(item, audit(item.spec, state(rows), whole=True).orphans, [])


def test_rows_without_their_parent() -> None:
    item = CLASSES["vm_addresses"]
    assert REFERENCES in {spec.name for spec in check_specs(item)}
    on_a_card = {"id": 1, "display": "192.0.2.1/24", "assigned_object_id": 5}
    alone = {"id": 2, "display": "192.0.2.2/24", "assigned_object_id": None}
    assert orphans_of(item, [on_a_card]).passed
    red = orphans_of(item, [on_a_card, alone])
    assert not red.passed
    assert red.severity is dg.AssetCheckSeverity.WARN
    assert number(red, "orphans") == 1
    assert "192.0.2.2/24 (id 2)" in str(number(red, "rows"))


def test_references_that_lead_nowhere_are_named_with_field_and_reason() -> None:
    item = CLASSES["virtual_machines"]
    gone = Skip("web01 (qemu/100)", "device: devices ams1 / pve9 is not in NetBox")
    results = list(check_results(item, report(unchanged=1, seen=1, unresolved=[gone]), Audit()))
    assert {result.check_name for result in results} == {spec.name for spec in check_specs(item)}
    [yellow] = [result for result in results if not result.passed]
    assert (yellow.check_name, yellow.severity) == (REFERENCES, dg.AssetCheckSeverity.WARN)
    assert number(yellow, "unresolved") == 1
    assert "device: devices ams1 / pve9 is not in NetBox" in str(number(yellow, "references"))


def test_every_class_has_the_checks_that_its_rows_allow() -> None:
    """All are counted; rows of our own have one identity; what refers to others is held against them."""
    expected = {ACCOUNTED: set(CLASSES), IDENTITY: set(), REFERENCES: set(), ADDRESSES: {ADDRESSED}}
    for name, item in CLASSES.items():
        if item.spec.ownership is Ownership.ENDPOINT:
            expected[IDENTITY] |= set() if item.spec.update_only else {name}
            expected[REFERENCES] |= {name}
    found: dict[str, set[str]] = {name: set() for name in expected}
    for name, item in CLASSES.items():
        for spec in check_specs(item):
            found[spec.name].add(name)
    assert found == expected


@pytest.mark.parametrize(
    ("name", "whole", "held"), [("devices", True, 1), ("devices", False, None), ("tags", True, None)]
)
def test_rows_are_counted_only_where_all_were_read(name: str, whole: bool, held: int | None) -> None:
    assert audit(CLASSES[name].spec, state([{"id": 1}]), whole=whole).held == held


def fetched(source: str, rows: list[dict[str, Any]], gaps: tuple[Gap, ...] = ()) -> Fetched:
    return Fetched(source, "ams1", frame_of(rows, SOURCES[source].column_names), gaps)


def test_guests_without_an_address_are_named_with_the_reason() -> None:
    assert ADDRESSES in {spec.name for spec in check_specs(VM_PRIMARY_ADDRESSES)}
    guests = [
        {"type": "qemu", "vmid": 10, "name": "web01", "status": "running", "node": "pve1", "template": False},
        {"type": "qemu", "vmid": 100, "name": "db01", "status": "running", "node": "pve1", "template": False},
        {"type": "lxc", "vmid": 200, "name": "dns", "status": "running", "node": "pve1", "template": False},
        {"type": "qemu", "vmid": 101, "name": "off", "status": "stopped", "node": "pve1", "template": False},
    ]
    silent = Gap("guest", "qemu/10", GapKind.OFFLINE, "the guest agent of qemu/10 does not answer")
    inputs = {
        "guests": fetched("guests", guests),
        "guest_agent": fetched("guest_agent", [], (silent,)),
        "container_interfaces": fetched("container_interfaces", []),
    }

    def primary(kind: str, vmid: int) -> Row:
        return Row({"cf.proxmox_endpoint": "ams1", "cf.proxmox_vm_type": kind, "cf.proxmox_vm_id": vmid}, "label")

    desired = Desired(VM_PRIMARY_ADDRESSES, rows=[primary("qemu", 100)])
    red = addresses_check(inputs, desired)
    assert not red.passed
    assert red.severity is dg.AssetCheckSeverity.WARN
    assert number(red, "guests_without_address") == 2
    told = str(number(red, "guests"))
    assert "| web01 (qemu/10) | the guest agent of qemu/10 does not answer |" in told
    assert "| dns (lxc/200) | it reports none |" in told
    desired.rows += [primary("qemu", 10), primary("lxc", 200)]
    assert addresses_check(inputs, desired).passed
