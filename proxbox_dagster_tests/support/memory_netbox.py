"""A NetBox in memory for the pure tests of the networking stages: tables, filters, and the rules that bear on moves.

The rules are NetBox's own (`ipam.IPAddress.clean`, `virtualization.VirtualMachine.clean`, `dcim.Device.clean`): an
address that is primary cannot go to another machine, and a primary address must be on the machine's own interface.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from typing import Any

from proxbox_dagster.netbox.applied import Applied
from proxbox_dagster.netbox.apply import Writer
from proxbox_dagster.netbox.changes import Plan, Rules
from proxbox_dagster.netbox.errors import RowsRefused
from proxbox_dagster.netbox.plan import plan
from proxbox_dagster.netbox.spec import Desired, ModelSpec
from proxbox_dagster.netbox.state import NetBoxState

ADDRESSES = "ipam/ip-addresses"
MACHINES = {
    # interface model: path of the interfaces, field of the machine, path of the machines
    "virtualization.vminterface": (
        "virtualization/interfaces",
        "virtual_machine",
        "virtualization/virtual-machines",
    ),
    "dcim.interface": ("dcim/interfaces", "device", "dcim/devices"),
}


class MemoryNetBox:
    """Rows by REST path and id, as NetBox answers them (choices and foreign keys as plain values)."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[int, dict[str, Any]]] = {}
        self.writes: list[tuple[str, str, list[dict[str, Any]]]] = []
        self.reads: list[tuple[str, dict[str, Any]]] = []
        self._ids = itertools.count(1)

    def seed(self, path: str, **row: Any) -> int:
        """A row that is there already."""
        custom = {key.removeprefix("cf_"): row.pop(key) for key in list(row) if key.startswith("cf_")}
        tags = [{"slug": slug} for slug in row.pop("tags", ["proxbox"])]
        number = next(self._ids)
        self._table(path)[number] = {"id": number, "tags": tags, "custom_fields": custom, **row}
        return number

    def _table(self, path: str) -> dict[int, dict[str, Any]]:
        return self.tables.setdefault(path, {})

    def rows(self, path: str) -> list[dict[str, Any]]:
        return list(self._table(path).values())

    def row(self, path: str, **values: Any) -> dict[str, Any]:
        """The one row that has these values."""
        found = [row for row in self.rows(path) if all(row.get(key) == value for key, value in values.items())]
        assert len(found) == 1, f"{path} {values}: {found}"
        return found[0]

    # -- the client ---------------------------------------------------------------------------------------------

    def read(
        self, path: str, filters: dict[str, Any] | None = None, fields: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        self.reads.append((path, dict(filters or {})))
        return [deepcopy(row) for row in self.rows(path) if all(_fits(row, *item) for item in (filters or {}).items())]

    def create(self, path: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        self.writes.append(("create", path, deepcopy(list(rows))))
        made = [{"custom_fields": {}, "tags": [], **deepcopy(row), "id": next(self._ids)} for row in rows]
        self._check(path, dict(enumerate(made)), by_index=True)
        self._table(path).update({row["id"]: row for row in made})
        return deepcopy(made)

    def update(self, path: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        self.writes.append(("update", path, deepcopy(list(rows))))
        after = {}
        for row in rows:
            old = self._table(path)[row["id"]]
            custom = {**old["custom_fields"], **row.get("custom_fields", {})}
            after[row["id"]] = {**deepcopy(old), **deepcopy(row), "custom_fields": custom}
            added, removed = (after[row["id"]].pop(f"{verb}_tags", []) for verb in ("add", "remove"))
            tags = [tag for tag in after[row["id"]]["tags"] if tag not in removed]
            after[row["id"]]["tags"] = [*tags, *(tag for tag in added if tag not in tags)]
        self._check(path, after, by_index=False)
        self._table(path).update(after)
        return deepcopy(list(after.values()))

    def delete(self, path: str, ids: Sequence[int]) -> None:
        self.writes.append(("delete", path, [{"id": number} for number in ids]))
        for number in ids:
            del self._table(path)[number]
            for machine in ("dcim/devices", "virtualization/virtual-machines") if path == ADDRESSES else ():
                for row in self.rows(machine):
                    for name in ("primary_ip4", "primary_ip6"):
                        if row.get(name) == number:
                            row[name] = None

    # -- its rules ----------------------------------------------------------------------------------------------

    def _check(self, path: str, rows: dict[int, dict[str, Any]], *, by_index: bool) -> None:
        check: Callable[[dict[str, Any]], str | None] = {ADDRESSES: self._bad_address}.get(path, lambda row: None)
        if path in ("dcim/devices", "virtualization/virtual-machines"):
            check = self._bad_primary
        bad = {key: reason for key, row in rows.items() if (reason := check(row))}
        if bad:
            raise RowsRefused("refused", bad if by_index else {}, {} if by_index else bad)

    def _machine_of(self, address: dict[str, Any]) -> tuple[str, int] | None:
        if address.get("assigned_object_id") is None:
            return None
        path, name, machines = MACHINES[address["assigned_object_type"]]
        return machines, self._table(path)[address["assigned_object_id"]][name]

    def _bad_address(self, row: dict[str, Any]) -> str | None:
        host = row["address"].partition("/")[0]
        for other in self.rows(ADDRESSES):
            if other["id"] != row["id"] and other["address"].partition("/")[0] == host and not other.get("vrf"):
                return f"Duplicate IP address found in global table: {other['address']}"
        old = self._table(ADDRESSES).get(row["id"])
        place = self._machine_of(old) if old else None
        if old is None or place is None or place == self._machine_of(row):
            return None
        machine = self._table(place[0])[place[1]]
        if row["id"] in (machine.get("primary_ip4"), machine.get("primary_ip6")):
            return "Cannot reassign IP address while it is designated as the primary IP for the parent object"
        return None

    def _bad_primary(self, row: dict[str, Any]) -> str | None:
        for name in ("primary_ip4", "primary_ip6"):
            if row.get(name) is not None:
                address = self._table(ADDRESSES)[row[name]]
                place = self._machine_of(address)
                if place is None or place[1] != row["id"]:
                    return f"{name}: {address['address']} is not assigned to this machine"
        return None

    # -- runs ---------------------------------------------------------------------------------------------------

    def state(self, specs: Iterable[ModelSpec], endpoint: str = "ams1") -> NetBoxState:
        return NetBoxState(self, endpoint, specs)

    def apply(
        self,
        classes: Iterable[Desired],
        specs: Iterable[ModelSpec],
        rules: Rules | None = None,
        *,
        dry_run: bool = False,
    ) -> dict[str, tuple[Plan, Applied]]:
        """One run: each class planned and written in its turn, with a state of its own."""
        self.writes.clear()
        self.reads.clear()
        state = self.state(specs)
        done: dict[str, tuple[Plan, Applied]] = {}
        for desired in classes:
            made = plan(desired, state, rules or Rules())
            applied = Applied()
            if not dry_run:
                Writer(self, state).apply(made, applied)
            done[desired.object_class.name] = (made, applied)
        return done


def _fits(row: dict[str, Any], name: str, wanted: Any) -> bool:
    wanted = wanted if isinstance(wanted, list) else [wanted]
    if name.startswith("cf_"):
        return row["custom_fields"].get(name.removeprefix("cf_")) in wanted
    if name == "vrf_id":
        return row.get("vrf") is None if wanted == ["null"] else row.get("vrf") in wanted
    if name == "address":
        return row["address"].partition("/")[0] in wanted or row["address"] in wanted
    if name == "vminterface_id":
        return row.get("assigned_object_type") == "virtualization.vminterface" and row["assigned_object_id"] in wanted
    if name == "interface_id":
        return row.get("assigned_object_type") == "dcim.interface" and row["assigned_object_id"] in wanted
    return row.get(name.removesuffix("_id") if name.removesuffix("_id") in row else name) in wanted


def failures(done: dict[str, tuple[Plan, Applied]]) -> list[str]:
    """All that failed in a run, for people."""
    return [
        f"{name}: {skip.label}: {skip.reason}"
        for name, (made, applied) in done.items()
        for skip in (*made.failures, *applied.failed)
    ]
