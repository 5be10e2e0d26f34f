"""Field by field: what a row of NetBox should get, and what is a person's and stays. Pure over its inputs.

Every kind of run comes through here, so that an edit that one run keeps is kept by all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxbox_dagster.facts import UNOBSERVED
from proxbox_dagster.netbox.changes import Conflict, Plan, Update
from proxbox_dagster.netbox.records import can_remember, is_marked, memory_of, missing_record
from proxbox_dagster.netbox.removal import Proof
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
    Skip,
)
from proxbox_dagster.netbox.state import NetBoxState
from proxbox_dagster.netbox.tables import Blocked, Pending
from proxbox_dagster.netbox.values import decode, is_empty, normal, remembered


class FieldRules:
    """The fields of one class's rows. ``policies`` are those of the spec under the settings' overrides."""

    def __init__(
        self,
        spec: ModelSpec,
        policies: Mapping[str, Policy],
        state: NetBoxState,
        made: Plan,
        proof: Proof | None = None,
    ) -> None:
        self.spec, self.policies, self.state, self.made, self.proof = spec, policies, state, made, proof

    def update(self, row: Row, found: dict[str, Any], *, adopted: bool = False) -> None:
        """Note what a row of NetBox gets of ``row``, and the edits that are kept."""
        ours = adopted or self.state.is_ours(self.spec, found)
        memory = memory_of(found)
        changes: dict[str, tuple[Any, Any]] = {}
        learnt: dict[str, Any] = {}
        for item in self.spec.fields:
            current = decode(item, found)
            values = row.initial if item.name not in row.values and is_empty(current) else row.values
            wanted = self._wanted(item, values.get(item.name, UNOBSERVED), row)
            if wanted is UNOBSERVED or (wanted is None and self._may_be_hidden(item, current, row)):
                continue
            after = self._decide(item, current, wanted, memory, row, found, ours=ours, adopted=adopted)
            if after is UNOBSERVED:
                continue
            if after != current:
                changes[item.name] = (current, after)
            tags = item.kind is Kind.TAGS
            if tags and after == current and item.name in memory:
                continue  # a tag that a person had put there before us is theirs
            if ours and self.policies[item.name] is Policy.MANAGED:
                # For tags the memory is what we want on the row, not what people have put beside it.
                value = wanted if tags else after
                learnt[item.name] = value if isinstance(value, Ref) else remembered(value)
        for name, other in self.spec.lets_go:
            held = decode(self.spec.by_name[other], found)
            if name in changes and other not in changes and not is_empty(held) and self._leaves(row, name, other, held):
                changes[other] = (held, None)
        if ours and not self.spec.update_only:
            self._reappeared(found, changes)
        after_memory = self._new_memory(memory, learnt, changes, found)
        if not changes and after_memory is not None:
            changes[MEMORY_FIELD] = (memory or None, after_memory)
        if not changes:
            self.made.unchanged.append(found["id"])
            return
        self.made.updates.append(Update(row, found["id"], changes, after_memory, adopted))

    def _leaves(self, row: Row, name: str, other: str, held: Any) -> bool:
        """False where what the field ``name`` leads to from now on has the same in ``other``: then that may stay."""
        ref = row.values.get(name)
        spec = self.state.base(ref.index) if isinstance(ref, Ref) else None
        target = self.state.resolve(ref) if isinstance(ref, Ref) else None
        there = self.state.row(spec, target) if spec and isinstance(target, int) else None
        return spec is None or there is None or other not in spec.by_name or decode(spec.by_name[other], there) != held

    def _may_be_hidden(self, item: FieldSpec, target: Any, row: Row) -> bool:
        """True where what the field refers to is not in Proxmox's list, and may only be hidden from the token."""
        if not item.hideable or target is None or self.proof is None:
            return False
        spec = self.state.base(item.hideable)
        self.state.load(spec)
        referred = self.state.row(spec, target)
        reason = self.proof(spec, referred) if referred else None
        if reason is None:
            return False
        self.made.notes.append(f"{row.label}: {item.name} is left alone: {reason}")
        return True

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
            return self._tags(item, current, wanted, memory, policy, row.label, found["id"], adopted=adopted)
        if policy is Policy.CREATE_ONLY:
            return wanted if adopted and is_empty(current) else UNOBSERVED
        if policy is Policy.FILL_IF_EMPTY:
            return wanted if is_empty(current) else UNOBSERVED
        if policy is Policy.ALWAYS or current == wanted or item.name in self.spec.identity:
            return wanted
        known = item.name in memory
        if item.name == "status" and is_marked(found) and current == self.spec.missing_status:
            before = missing_record(found).get("status")
            if before is None or not known or memory["status"] == before:
                return wanted  # our own mark, not a person's edit
            self.made.conflicts.append(Conflict(row.label, item.name, before, wanted, found["id"]))
            return UNOBSERVED  # a person had chosen a status before we marked the row: that one comes back
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
        if not is_marked(found):
            return
        record = missing_record(found)
        if record:
            changes[MISSING_FIELD] = (record, None)
        if "tags" in self.spec.by_name:
            tags = decode(self.spec.by_name["tags"], found)
            after = changes.get("tags", (tags, tags))[1] - {MISSING_TAG}
            if after != tags:
                changes["tags"] = (tags, after)
        if self.spec.missing_status and "status" in self.spec.by_name and "status" not in changes:
            current = decode(self.spec.by_name["status"], found)
            if current == self.spec.missing_status and record.get("status") not in (None, current):
                changes["status"] = (current, record["status"])

    def _tags(
        self,
        item: FieldSpec,
        current: frozenset[str],
        wanted: frozenset[str],
        memory: dict[str, Any],
        policy: Policy,
        label: str,
        row_id: int,
        *,
        adopted: bool,
    ) -> Any:
        """Only ours are removed, and what a person took off stays off."""
        if policy in (Policy.CREATE_ONLY, Policy.FILL_IF_EMPTY):
            return current | wanted if adopted else UNOBSERVED
        if policy is Policy.MANAGED and item.name not in memory and not adopted and not wanted <= current:
            # Nobody knows whether we never put them there or a person took them off.
            self.made.conflicts.append(Conflict(label, item.name, current, wanted, row_id))
            return UNOBSERVED
        last = frozenset(memory.get(item.name, ()))
        taken_off = frozenset() if adopted else last - current
        return (current - (last - wanted)) | (wanted - taken_off)

    def _new_memory(
        self, memory: dict[str, Any], learnt: dict[str, Any], changes: Mapping[str, Any], found: dict[str, Any]
    ) -> dict[str, Any] | None:
        """The memory after this run, or ``None`` when it stays as it is.

        What NetBox holds and the source says too counts as ours again: a person has put our value back or accepted
        it, or the memory was lost.
        """
        news = {name: value for name, value in learnt.items() if not _same(memory, name, value)}
        if not (any(name in changes for name in news) or (news and can_remember(found))):
            return None
        return {**memory, **news}

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
            self.made.unresolved.append(Skip(row.label, f"{item.name}: {target.reason}"))
            self.made.notes.append(f"{row.label}: {item.name} is left alone: {target.reason}")
            return UNOBSERVED
        return ref if isinstance(target, Pending) else target


def _same(memory: Mapping[str, Any], name: str, value: Any) -> bool:
    return memory[name] == value if name in memory else is_empty(value)
