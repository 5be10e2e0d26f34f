"""From what NetBox should hold and what it holds to the writes that make the difference. Pure over its inputs.

:func:`plan` never writes. It reads NetBox only through the :class:`NetBoxState` it is given, and what it returns says
field by field what would change; :mod:`proxbox_dagster.netbox.apply` does exactly that and nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from proxbox_dagster.facts import UNOBSERVED
from proxbox_dagster.netbox.changes import Create, Plan, Rules, Update
from proxbox_dagster.netbox.fields import FieldRules
from proxbox_dagster.netbox.identity import Identities, aside_of, renamed
from proxbox_dagster.netbox.moves import followers, held, releases
from proxbox_dagster.netbox.records import is_marked, memory_of
from proxbox_dagster.netbox.removal import Removals, first_mark, plan_removals
from proxbox_dagster.netbox.spec import (
    ENDPOINT_FIELD,
    KEEP_TAG,
    OWNER_TAG,
    Desired,
    ModelSpec,
    Outcome,
    Ownership,
    Policy,
    Ref,
    Row,
    Skip,
)
from proxbox_dagster.netbox.state import NetBoxState
from proxbox_dagster.netbox.tables import Blocked, key_of
from proxbox_dagster.netbox.values import decode, has_tag


def plan(desired: Desired, state: NetBoxState, rules: Rules, now: datetime | None = None) -> Plan:
    """The writes that bring NetBox to ``desired``; empty when it is there already. ``now`` dates new marks."""
    spec = desired.object_class.spec
    made = Plan(desired.object_class, notes=list(desired.notes))
    rows = _without_doubles(desired.rows, spec, made)
    if spec.ownership is Ownership.SHARED:
        state.load_shared(spec, rows)
    elif rows or desired.skips:
        state.load(spec)
    _note_skips(desired, state, made)
    _Planner(desired, state, rules, made, now or datetime.now(UTC)).run(rows)
    _plan_releases(spec, state, made)
    return made


def _plan_releases(spec: ModelSpec, state: NetBoxState, made: Plan) -> None:
    moving = {item.row_id: item.row for item in made.updates if spec.parent in item.changes}
    let_go = releases(spec, moving, state)
    made.releases += let_go
    for release in let_go:
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


def _without_doubles(rows: Iterable[Row], spec: ModelSpec, made: Plan) -> list[Row]:
    first: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        key = key_of(spec, row)
        if key in first:
            reason = f"Proxmox names this {spec.name} twice ({first[key].label} and {row.label}); the first is used"
            made.failures.append(Skip(row.label, reason, Outcome.FAILED))
        else:
            first[key] = row
    return list(first.values())


class _Planner:
    """One class's plan in the making."""

    def __init__(self, desired: Desired, state: NetBoxState, rules: Rules, made: Plan, now: datetime) -> None:
        self.desired, self.state, self.rules, self.made, self.now = desired, state, rules, made, now
        self.spec = spec = desired.object_class.spec
        overrides = rules.policies.get(made.object_class.name, rules.policies.get(spec.name, {}))
        policies = {item.name: overrides.get(item.name, item.policy) for item in spec.fields}
        self.fields = FieldRules(spec, policies, state, made, rules.proof)
        self.identities = Identities(desired, state, rules)
        self.tag_lost = ""

    def run(self, rows: list[Row]) -> None:
        matched: list[tuple[Row, dict[str, Any]]] = []
        absent: list[Row] = []
        taken: list[tuple[Row, dict[str, Any]]] = []
        for row in rows:
            found = self.state.find(self.spec, row)
            if found is not None and self.identities.is_another(row, found):
                self.made.present.add(found["id"])
                taken.append((row, found))
            elif found is not None:
                self.made.present.add(found["id"])
                matched.append((row, found))
            elif self.spec.update_only:
                self._without_base(row)
            elif self.spec.ownership is Ownership.SHARED and self.state.is_expected(self._ref(row)):
                self.made.unchanged.append(0)  # in a dry run: another class of this run makes it
            elif self._parents_ready(row):
                absent.append(row)
        self._released(matched)
        if self.tag_lost:
            # One row with the tag, and the next run would take all others for released by hand.
            for row in absent:
                self._fail(row, f"it is not made: {self.tag_lost}")
            absent = []
        self.made.removals = self._removals(len(absent), len(taken))
        absent += self._retire_all(taken)
        absent = [replace(row, values={**row.initial, **row.values}) for row in absent]
        for row in absent:  # first all, so that rows of this class may refer to one another
            self.state.expect(self._ref(row))
        for row, found in matched:
            self._match(row, found)
        self._absent(absent, [row for row, _ in matched])
        name = self.spec.gives_way
        self._free_names({found["id"] for row, found in matched if row.values.get(str(name)) is UNOBSERVED})

    def _removals(self, made: int, retired: int) -> Removals:
        return plan_removals(
            self.desired,
            self.made.present,
            self.state,
            self.rules.removal,
            self.now,
            made=made,
            retired=retired,
            outside=self._outside(),
            proof=self.rules.proof,
            status=self._status_is_ours(),
        )

    def _status_is_ours(self) -> bool:
        return self.fields.policies.get("status") in (Policy.ALWAYS, Policy.MANAGED)

    def _outside(self) -> dict[int, str]:
        """The rows of what the settings leave out, with the reason: they are let go of, not deleted."""
        found = ((self.state.resolve(Ref(self.spec.index_name, key)), why) for key, why in self.desired.outside.items())
        return {target: reason for target, reason in found if isinstance(target, int)}

    def _ref(self, row: Row) -> Ref:
        return Ref(self.spec.index_name, key_of(self.spec, row))

    def _fail(self, row: Row, reason: str, outcome: Outcome = Outcome.FAILED) -> None:
        skip = Skip(row.label, reason, outcome, key_of(self.spec, row))
        (self.made.failures if outcome is Outcome.FAILED else self.made.skips).append(skip)
        if not self.spec.update_only:
            self.state.block(self._ref(row), f"{row.label}: {reason}")

    def _without_base(self, row: Row) -> None:
        """Fields of a row that another class makes and NetBox does not have: only a dry run knows that it will."""
        target = self.state.resolve(self._ref(row))
        if isinstance(target, Blocked):
            self.made.unresolved.append(Skip(row.label, target.reason))
            self._fail(row, target.reason, Outcome.SKIPPED)
            return
        wanted = self.fields.new_values(replace(row, values={**row.initial, **row.values}))
        # What tells whose the row is stands on it already, once the other class has made it.
        told = {ENDPOINT_FIELD, *self.spec.identity}
        names = [item.name for item in self.spec.fields if item.name in wanted and item.name not in told]
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
                    reason = f"{item.name}: {target.reason}"
                    self.made.unresolved.append(Skip(row.label, reason))
                    self._fail(row, reason, Outcome.SKIPPED)
                    return False
        return True

    # -- identities that have changed hands ---------------------------------------------------------------------

    def _retire_all(self, taken: list[tuple[Row, dict[str, Any]]]) -> list[Row]:
        """The objects that get a row of their own, after those that had their identities have let go of them.

        So many at once that the brake holds are rather another cluster behind the same address: nothing is touched.
        """
        for row, found in taken:
            if self.made.removals.braked:
                self._fail(row, f"it is another than NetBox's {self.spec.name} {found['id']}, and the brake holds")
                self.state.release(self.spec, found)  # nor is what is under the one written to the other
            else:
                self._retire(row, found)
        return [] if self.made.removals.braked else [row for row, _ in taken]

    def _retire(self, row: Row, found: dict[str, Any]) -> None:
        """Take the identity off the old row and mark it, so that the new object inherits nothing of it."""
        mark = first_mark(self.spec, found, self.now, status=self._status_is_ours())
        kept = has_tag(self.spec, found, KEEP_TAG)
        kept = kept or self.rules.removal.mode(self.made.object_class.name, self.spec) == "ignore"
        changes = {} if kept or is_marked(found) else dict(mark.changes)
        for name in self.spec.identity:
            if name != ENDPOINT_FIELD:
                changes[name] = (decode(self.spec.by_name[name], found), None)
        self.made.retires.append(Update(Row({}, mark.label), found["id"], changes, frees=self._ref(row)))
        self.made.notes.append(f"{mark.label} is gone: its number now belongs to {row.label}")
        self.state.release(self.spec, found)

    def _free_names(self, unnamed: Collection[int]) -> None:
        """Rows that get a name which another row of ours still holds: that one gives way if its object is gone.

        Where the holder's name was not observed (``unnamed``), or the holder itself, nobody knew that it is taken:
        they keep theirs and get everything else, for NetBox would refuse the whole row.
        """
        name = self.spec.gives_way
        wanted = [item for item in self.made.updates if name in item.changes]
        if not wanted or name is None:
            return
        holders = {self.identities.held_key(row): row for row in self.state.rows(self.spec)}
        for item in wanted:
            own = self.state.row(self.spec, item.row_id)
            rival = holders.get(self.identities.held_key(own, item.changes[name][1])) if own else None
            if own is None or rival is None or rival["id"] == item.row_id:
                continue
            seen = rival["id"] in self.made.present
            if rival["id"] in unnamed or not (seen or self._give_way(item.row, rival)):
                self._keep_name(name, item, own, rival)

    def _keep_name(self, name: str, item: Update, own: dict[str, Any], rival: dict[str, Any]) -> None:
        old, new = item.changes.pop(name)
        self.made.notes.append(f"{item.row.label} stays {old}: {new} is still {self.spec.name} {rival['id']} in NetBox")
        if item.memory is not None:
            last = {key: value for key, value in memory_of(own).items() if key == name}
            item.memory = {**{key: value for key, value in item.memory.items() if key != name}, **last}
        if not item.changes:
            self.made.updates.remove(item)
            self.made.unchanged.append(item.row_id)

    def _give_way(self, row: Row, rival: dict[str, Any]) -> bool:
        """True where a row whose object is gone gives up its name for ``row``."""
        removals = self.made.removals
        gone = {mark.row_id for mark in removals.marks} | {item.row_id for item in removals.deletes}
        names = self.identities.gives_way(rival, gone)
        if names is None or self.spec.gives_way is None:
            return False
        memory = {**memory_of(rival), self.spec.gives_way: names[1]}
        self.made.retires.append(Update(Row({}, names[0]), rival["id"], {self.spec.gives_way: names}, memory))
        self.made.notes.append(f"{names[0]} is gone and gives up its name for {row.label}: it is {names[1]} now")
        return True

    def _makes_room(self, rival: dict[str, Any]) -> bool:
        """True where the row that has a new one's name gets another in this plan: it gets that one first.

        Where a third row still has that one, it steps aside until then.
        """
        name = self.spec.gives_way
        item = next((item for item in self.made.updates if item.row_id == rival["id"] and name in item.changes), None)
        if item is None or name is None:
            return False
        after = item.changes[name][1]
        key = self.identities.held_key(rival, after)
        if key == self.identities.held_key(rival):
            return False
        held = {self.identities.held_key(row) for row in self.state.rows(self.spec)}
        to = aside_of(self.spec, rival) if key in held else after
        self.made.retires.append(renamed(self.spec, Row({}, item.row.label), rival, to))
        return True

    # -- rows that NetBox has -----------------------------------------------------------------------------------

    def _released(self, matched: list[tuple[Row, dict[str, Any]]]) -> None:
        """All rows of a class without our tag were not released one by one: the tag itself was deleted."""
        if self.spec.ownership is Ownership.SHARED or self.spec.update_only or self.state.narrowed:
            return
        if len(matched) > 1 and not any(self.state.is_ours(self.spec, found) for _, found in matched):
            self.tag_lost = (
                f"not one of the {self.spec.name} of this endpoint has the tag '{OWNER_TAG}' any more, so nothing is "
                f"written to them; put it back on all that have {ENDPOINT_FIELD.removeprefix('cf.')} "
                f"'{self.state.endpoint}' (in NetBox's list: filter, select all, edit, add tag)"
            )

    def _match(self, row: Row, found: dict[str, Any]) -> None:
        if self.spec.ownership is Ownership.SHARED or self.state.is_ours(self.spec, found):
            reason = held(self.desired, row, found, self.state)
            if reason is not None:
                self._fail(row, reason, Outcome.SKIPPED)
            elif row.only_new:
                self.made.unchanged.append(found["id"])
            else:
                self.fields.update(row, found)
        elif self.tag_lost:
            self._fail(row, self.tag_lost)
        else:
            self._fail(
                row,
                f"NetBox's {self.spec.name} {found['id']} is this object, but its tag '{OWNER_TAG}' was removed: "
                "released by hand and left alone; put the tag back to have it synced again",
                Outcome.SKIPPED,
            )

    # -- rows that NetBox has not -------------------------------------------------------------------------------

    def _absent(self, rows: list[Row], matched: list[Row]) -> None:
        rivals: dict[int, dict[str, Any]] = {}
        if self.spec.ownership is not Ownership.SHARED:
            rivals = self.identities.rivals(rows)
            self.identities.look_for_movers(rows, matched)
        for position, row in enumerate(rows):
            rival = rivals.get(position)
            if rival is not None and self.state.is_row_of(self.spec, rival, row):
                self.state.put(self.spec, rival)
                self.made.present.add(rival["id"])
                self._match(row, rival)
            elif rival is not None and self.identities.may_adopt(row, rival):
                self._adopt(row, rival)
            elif rival is not None and not (self._give_way(row, rival) or self._makes_room(rival)):
                self._fail(row, self.identities.conflict(row, rival))
            elif mover := self.identities.mover(row):
                self._take_over(row, mover)
            else:
                self.made.creates.append(Create(row, self._ref(row), self.fields.new_values(row)))

    def _take_over(self, row: Row, found: dict[str, Any]) -> None:
        """A guest that came from another configured cluster keeps its row, and what is under it comes along."""
        owner = self.state.owner_of(found)
        self.made.notes.append(f"{row.label} came from endpoint {owner} and keeps its row")
        self.made.releases += followers(self.spec, found["id"], str(owner), self.state)
        self._adopt(row, found)

    def _adopt(self, row: Row, rival: dict[str, Any]) -> None:
        self.state.put(self.spec, rival)
        self.made.present.add(rival["id"])
        self.fields.update(row, rival, adopted=True)
