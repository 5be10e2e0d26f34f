"""Which row of NetBox an object of Proxmox is: taken-over numbers, guests that moved, names that are taken. Pure.

A name is an attribute. A row is an object's by its identity (endpoint, type, VMID), and a second proof (SMBIOS uuid)
decides where the identity changed hands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from proxbox_dagster.facts import UNOBSERVED
from proxbox_dagster.netbox.changes import Rules, Update
from proxbox_dagster.netbox.moves import is_elsewhere
from proxbox_dagster.netbox.records import is_marked, memory_of, missing_record
from proxbox_dagster.netbox.spec import OWNER_TAG, Desired, ModelSpec, Ref, Row, UniqueKey
from proxbox_dagster.netbox.state import NetBoxState
from proxbox_dagster.netbox.tables import identity_of
from proxbox_dagster.netbox.values import decode, has_tag, normal


class Identities:
    """Who is who in one class."""

    def __init__(self, desired: Desired, state: NetBoxState, rules: Rules) -> None:
        self.desired, self.state, self.rules = desired, state, rules
        self.spec = desired.object_class.spec
        self._movers: dict[Any, dict[str, Any]] = {}

    def is_another(self, row: Row, found: dict[str, Any]) -> bool:
        """True where every proof of identity differs: the number was given to a new guest.

        Compared is what we last wrote: a person's own serial or name proves nothing.
        """
        if not self.spec.proof or not self.state.is_ours(self.spec, found):
            return False
        differ = [self._differs(name, row, found) for name in self.spec.proof]
        if False in differ or True not in differ:
            return False
        return None not in differ or self._nothing_in_common(row, found)

    def _differs(self, name: str, row: Row, found: dict[str, Any]) -> bool | None:
        """``None`` where one of the two is not known."""
        wanted = row.values.get(name)
        current = memory_of(found).get(name, decode(self.spec.by_name[name], found))
        if wanted is UNOBSERVED or wanted is None or current is None:
            return None
        return bool(normal(self.spec.by_name[name], wanted) != current)

    def _nothing_in_common(self, row: Row, found: dict[str, Any]) -> bool:
        if self.spec.proof_under is None or not row.proofs:
            return False
        path, name, column = self.spec.proof_under
        known = {str(item.get(column)) for item in self.state.ours_under(path, name, [found["id"]])}
        return bool(known) and not known & row.proofs

    def rivals(self, rows: list[Row]) -> dict[int, dict[str, Any]]:
        """Rows that hold a unique key of ours under another identity, by position."""
        rivals: dict[int, dict[str, Any]] = {}
        for key in self.spec.unique:
            found: dict[tuple[Any, ...], dict[str, Any]] = {}
            for candidate in self.state.look_up(self.spec, key, rows):
                found.setdefault(self._unique_of_found(key, candidate), candidate)
            if not found:
                continue
            for position, row in enumerate(rows):
                rival = found.get(self._unique_of_row(key, row))
                if rival is not None:
                    rivals.setdefault(position, rival)
        return rivals

    def mover(self, row: Row) -> dict[str, Any] | None:
        """The row of a guest that came from another configured cluster: there it is missing, and the proof fits.

        Only classes with a proof, and only by its first field (the SMBIOS uuid), where exactly one row and one guest
        have it: a clone may have been given the same one.
        """
        value = self._first_proof(row)
        return self._movers.get(value) if value is not None else None

    def look_for_movers(self, rows: list[Row], matched: Iterable[Row]) -> None:
        """Ask NetBox for rows that ``rows`` (which it does not have) may have had under another endpoint."""
        if not self.spec.proof or not rows:
            return
        proof = self.spec.proof[0]
        wanted = Counter(value for row in (*rows, *matched) if (value := self._first_proof(row)) is not None)
        found: dict[Any, list[dict[str, Any]]] = {}
        for candidate in self.state.look_up(self.spec, UniqueKey((proof,), proof), rows):
            owner = self.state.owner_of(candidate)
            theirs = owner and owner != self.state.endpoint and has_tag(self.spec, candidate, OWNER_TAG)
            if theirs and missing_record(candidate):
                found.setdefault(decode(self.spec.by_name[proof], candidate), []).append(candidate)
        self._movers = {value: those[0] for value, those in found.items() if len(those) == 1 and wanted[value] == 1}

    def _first_proof(self, row: Row) -> Any:
        value = row.values.get(self.spec.proof[0]) if self.spec.proof else None
        return None if value is UNOBSERVED or value is None else normal(self.spec.by_name[self.spec.proof[0]], value)

    def held_key(self, found: dict[str, Any], name: Any = None) -> tuple[Any, ...]:
        """What a row holds of the unique key that its name is part of; with ``name``, what it would then hold."""
        key = next(key for key in self.spec.unique if self.spec.gives_way in key.fields)
        values = {part: decode(self.spec.by_name[part], found) for part in key.fields}
        if name is not None:
            values[str(self.spec.gives_way)] = name
        return tuple(_folded(key, value) for value in values.values())

    def gives_way(self, rival: dict[str, Any], gone: Collection[int]) -> tuple[str, str] | None:
        """(before, after) of the name that a row of ours gives up because its object is gone; ``None``: it does not.

        A name that a person gave it stays.
        """
        name = self.spec.gives_way
        if name is None or not self.state.is_ours(self.spec, rival):
            return None
        current = decode(self.spec.by_name[name], rival)
        ours = memory_of(rival).get(name) == current
        if not ours or not (rival["id"] in gone or missing_record(rival)):
            return None
        ending = f" (missing {rival['id']})"
        return current, current[: (self.spec.by_name[name].limit or 64) - len(ending)] + ending

    def _unique_of_found(self, key: UniqueKey, found: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(_folded(key, decode(self.spec.by_name[name], found)) for name in key.fields)

    def _unique_of_row(self, key: UniqueKey, row: Row) -> tuple[Any, ...]:
        parts: list[Any] = []
        for name in key.fields:
            value = row.values.get(name)
            if isinstance(value, Ref):
                value = self.state.resolve(value)
            elif value is not UNOBSERVED:
                value = normal(self.spec.by_name[name], value)
            parts.append(_folded(key, value))
        return tuple(parts)

    def may_adopt(self, row: Row, rival: dict[str, Any]) -> bool:
        """Whether the settings let a row of nobody's become ours."""
        if self.state.owner_of(rival) is not None and not self._is_lost(rival):
            return False  # another endpoint's, or ours under another identity
        if is_elsewhere(self.desired, row, rival, self.state):
            return False  # adopting it would take it from where people put it
        tagged = has_tag(self.spec, rival, OWNER_TAG)
        return self.rules.adopt == "by_name" or (tagged and (self.spec.adopt_tagged or self.rules.adopt == "tagged"))

    def _is_lost(self, rival: dict[str, Any]) -> bool:
        """True for a row of ours that has lost what it is known by: a custom field was emptied, or deleted."""
        ours = self.state.owner_of(rival) == self.state.endpoint
        return ours and identity_of(self.spec, rival) is None and not is_marked(rival)

    def conflict(self, row: Row, rival: dict[str, Any]) -> str:
        """Why a row is not made, for the operator."""
        owner = self.state.owner_of(rival)
        name = rival.get(self.spec.label) or rival["id"]
        what = f"NetBox already has {self.spec.name} '{name}' (id {rival['id']})"
        if owner and owner != self.state.endpoint:
            return f"{what}, which belongs to endpoint {owner}; {self.spec.clash_remedy}"
        if owner and self._is_lost(rival):
            return (
                f"{what}, which this project made and no longer knows, because a custom field of the group 'Proxmox' "
                "is empty; set it again, or run once with 'adopt: by_name' to have it known by its name"
            )
        if owner:
            return f"{what}, which is another object of this endpoint; {self.spec.clash_remedy}"
        if is_elsewhere(self.desired, row, rival, self.state):
            return f"{what}, which is assigned to something else and is not taken from it; remove one of the two"
        return (
            f"{what}, which this project did not make; rename it, or set 'adopt: by_name' "
            f"(or give it the tag '{OWNER_TAG}' and set 'adopt: tagged') to take it over"
        )


