"""From what NetBox should hold and what it holds to the writes that make the difference. Pure over its inputs.

:func:`plan` never writes. It reads NetBox only through the :class:`NetBoxState` it is given, and what it returns says
field by field what would change; :mod:`proxbox_dagster.netbox.apply` does exactly that and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from proxbox_dagster.facts import UNOBSERVED
from proxbox_dagster.netbox.moves import Release, held, is_elsewhere, releases
from proxbox_dagster.netbox.removal import RemovalRules, Removals, first_mark, missing_record, plan_removals
from proxbox_dagster.netbox.spec import (
    ENDPOINT_FIELD,
    MEMORY_FIELD,
    MISSING_FIELD,
    MISSING_TAG,
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
    removal: RemovalRules = field(default_factory=RemovalRules)
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
    """Fields of one row to be changed: ``changes`` maps field to (before, after).

    ``row_id`` is 0 in a dry run for a row that another class is still to make.
    """

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
    retires: list[Update] = field(default_factory=list)
    """Rows whose identity another object has taken over (a re-used VMID): released before anything is made."""
    releases: list[Release] = field(default_factory=list)
    """Rows that must let go of rows that move to another parent: written before the updates."""
    removals: Removals = field(default_factory=Removals)
    present: set[int] = field(default_factory=set)
    """Ids of the rows whose objects were seen in this run."""

    @property
    def seen(self) -> int:
        parts: tuple[Sized, ...] = (self.creates, self.updates, self.unchanged, self.skips, self.failures)
        return sum(len(part) for part in parts)

    @property
    def writes(self) -> bool:
        return bool(self.creates or self.updates or self.retires or self.removals.writes)


def plan(desired: Desired, state: NetBoxState, rules: Rules, now: datetime | None = None) -> Plan:
    """The writes that bring NetBox to ``desired``; empty when it is there already. ``now`` dates new marks."""
    spec = desired.object_class.spec
    made = Plan(desired.object_class, notes=list(desired.notes))
    rows = _without_doubles(desired.rows, spec, state, made)
    if spec.ownership is Ownership.SHARED:
        state.load_shared(spec, rows)
    elif rows or desired.skips:
        state.load(spec)
    _note_skips(desired, state, made)
    _Planner(desired, state, rules, made).run(rows)
    _plan_releases(spec, state, made)
    made.removals = plan_removals(desired, made.present, state, rules.removal, now or datetime.now(UTC))
    return made


def _plan_releases(spec: ModelSpec, state: NetBoxState, made: Plan) -> None:
    moving = {item.row_id: item.row for item in made.updates if spec.parent in item.changes}
    made.releases = releases(spec, moving, state)
    for release in made.releases:
        names = " and ".join(release.changes)
        made.notes.append(f"{release.label} lets go of its {names}, which moves to another interface")


def _note_skips(desired: Desired, state: NetBoxState, made: Plan) -> None:
    """Account for what the mapping could not make rows of. What NetBox has of it stays as it is."""
    spec = desired.object_class.spec
    for skip in desired.skips:
        (made.failures if skip.outcome is Outcome.FAILED else made.skips).append(skip)
        if skip.key is None:
            continue
        ref = Ref(spec.index_name, skip.key)
        target = state.resolve(ref)
        if isinstance(target, int):
            made.present.add(target)
        else:
            state.block(ref, f"{skip.label}: {skip.reason}")


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

    def __init__(self, desired: Desired, state: NetBoxState, rules: Rules, made: Plan) -> None:
        self.desired, self.state, self.rules, self.made = desired, state, rules, made
        self.spec = spec = desired.object_class.spec
        overrides = rules.policies.get(made.object_class.name, rules.policies.get(spec.name, {}))
        self.policies = {item.name: overrides.get(item.name, item.policy) for item in spec.fields}
        self.movers: dict[Any, dict[str, Any]] = {}

    def run(self, rows: list[Row]) -> None:
        matched: list[tuple[Row, dict[str, Any]]] = []
        absent: list[Row] = []
        for row in rows:
            found = self.state.find(self.spec, row)
            if found is not None and self._is_another(row, found):
                self._retire(row, found)
                absent.append(row)
            elif found is not None:
                self.made.present.add(found["id"])
                matched.append((row, found))
            elif self.spec.update_only:
                self._without_base(row)
            elif self._parents_ready(row):
                absent.append(row)
        absent = [replace(row, values={**row.initial, **row.values}) for row in absent]
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

    def _without_base(self, row: Row) -> None:
        """Fields of a row that another class makes and NetBox does not have: only a dry run knows that it will."""
        target = self.state.resolve(self._ref(row))
        if isinstance(target, Blocked):
            self._fail(row, target.reason, Outcome.SKIPPED)
            return
        wanted = self._new_values(replace(row, values={**row.initial, **row.values}))
        names = [item.name for item in self.spec.fields if item.name in wanted]
        self.made.updates.append(Update(row, 0, {name: (None, wanted[name]) for name in names}))

    def _parents_ready(self, row: Row) -> bool:
        """False, with the row accounted for, when something it cannot be without is not in NetBox."""
        for item in self.spec.fields:
            value = row.values.get(item.name)
            if item.required and value is UNOBSERVED:
                self._fail(row, f"{item.name} could not be observed in Proxmox yet", Outcome.SKIPPED)
                return False
            needed = item.required or item.name in self.spec.identity
            if needed and isinstance(value, Ref) and value.index != self.spec.index_name:
                target = self.state.resolve(value)
                if isinstance(target, Blocked):
                    self._fail(row, f"{item.name}: {target.reason}", Outcome.SKIPPED)
                    return False
        return True

    # -- identities that have changed hands ---------------------------------------------------------------------

    def _is_another(self, row: Row, found: dict[str, Any]) -> bool:
        """True where every proof of identity differs: the number was given to a new guest."""
        for name in self.spec.proof:
            wanted = row.values.get(name)
            current = decode(self.spec.by_name[name], found)
            if wanted is UNOBSERVED or wanted is None or current is None:
                return False
            if normal(self.spec.by_name[name], wanted) == current:
                return False
        return bool(self.spec.proof) and self.state.is_ours(self.spec, found)

    def _retire(self, row: Row, found: dict[str, Any]) -> None:
        """Take the identity off the old row and mark it, so that the new object inherits nothing of it."""
        mark = first_mark(self.spec, found, datetime.now(UTC))
        changes = dict(mark.changes)
        for name in self.spec.identity:
            if name != ENDPOINT_FIELD:
                changes[name] = (decode(self.spec.by_name[name], found), None)
        self.made.retires.append(Update(Row({}, mark.label), found["id"], changes))
        self.made.present.add(found["id"])
        self.made.notes.append(f"{mark.label} is gone: its number now belongs to {row.label}")
        self.state.release(self.spec, found)

    # -- rows that NetBox has -----------------------------------------------------------------------------------

    def _match(self, row: Row, found: dict[str, Any]) -> None:
        if self.spec.ownership is Ownership.SHARED or self.state.is_ours(self.spec, found):
            reason = held(self.desired, row, found, self.state)
            if reason is not None:
                self._fail(row, reason, Outcome.SKIPPED)
            elif row.only_new:
                self.made.unchanged.append(found["id"])
            else:
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
            current = decode(item, found)
            values = row.initial if item.name not in row.values and is_empty(current) else row.values
            wanted = self._wanted(item, values.get(item.name, UNOBSERVED), row)
            if wanted is UNOBSERVED:
                continue
            after = self._decide(item, current, wanted, memory, row, found, ours=ours, adopted=adopted)
            if after is not UNOBSERVED and after != current:
                changes[item.name] = (current, after)
        if ours and not self.spec.update_only:
            self._reappeared(found, changes)
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
        if item.name == self.spec.clash_field and current == f"{wanted}@{self.state.endpoint}":
            return UNOBSERVED
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
        if item.name == "status" and missing_record(found) and current == self.spec.missing_status:
            return wanted  # our own mark, not a person's edit
        known = item.name in memory
        if (known and memory[item.name] == remembered(current)) or (not known and is_empty(current)):
            return wanted
        if not known and is_empty(wanted):
            return UNOBSERVED  # a person filled what Proxmox says nothing about
        if known and is_empty(current) and self._fell_away(memory[item.name], item, row):
            return wanted
        self.made.conflicts.append(Conflict(row.label, item.name, current, wanted, found["id"]))
        return UNOBSERVED

    def _fell_away(self, last: Any, item: FieldSpec, row: Row) -> bool:
        """True where a reference is empty because NetBox cleared it, when its target was deleted, and no person did."""
        ref = row.values.get(item.name, row.initial.get(item.name))
        return isinstance(ref, Ref) and isinstance(last, int) and self.state.is_gone(ref.index, last)

    def _reappeared(self, found: dict[str, Any], changes: dict[str, tuple[Any, Any]]) -> None:
        """Clear every mark of a row whose source is there again."""
        record = missing_record(found)
        if not record:
            return
        changes[MISSING_FIELD] = (record, None)
        if "tags" in self.spec.by_name:
            tags = decode(self.spec.by_name["tags"], found)
            changes["tags"] = (tags, changes.get("tags", (tags, tags))[1] - {MISSING_TAG})
        if self.spec.missing_status and "status" in self.spec.by_name and "status" not in changes:
            current = decode(self.spec.by_name["status"], found)
            if current == self.spec.missing_status and record.get("status") not in (None, current):
                changes["status"] = (current, record["status"])

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
        given = {**row.initial, **row.values}
        managed = [name for name in changes if name in given and self.policies.get(name) is Policy.MANAGED]
        if not managed:
            return None
        new = dict(memory)
        for name in managed:
            item = self.spec.by_name[name]
            # For tags the memory is what we want on the row, not what people have put beside it.
            value = normal(item, given[name]) if item.kind is Kind.TAGS else changes[name][1]
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
            self.movers = self._find_movers(rows)
        for position, row in enumerate(rows):
            rival = rivals.get(position)
            if rival is None and self._taken_over(row):
                continue
            if rival is not None and self.state.is_row_of(self.spec, rival, row):
                self.state.put(self.spec, rival)
                self.made.present.add(rival["id"])
                self._match(row, rival)
                continue
            if rival is None:
                self.made.creates.append(Create(row, self._ref(row), self._new_values(row)))
            elif self._may_adopt(row, rival):
                self._adopt(row, rival)
            else:
                self._fail(row, self._conflict(row, rival))

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

    def _taken_over(self, row: Row) -> bool:
        """A guest that came from another configured cluster keeps its row: there it is missing, and the proof fits.

        Only classes with a proof, and only by its first field (the SMBIOS uuid), which two guests never share.
        """
        if not self.spec.proof:
            return False
        proof = self.spec.proof[0]
        wanted = row.values.get(proof)
        if wanted is UNOBSERVED or wanted is None:
            return False
        found = self.movers.get(normal(self.spec.by_name[proof], wanted))
        if found is None:
            return False
        self.state.put(self.spec, found)
        self.made.present.add(found["id"])
        self._update(row, found, adopted=True)
        self.made.notes.append(f"{row.label} came from endpoint {self.state.owner_of(found)} and keeps its row")
        return True

    def _find_movers(self, rows: list[Row]) -> dict[Any, dict[str, Any]]:
        """Missing rows of other endpoints by the first proof of identity, where it is not ambiguous."""
        if not self.spec.proof or not rows:
            return {}
        proof = self.spec.proof[0]
        found: dict[Any, list[dict[str, Any]]] = {}
        for candidate in self.state.look_up(self.spec, UniqueKey((proof,), proof), rows):
            owner = self.state.owner_of(candidate)
            if owner and owner != self.state.endpoint and missing_record(candidate):
                found.setdefault(decode(self.spec.by_name[proof], candidate), []).append(candidate)
        return {value: those[0] for value, those in found.items() if len(those) == 1}

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

    def _may_adopt(self, row: Row, rival: dict[str, Any]) -> bool:
        if self.state.owner_of(rival) is not None:
            return False  # another endpoint's, or ours under another identity
        if is_elsewhere(self.desired, row, rival, self.state):
            return False  # adopting it would take it from where people put it
        tagged = "tags" in self.spec.by_name and OWNER_TAG in decode(self.spec.by_name["tags"], rival)
        return self.rules.adopt == "by_name" or (tagged and (self.spec.adopt_tagged or self.rules.adopt == "tagged"))

    def _adopt(self, row: Row, rival: dict[str, Any]) -> None:
        self.state.put(self.spec, rival)
        self.made.present.add(rival["id"])
        self._update(row, rival, adopted=True)

    def _conflict(self, row: Row, rival: dict[str, Any]) -> str:
        owner = self.state.owner_of(rival)
        name = rival.get(self.spec.label) or rival["id"]
        what = f"NetBox already has {self.spec.name} '{name}' (id {rival['id']})"
        if owner and owner != self.state.endpoint:
            return f"{what}, which belongs to endpoint {owner}; rename one of the two in Proxmox"
        if owner:
            return f"{what}, which is another object of this endpoint; rename one of the two in Proxmox"
        if is_elsewhere(self.desired, row, rival, self.state):
            return f"{what}, which is assigned to something else and is not taken from it; remove one of the two"
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
