"""What happens to rows of ours whose source is gone. Pure: proof in, marks and deletions out.

A row is a candidate only where a complete read proved the absence (:class:`Coverage`), it is ours and of this
endpoint, and no person tagged it ``proxbox-keep``. Classes that mirror a list under a guest (disks, snapshots, ...)
are deleted at once; others are marked, and deleted only where the settings say so, after the grace period and enough
confirming reads, counted in the row's own record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from proxbox_dagster.netbox.records import missing_record
from proxbox_dagster.netbox.spec import (
    KEEP_TAG,
    MISSING_FIELD,
    MISSING_TAG,
    Coverage,
    Desired,
    Kind,
    ModelSpec,
    Ownership,
)
from proxbox_dagster.netbox.state import NetBoxState
from proxbox_dagster.netbox.values import decode

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
        if object_class in self.classes:
            return self.classes[object_class]
        if spec.removal == "ignore" or self.default == "ignore":
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


def plan_removals(
    desired: Desired, present: set[int], state: NetBoxState, rules: RemovalRules, now: datetime
) -> Removals:
    """Marks and deletions of one class. ``present`` are the ids of rows whose objects were seen in this run."""
    spec = desired.object_class.spec
    found = Removals()
    mode = rules.mode(desired.object_class.name, spec)
    coverage = desired.coverage
    if mode == "ignore" or spec.update_only or spec.ownership is Ownership.SHARED:
        return found
    if not (coverage.everything or coverage.parents):
        return found
    state.load(spec)
    ours = [row for row in state.rows(spec) if state.is_ours(spec, row) and _of_class(spec, row, desired)]
    parents = {target for ref in coverage.parents if isinstance(target := state.resolve(ref), int)}
    bounds = [
        (spec.by_name[name], {target for ref in refs if isinstance(target := state.resolve(ref), int)})
        for name, refs in coverage.within
    ]
    gone = [
        row
        for row in ours
        if row["id"] not in present
        and _covered(spec, row, coverage, parents)
        and all(decode(item, row) in targets for item, targets in bounds)
    ]
    fresh = [row for row in gone if not missing_record(row)]
    found.braked = _brake(desired.object_class.name, len(fresh), len(ours), coverage, rules)
    if found.braked:
        return found
    doomed: list[dict[str, Any]] = []
    for row in gone:
        if "tags" in spec.by_name and KEEP_TAG in decode(spec.by_name["tags"], row):
            found.kept.append(_label(spec, row))
        elif spec.removal == "delete":
            doomed.append(row)
        else:
            _stage(spec, row, mode, rules, now, found, doomed)
    foreign = state.foreign_children(spec, [row["id"] for row in doomed]) if doomed and spec.children else {}
    for row in doomed:
        if row["id"] in foreign:
            found.kept.append(f"{_label(spec, row)}: NetBox has {foreign[row['id']]} under it, which is not ours")
        else:
            found.deletes.append(Removal(row["id"], _label(spec, row)))
    return found


def _stage(
    spec: ModelSpec,
    row: dict[str, Any],
    mode: Mode,
    rules: RemovalRules,
    now: datetime,
    found: Removals,
    doomed: list[dict[str, Any]],
) -> None:
    """Mark first; count confirmations only where a deletion is to follow."""
    record = missing_record(row)
    if not record:
        found.marks.append(first_mark(spec, row, now))
        return
    found.waiting += 1
    if mode != "delete":
        return
    seen = int(record.get("confirmed", 1)) + 1
    since = _moment(record.get("since"), now)
    if seen > rules.confirmations and now - since >= timedelta(days=rules.grace_days):
        doomed.append(row)
    elif seen <= rules.confirmations:
        after = {**record, "confirmed": seen}
        found.marks.append(Mark(row["id"], _label(spec, row), {MISSING_FIELD: (record, after)}, first=False))


def first_mark(spec: ModelSpec, row: dict[str, Any], now: datetime) -> Mark:
    """The mark of a row whose source is gone: tag, status, and our record with the time and the status before."""
    record: dict[str, Any] = {"since": now.astimezone(UTC).isoformat(timespec="seconds"), "confirmed": 1}
    changes: dict[str, tuple[Any, Any]] = {}
    if spec.missing_status and "status" in spec.by_name:
        before = decode(spec.by_name["status"], row)
        record["status"] = before
        if before != spec.missing_status:
            changes["status"] = (before, spec.missing_status)
    if "tags" in spec.by_name:
        tags = decode(spec.by_name["tags"], row)
        changes["tags"] = (tags, tags | {MISSING_TAG})
    changes[MISSING_FIELD] = (None, record)
    return Mark(row["id"], _label(spec, row), changes, first=True)


def _brake(name: str, gone: int, ours: int, coverage: Coverage, rules: RemovalRules) -> str | None:
    """Why this many removals look like a fault rather than like work, or ``None``."""
    if rules.override or not gone:
        return None
    share = 100.0 * gone / ours if ours else 0.0
    all_gone = coverage.everything and gone == ours and gone > 1
    too_many = gone > rules.brake_objects or (gone > rules.brake_minimum and share > rules.brake_percent)
    if not (all_gone or too_many):
        return None
    return (
        f"{gone} of {ours} {name} would be removed ({share:.0f} %), more than the brake allows "
        f"({rules.brake_percent:g} % or {rules.brake_objects}): nothing is removed in this run. "
        "Look whether they are really gone from Proxmox; if so, run once with override_brake "
        "(proxbox-dagster sync --override-brake)"
    )


def _covered(spec: ModelSpec, row: dict[str, Any], coverage: Coverage, parents: set[int]) -> bool:
    if coverage.everything:
        return True
    return spec.parent is not None and decode(spec.by_name[spec.parent], row) in parents


def _of_class(spec: ModelSpec, row: dict[str, Any], desired: Desired) -> bool:
    """Where two object classes share a table (addresses of nodes and of guests), the rows of this one."""
    fixed = desired.object_class.only
    return all(decode(spec.by_name[name], row) == value for name, value in fixed)


def _label(spec: ModelSpec, row: dict[str, Any]) -> str:
    item = spec.by_name.get(spec.label)
    value = decode(item, row) if item and item.kind is not Kind.REF else None
    return f"{value or spec.name} (id {row['id']})"


def _moment(text: Any, now: datetime) -> datetime:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return now  # a damaged record starts the grace period anew: the safe side
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