def step_aside(spec: ModelSpec, stuck: Sequence[Update], state: NetBoxState) -> Update | None:
    """A change by which one of the rows lets go, for a moment, of a name that another one of them is to get.

    Two guests that exchange their names hold each other up. Our memory goes along: where the run ends in between, the
    next one knows the name for ours. ``None`` where no row is in the way of another.
    """
    name = spec.gives_way or ""
    wanted = {str(item.changes[name][1]).casefold(): item.row_id for item in stuck if name in item.changes}
    for item in stuck:
        row = state.row(spec, item.row_id)
        if row is None or name not in item.changes:
            continue
        held = decode(spec.by_name[name], row)
        if wanted.get(held.casefold(), item.row_id) != item.row_id:
            return renamed(spec, item.row, row, aside_of(spec, row))
    return None


def aside_of(spec: ModelSpec, row: dict[str, Any]) -> str:
    """A name that nobody else has, for a row whose own name another one is to get before it can have its new one."""
    name = spec.by_name[str(spec.gives_way)]
    ending = f" (renamed {row['id']})"
    return str(decode(name, row))[: (name.limit or 64) - len(ending)] + ending


def renamed(spec: ModelSpec, desired: Row, row: dict[str, Any], to: str) -> Update:
    """The change of a row's name alone, and of our memory of it."""
    name = str(spec.gives_way)
    before = decode(spec.by_name[name], row)
    return Update(desired, row["id"], {name: (before, to)}, {**memory_of(row), name: to})


def _folded(key: UniqueKey, value: Any) -> Any:
    return value.casefold() if key.casefold and isinstance(value, str) else value
