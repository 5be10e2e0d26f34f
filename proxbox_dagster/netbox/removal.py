"""What happens to rows of ours whose source is gone. Pure: proof in, marks and deletions out.

A row is a candidate only where a complete read proved the absence (:class:`Coverage`), it is ours and of this
endpoint, and no person tagged it ``proxbox-keep``. Classes that mirror a list under a guest (disks, snapshots, ...)
are deleted at once; others are marked, and deleted only where the settings say so, after the grace period and enough
confirming reads, counted in the row's own record. What is under a marked row stays with it; of two rows with one
identity neither is removed, nor is one that has lost its identity. The brake counts new marks, deletions, and rows
that would lose their identity to another object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from proxbox_dagster.netbox.records import confirmations, is_marked, memory_of, missing_record, missing_since
from proxbox_dagster.netbox.spec import (
    KEEP_TAG,
    MISSING_FIELD,
    MISSING_TAG,
    Coverage,
    Desired,
    Kind,
    ModelSpec,
)
from proxbox_dagster.netbox.state import NetBoxState
from proxbox_dagster.netbox.tables import identity_of
from proxbox_dagster.netbox.values import decode, has_tag, is_of

Mode = Literal["ignore", "mark", "delete"]


@dataclass(frozen=True)
class RemovalRules:
    """The settings' ``removal`` and ``brake``, and the run's own override."""

    default: Mode = "mark"
    classes: Mapping[str, Mode] = field(default_factory=dict)
    grace_days: float = 7.0
    confirmations: int = 3
    brake_percent: float = 10.0
    brake_objects: int = 25
    brake_minimum: int = 3
    override: bool = False

    def mode(self, object_class: str, spec: ModelSpec) -> Mode:
        """What to do with a class: its own setting, else the default within what the class allows."""
        if not spec.removable:
            return "ignore"
        if object_class in self.classes:
            return self.classes[object_class]
        if self.default == "ignore":
            return "ignore"
        return "delete" if spec.removal == "delete" or self.default == "delete" else "mark"


@dataclass(frozen=True)
class Mark:
    """A row to be marked as missing, or whose record gets one more confirmation. ``changes`` as in an update."""

    row_id: int
    label: str
    changes: dict[str, tuple[Any, Any]]
    first: bool


@dataclass(frozen=True)
class Removal:
    """A row to be deleted."""

    row_id: int
    label: str


@dataclass
class Removals:
    """The removals of one class. ``braked`` says why nothing is removed although something is gone."""

    marks: list[Mark] = field(default_factory=list)
    deletes: list[Removal] = field(default_factory=list)
    waiting: int = 0
    kept: list[str] = field(default_factory=list)
    braked: str | None = None

    @property
    def writes(self) -> bool:
        return bool(self.marks or self.deletes)


Proof = Callable[[ModelSpec, dict[str, Any]], str | None]
"""Asks whether a row's source is really gone: why it may only be hidden, or ``None``."""


NOTHING_OUTSIDE: Final[Mapping[int, str]] = {}


