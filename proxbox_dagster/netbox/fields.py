"""Field by field: what a row of NetBox should get, and what is a person's and stays. Pure over its inputs.

Every kind of run comes through here, so that an edit that one run keeps is kept by all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxbox_dagster.facts import UNOBSERVED
from proxbox_dagster.netbox.changes import Conflict, Plan, Update
from proxbox_dagster.netbox.records import memory_of, missing_record
from proxbox_dagster.netbox.spec import (
    ENDPOINT_FIELD,
    MEMORY_FIELD,
    MISSING_FIELD,
    MISSING_TAG,
    FieldSpec,
    Kind,
    ModelSpec,
    Ownership,
    Policy,
    Ref,
    Row,
)
from proxbox_dagster.netbox.state import Blocked, NetBoxState, Pending
from proxbox_dagster.netbox.values import decode, is_empty, normal, remembered


class FieldRules:
    """The fields of one class's rows. ``policies`` are those of the spec under the settings' overrides."""

    def __init__(self, spec: ModelSpec, policies: Mapping[str, Policy], state: NetBoxState, made: Plan) -> None:
        self.spec, self.policies, self.state, self.made = spec, policies, state, made

    def update(self, row: Row, found: dict[str, Any], *, adopted: bool = False) -> None:
        """Note what a row of NetBox gets of ``row``, and the edits that are kept."""
        ours = adopted or self.state.is_ours(self.spec, found)
        memory = memory_of(found)
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

    def new_values(self, row: Row) -> dict[str, Any]:
        """What a row that NetBox does not have is made with, our memory of it included."""
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
