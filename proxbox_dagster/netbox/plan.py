"""From what NetBox should hold and what it holds to the writes that make the difference. Pure over its inputs.

:func:`plan` never writes. It reads NetBox only through the :class:`NetBoxState` it is given, and what it returns says
field by field what would change; :mod:`proxbox_dagster.netbox.apply` does exactly that and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass, field
from typing import Any, Literal

from proxbox_dagster.facts import UNOBSERVED
from proxbox_dagster.netbox.spec import (
    ENDPOINT_FIELD,
    MEMORY_FIELD,
    OWNER_TAG,
    Desired,
    FieldSpec,
    Kind,
    ModelSpec,
    ObjectClass,
    Outcome,
    Ownership,
    Policy,
    Ref,
    Row,
    Skip,
    UniqueKey,
)
from proxbox_dagster.netbox.state import Blocked, NetBoxState, Pending
from proxbox_dagster.netbox.values import decode, is_empty, normal, remembered

Adopt = Literal["never", "tagged", "by_name"]


@dataclass(frozen=True)
class Rules:
    """The settings that bear on a plan. ``policies`` maps object class to field to policy."""

    adopt: Adopt = "never"
    policies: Mapping[str, Mapping[str, Policy]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Conflict:
    """A field that differs from its source and is left alone, because a person changed it."""

    label: str
    field: str
    netbox: Any
    proxmox: Any
    row_id: int


@dataclass
class Create:
    """A row to be made; ``values`` are comparable, references may still be :class:`Ref`."""

    row: Row
    ref: Ref
    values: dict[str, Any]


@dataclass
class Update:
    """Fields of one row to be changed: ``changes`` maps field to (before, after)."""

    row: Row
    row_id: int
    changes: dict[str, tuple[Any, Any]]
    memory: dict[str, Any] | None = None
    adopted: bool = False


@dataclass
class Plan:
    """What one object class needs. Every seen object is in exactly one of the first five lists."""

    object_class: ObjectClass
    creates: list[Create] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)
    unchanged: list[int] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    failures: list[Skip] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def seen(self) -> int:
        parts: tuple[Sized, ...] = (self.creates, self.updates, self.unchanged, self.skips, self.failures)
        return sum(len(part) for part in parts)

    @property
    def writes(self) -> bool:
        return bool(self.creates or self.updates)


def plan(desired: Desired, state: NetBoxState, rules: Rules) -> Plan:
    """The writes that bring NetBox to ``desired``; empty when it is there already."""
    spec = desired.object_class.spec
    made = Plan(desired.object_class, notes=list(desired.notes))
    for skip in desired.skips:
        (made.failures if skip.outcome is Outcome.FAILED else made.skips).append(skip)
        if skip.key is not None:
            state.block(Ref(spec.index_name, skip.key), f"{skip.label}: {skip.reason}")
    rows = _without_doubles(desired.rows, spec, state, made)
    if spec.ownership is Ownership.SHARED:
        state.load_shared(spec, rows)
    elif rows:
        state.load(spec)
    planner = _Planner(spec, state, rules, made)
    planner.run(rows)
    return made


def _without_doubles(rows: Iterable[Row], spec: ModelSpec, state: NetBoxState, made: Plan) -> list[Row]:
    first: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        key = state.key_of(spec, row)
        if key in first:
            reason = f"Proxmox names this {spec.name} twice ({first[key].label} and {row.label}); the first is used"
            made.failures.append(Skip(row.label, reason, Outcome.FAILED))
        else:
            first[key] = row
    return list(first.values())


class _Planner:
    """One class's plan in the making."""

    def __init__(self, spec: ModelSpec, state: NetBoxState, rules: Rules, made: Plan) -> None:
        self.spec, self.state, self.rules, self.made = spec, state, rules, made
        overrides = rules.policies.get(made.object_class.name, rules.policies.get(spec.name, {}))
        self.policies = {item.name: overrides.get(item.name, item.policy) for item in spec.fields}

    def run(self, rows: list[Row]) -> None:
        matched: list[tuple[Row, dict[str, Any]]] = []
        absent: list[Row] = []
        for row in rows:
            found = self.state.find(self.spec, row)
            if found is not None:
                matched.append((row, found))
            elif self.spec.update_only:
                self._fail(row, self._why_missing(row))
            elif self._parents_ready(row):
                absent.append(row)
        for row in absent:  # first all, so that rows of this class may refer to one another
            self.state.expect(self._ref(row))
        for row, found in matched:
            self._match(row, found)
        self._absent(absent)

    def _ref(self, row: Row) -> Ref:
        return Ref(self.spec.index_name, self.state.key_of(self.spec, row))

    def _fail(self, row: Row, reason: str, outcome: Outcome = Outcome.FAILED) -> None:
        skip = Skip(row.label, reason, outcome, self.state.key_of(self.spec, row))
        (self.made.failures if outcome is Outcome.FAILED else self.made.skips).append(skip)
        if not self.spec.update_only:
            self.state.block(self._ref(row), f"{row.label}: {reason}")

    def _why_missing(self, row: Row) -> str:
        target = self.state.resolve(self._ref(row))
        return target.reason if isinstance(target, Blocked) else f"{row.label} is not in NetBox yet"

    def _parents_ready(self, row: Row) -> bool:
        """False, with the row accounted for, when something it cannot be without is not in NetBox."""
        for item in self.spec.fields:
            value = row.values.get(item.name)
            if item.required and value is UNOBSERVED:
                self._fail(row, f"{item.name} could not be read from Proxmox, so the row cannot be made")
                return False
            needed = item.required or item.name in self.spec.identity
            if needed and isinstance(value, Ref) and value.index != self.spec.index_name:
                target = self.state.resolve(value)
                if isinstance(target, Blocked):
                    self._fail(row, f"{item.name}: {target.reason}", Outcome.SKIPPED)
                    return False
        return True

    # -- rows that NetBox has -----------------------------------------------------------------------------------

    def _match(self, row: Row, found: dict[str, Any]) -> None:
        if self.spec.ownership is Ownership.SHARED or self.state.is_ours(self.spec, found):
            self._update(row, found)
        else:
            self._fail(
                row,
                f"NetBox's {self.spec.name} {found['id']} is this object, but its tag '{OWNER_TAG}' was removed: "
                "released by hand and left alone; put the tag back to have it synced again",
                Outcome.SKIPPED,
            )

    def _update(self, row: Row, found: dict[str, Any], *, adopted: bool = False) -> None:
        ours = adopted or self.state.is_ours(self.spec, found)
        memory = decode_memory(found) if self.spec.has_memory else {}
        changes: dict[str, tuple[Any, Any]] = {}
        for item in self.spec.fields:
            if item.name not in row.values:
                continue
            wanted = self._wanted(item, row.values[item.name], row)
            if wanted is UNOBSERVED:
                continue
            current = decode(item, found)
            after = self._decide(item, current, wanted, memory, row, found, ours=ours, adopted=adopted)
            if after is not UNOBSERVED and after != current:
                changes[item.name] = (current, after)
        if not changes:
            self.made.unchanged.append(found["id"])
            return
        self.made.updates.append(Update(row, found["id"], changes, self._new_memory(memory, changes, row), adopted))

    def _decide(
        self,
        item: FieldSpec,
        current: Any,
        wanted: Any,
        memory: dict[str, Any],
        row: Row,
        found: dict[str, Any],
        *,
        ours: bool,
        adopted: bool,
    ) -> Any:
        """The value the field should get, or UNOBSERVED to leave it alone."""
        policy = self.policies[item.name]
        if item.kind is Kind.MEMBERS:
            return current | wanted
        if policy is Policy.NEVER or not ours:
            return UNOBSERVED
        if item.kind is Kind.TAGS:
            return self._tags(item, current, wanted, memory, policy, adopted=adopted)
        if policy is Policy.CREATE_ONLY:
            return wanted if adopted and is_empty(current) else UNOBSERVED
        if policy is Policy.FILL_IF_EMPTY:
            return wanted if is_empty(current) else UNOBSERVED
        if policy is Policy.ALWAYS or current == wanted or item.name in self.spec.identity:
            return wanted
        known = item.name in memory
        if (known and memory[item.name] == remembered(current)) or (not known and is_empty(current)):
            return wanted
        self.made.conflicts.append(Conflict(row.label, item.name, current, wanted, found["id"]))
        return UNOBSERVED

    @staticmethod
    def _tags(
        item: FieldSpec,
        current: frozenset[str],
        wanted: frozenset[str],
        memory: dict[str, Any],
        policy: Policy,
        *,
        adopted: bool,
    ) -> Any:
        """Only ours are removed, and what a person took off stays off."""
        if adopted:
            return current | wanted
        if policy in (Policy.CREATE_ONLY, Policy.FILL_IF_EMPTY):
            return UNOBSERVED
        last = frozenset(memory.get(item.name, ()))
        taken_off = last - current
        return (current - (last - wanted)) | (wanted - taken_off)

    def _new_memory(
        self, memory: dict[str, Any], changes: dict[str, tuple[Any, Any]], row: Row
    ) -> dict[str, Any] | None:
        """The memory after these changes, or ``None`` when no managed field is among them."""
        managed = [name for name in changes if self.policies[name] is Policy.MANAGED]
        if not managed:
            return None
        new = dict(memory)
        for name in managed:
            item = self.spec.by_name[name]
            # For tags the memory is what we want on the row, not what people have put beside it.
            value = normal(item, row.values[name]) if item.kind is Kind.TAGS else changes[name][1]
            new[name] = value if isinstance(value, Ref) else remembered(value)
        return new

    def _wanted(self, item: FieldSpec, value: Any, row: Row) -> Any:
        """A wanted value in comparable form; a reference to a row still to be made stays a Ref."""
        if value is UNOBSERVED:
            return UNOBSERVED
        if isinstance(value, Ref):
            return self._target(value, item, row)
        if item.kind is Kind.REFS:
            targets = [self._target(ref, item, row) if isinstance(ref, Ref) else ref for ref in value or ()]
            return UNOBSERVED if any(target is UNOBSERVED for target in targets) else frozenset(targets)
        return normal(item, value)

    def _target(self, ref: Ref, item: FieldSpec, row: Row) -> Any:
        target = self.state.resolve(ref)
        if isinstance(target, Blocked):
            self.made.notes.append(f"{row.label}: {item.name} is left alone: {target.reason}")
            return UNOBSERVED
        return ref if isinstance(target, Pending) else target

    # -- rows that NetBox has not -------------------------------------------------------------------------------

    def _absent(self, rows: list[Row]) -> None:
        if self.spec.ownership is Ownership.SHARED:
            rivals: dict[int, dict[str, Any]] = {}
        else:
            rivals = self._rivals(rows)
        for position, row in enumerate(rows):
            rival = rivals.get(position)
            if rival is None:
                self.made.creates.append(Create(row, self._ref(row), self._new_values(row)))
            elif self._may_adopt(rival):
                self._adopt(row, rival)
            else:
                self._fail(row, self._conflict(rival))

    def _rivals(self, rows: list[Row]) -> dict[int, dict[str, Any]]:
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

    def _may_adopt(self, rival: dict[str, Any]) -> bool:
        if self.state.owner_of(rival) is not None:
            return False  # another endpoint's, or ours under another identity
        tagged = "tags" in self.spec.by_name and OWNER_TAG in decode(self.spec.by_name["tags"], rival)
        return self.rules.adopt == "by_name" or (tagged and (self.spec.adopt_tagged or self.rules.adopt == "tagged"))

    def _adopt(self, row: Row, rival: dict[str, Any]) -> None:
        self.state.put(self.spec, rival)
        self._update(row, rival, adopted=True)

    def _conflict(self, rival: dict[str, Any]) -> str:
        owner = self.state.owner_of(rival)
        name = rival.get(self.spec.label) or rival["id"]
        what = f"NetBox already has {self.spec.name} '{name}' (id {rival['id']})"
        if owner and owner != self.state.endpoint:
            return f"{what}, which belongs to endpoint {owner}; rename one of the two in Proxmox"
        if owner:
            return f"{what}, which is another object of this endpoint; rename one of the two in Proxmox"
        return (
            f"{what}, which this project did not make; rename it, or set 'adopt: by_name' "
            f"(or give it the tag '{OWNER_TAG}' and set 'adopt: tagged') to take it over"
        )

    def _new_values(self, row: Row) -> dict[str, Any]:
        values: dict[str, Any] = {}
        memory: dict[str, Any] = {}
        for item in self.spec.fields:
            if item.name not in row.values or self.policies[item.name] is Policy.NEVER:
                continue
            wanted = self._wanted(item, row.values[item.name], row)
            if wanted is UNOBSERVED or is_empty(wanted):
                continue
            values[item.name] = wanted
            if self.policies[item.name] is Policy.MANAGED:
                memory[item.name] = wanted if isinstance(wanted, Ref) else remembered(wanted)
        if memory:
            values[MEMORY_FIELD] = memory
        if self.spec.ownership is Ownership.ENDPOINT:
            values.setdefault(ENDPOINT_FIELD, self.state.endpoint)
        return values


def _folded(key: UniqueKey, value: Any) -> Any:
    return value.casefold() if key.casefold and isinstance(value, str) else value


def decode_memory(found: dict[str, Any]) -> dict[str, Any]:
    """The managed values as last written, from the row's own custom field; empty when it is missing or damaged."""
    memory = (found.get("custom_fields") or {}).get(MEMORY_FIELD.removeprefix("cf."))
    return memory if isinstance(memory, dict) else {}