def plan_removals(
    desired: Desired,
    present: set[int],
    state: NetBoxState,
    rules: RemovalRules,
    now: datetime,
    *,
    made: int = 0,
    retired: int = 0,
    outside: Mapping[int, str] = NOTHING_OUTSIDE,
    proof: Proof | None = None,
    status: bool = True,
) -> Removals:
    """Marks and deletions of one class.

    ``present`` are the ids of rows whose objects were seen in this run, ``made`` the number of rows to be made,
    ``retired`` the number of rows whose identity another object has taken over, ``outside`` the ids of rows whose
    objects the settings leave out, with the reason. ``status``: whether the rows' status is ours to write.
    """
    spec, name = desired.object_class.spec, desired.object_class.name
    found = Removals()
    mode = rules.mode(name, spec)
    gone: list[dict[str, Any]] = []
    if mode != "ignore" and desired.coverage.gap and not desired.coverage.parents:
        found.kept += _unproved(desired, present, state)
    elif mode != "ignore":
        gone = _gone(desired, present, state)
    doomed: list[dict[str, Any]] = []
    twins = {row_id for ids in state.duplicates(spec).values() for row_id in ids}
    for row in gone:
        if row["id"] in twins:  # a person's copy, which carries our marks: nobody knows which of the two it is
            found.kept.append(f"{_label(spec, row)}: another row has the same identity; delete one of them by hand")
        elif has_tag(spec, row, KEEP_TAG):
            found.kept.append(f"{_label(spec, row)}: tagged {KEEP_TAG}")
        elif identity_of(spec, row) is None and not is_marked(row):
            # A field by which it is known was emptied, or deleted with all its values: nobody knows what it is.
            lost = ", ".join(item for item in spec.identity if decode(spec.by_name[item], row) is None)
            found.kept.append(f"{_label(spec, row)}: its {lost} is empty, so nobody knows whether its source is gone")
        elif row["id"] in outside:
            found.kept.append(f"{_label(spec, row)}: {outside[row['id']]}; delete it by hand if nobody needs it")
        elif mode == "delete" and spec.removal == "delete":
            doomed.append(row)
        else:
            _stage(spec, row, mode, rules, now, found, doomed, status)
    fresh = sum(mark.first for mark in found.marks) + len(doomed)
    # A list that turns over (backups, snapshots) loses as many as it gains; guests do not.
    replaced = made if spec.removal == "delete" else 0
    braked = None
    if fresh or retired:
        braked = _brake(name, fresh - replaced, retired, len(_ours(desired, state)), desired.coverage, rules)
    if braked:
        return Removals(waiting=found.waiting, kept=found.kept, braked=braked)
    if proof is not None and fresh:
        doomed = _proved(spec, doomed, found, state, proof)
    foreign = state.foreign_children(spec, [row["id"] for row in doomed]) if doomed else {}
    for row in doomed:
        if row["id"] in foreign:
            found.kept.append(f"{_label(spec, row)}: NetBox has {foreign[row['id']]} under it, which is not ours")
        else:
            found.deletes.append(Removal(row["id"], _label(spec, row)))
    return found


def _ours(desired: Desired, state: NetBoxState) -> list[dict[str, Any]]:
    """The rows of the class that are ours."""
    spec = desired.object_class.spec
    state.load(spec)
    return [row for row in state.rows(spec) if state.is_ours(spec, row) and is_of(desired.object_class, row)]


def _gone(desired: Desired, present: set[int], state: NetBoxState) -> list[dict[str, Any]]:
    """Rows of ours that the read proved to be without a source."""
    spec, coverage = desired.object_class.spec, desired.coverage
    if not (coverage.everything or coverage.parents):
        return []
    ours = _ours(desired, state)
    parents = {target for ref in coverage.parents if isinstance(target := state.resolve(ref), int)}
    bounds = [
        (spec.by_name[name], {target for ref in refs if isinstance(target := state.resolve(ref), int)})
        for name, refs in coverage.within
    ]
    return [
        row
        for row in ours
        if row["id"] not in present
        and _covered(spec, row, coverage, parents)
        and all(decode(item, row) in targets for item, targets in bounds)
    ]


def _unproved(desired: Desired, present: set[int], state: NetBoxState) -> list[str]:
    """That rows of ours were not seen, and why that says nothing."""
    spec = desired.object_class.spec
    unseen = [row for row in _ours(desired, state) if row["id"] not in present and not missing_record(row)]
    if not unseen:
        return []
    names = ", ".join(_label(spec, row) for row in unseen[:3]) + (", ..." if len(unseen) > 3 else "")
    return [f"{len(unseen)} not seen ({names}) and not taken for gone: {desired.coverage.reason}"]


def _proved(
    spec: ModelSpec, doomed: list[dict[str, Any]], found: Removals, state: NetBoxState, proof: Proof
) -> list[dict[str, Any]]:
    """The rows to be deleted whose absence is proved; marks of others are taken back."""
    hidden: set[int] = set()
    first = [row for mark in found.marks if mark.first and (row := state.row(spec, mark.row_id))]
    for row in (*first, *doomed):
        reason = proof(spec, row)
        if reason is not None:
            hidden.add(row["id"])
            found.kept.append(f"{_label(spec, row)}: {reason}")
    found.marks = [mark for mark in found.marks if mark.row_id not in hidden]
    return [row for row in doomed if row["id"] not in hidden]


def _stage(
    spec: ModelSpec,
    row: dict[str, Any],
    mode: Mode,
    rules: RemovalRules,
    now: datetime,
    found: Removals,
    doomed: list[dict[str, Any]],
    status: bool,
) -> None:
    """Mark first; count confirmations only where a deletion is to follow."""
    record = missing_record(row)
    if not record:
        found.marks.append(first_mark(spec, row, now, status=status))
        return
    found.waiting += 1
    if mode != "delete":
        return
    since, seen = missing_since(record), confirmations(record) + 1
    if since is None or since > now:
        # A damaged record, or a clock that was put back: the grace period begins anew.
        after = {**record, "since": _spelled(now), "confirmed": 1}
        found.marks.append(Mark(row["id"], _label(spec, row), {MISSING_FIELD: (record, after)}, first=False))
    elif seen > rules.confirmations and now - since >= timedelta(days=rules.grace_days):
        doomed.append(row)
    elif seen <= rules.confirmations:
        after = {**record, "confirmed": seen}
        found.marks.append(Mark(row["id"], _label(spec, row), {MISSING_FIELD: (record, after)}, first=False))


def _spelled(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def first_mark(spec: ModelSpec, row: dict[str, Any], now: datetime, *, status: bool = True) -> Mark:
    """The mark of a row whose source is gone: tag, status, and our record with the time and the status before.

    Without ``status`` that is left to people, by the settings.
    """
    record: dict[str, Any] = {"since": _spelled(now), "confirmed": 1}
    changes: dict[str, tuple[Any, Any]] = {}
    if spec.missing_status and "status" in spec.by_name and status:
        before = decode(spec.by_name["status"], row)
        # A row that is marked already and lost its record: its status is ours, what was before is in the memory.
        record["status"] = memory_of(row).get("status", before) if is_marked(row) else before
        if before != spec.missing_status:
            changes["status"] = (before, spec.missing_status)
    if "tags" in spec.by_name:
        tags = decode(spec.by_name["tags"], row)
        if MISSING_TAG not in tags:
            changes["tags"] = (tags, tags | {MISSING_TAG})
    changes[MISSING_FIELD] = (None, record)
    return Mark(row["id"], _label(spec, row), changes, first=True)


def _brake(name: str, lost: int, retired: int, ours: int, coverage: Coverage, rules: RemovalRules) -> str | None:
    """Why this many removals look like a fault rather than like work, or ``None``."""
    gone = max(lost, 0) + retired
    if rules.override or gone <= 0:
        return None
    share = 100.0 * gone / ours if ours else 0.0
    all_gone = coverage.everything and gone == ours and gone > 1
    too_many = gone > rules.brake_objects or (gone > rules.brake_minimum and share > rules.brake_percent)
    if not (all_gone or too_many):
        return None
    others = f", {retired} of them because other objects have their numbers now," if retired else ""
    return (
        f"{gone} of {ours} {name} would be removed ({share:.0f} %),{others[1:]} more than the brake allows "
        f"({rules.brake_percent:g} % or {rules.brake_objects}): nothing is removed in this run. "
        "Look whether they are really gone from Proxmox; if so, run once with override_brake "
        "(proxbox-dagster sync --override-brake)"
    )


def _covered(spec: ModelSpec, row: dict[str, Any], coverage: Coverage, parents: set[int]) -> bool:
    if coverage.everything:
        return True
    return spec.parent is not None and decode(spec.by_name[spec.parent], row) in parents


def _label(spec: ModelSpec, row: dict[str, Any]) -> str:
    item = spec.by_name.get(spec.label)
    value = decode(item, row) if item and item.kind is not Kind.REF else None
    return f"{value or spec.name} (id {row['id']})"
