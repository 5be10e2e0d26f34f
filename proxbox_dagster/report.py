"""What became of one object class in one run: counts, changes and reasons, for the UI, the command line, the checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from proxbox_dagster.facts import Gap
from proxbox_dagster.netbox.applied import Applied
from proxbox_dagster.netbox.changes import Conflict, Create, Plan, Update
from proxbox_dagster.netbox.names import Names
from proxbox_dagster.netbox.spec import ENDPOINT_FIELD, MEMORY_FIELD, Skip

COUNTS = ("seen", "created", "updated", "unchanged", "marked", "deleted", "skipped", "failed")
"""The counts of a class in a run, in the order in which people read them.

``seen`` is the sum of :data:`OUTCOMES`; marked and deleted rows are no longer seen.
"""

OUTCOMES = ("created", "updated", "unchanged", "skipped", "failed")
"""What can become of an object that was seen."""

NOT_SHOWN = frozenset({"tags", ENDPOINT_FIELD, MEMORY_FIELD})
"""Fields of a new row that say nothing about the source."""


@dataclass(frozen=True, slots=True)
class Change:
    """One field of one NetBox row that a run changed, or would change."""

    label: str
    action: str
    field: str
    before: str
    after: str
    row_id: int | None
    page: str | None
    link: str | None


@dataclass
class ClassReport:
    """One object class in one run. Counts are rows; times are seconds."""

    stage: str
    object_class: str
    dry_run: bool
    seen: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    marked: int = 0
    deleted: int = 0
    waiting: int = 0
    """Rows marked as missing by earlier runs and still missing."""
    braked: str | None = None
    """Why nothing was removed although something is gone: the run fails with it."""
    changes: list[Change] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    failures: list[Skip] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unresolved: list[Skip] = field(default_factory=list)
    """References of rows seen that lead nowhere in NetBox, with field and reason."""
    gaps: list[Gap] = field(default_factory=list)
    """What the stage's sources could not show and somebody may want to mend; the same for all classes of a stage."""
    ended: str | None = None
    """Why the writing ended early, where it did."""
    netbox_requests: int = 0
    netbox_rows: int = 0
    """Rows read from or written to NetBox for this class; what an earlier class has read is not read again."""
    proxmox_requests: int = 0
    """What the stage's sources cost in this run, shared with every other stage that reads them."""
    kept: list[str] = field(default_factory=list)
    """Rows whose source is gone, or may be, and that stay, with the reason."""
    duration_seconds: float = 0.0

    @property
    def skipped(self) -> int:
        return len(self.skips)

    @property
    def failed(self) -> int:
        return len(self.failures)

    @property
    def warnings(self) -> list[str]:
        """A line for each edit of a person that differs from the source, and for each row that stays against it."""
        lines = [
            f"{item.label}: {item.field} was changed by hand and is kept: NetBox has {item.netbox}, "
            f"Proxmox {item.proxmox}"
            for item in self.conflicts
        ]
        return [*lines, *(f"kept: {line}" for line in self.kept)]

    @property
    def accounted(self) -> bool:
        """Every object seen is in exactly one outcome."""
        return is_accounted(self.counts())

    def counts(self) -> dict[str, int]:
        return {name: int(getattr(self, name)) for name in COUNTS}

    def line(self) -> dict[str, Any]:
        """As one line of ``--json``: stage, object_class, the counts, duration_seconds."""
        return {
            "stage": self.stage,
            "object_class": self.object_class,
            **self.counts(),
            "duration_seconds": self.duration_seconds,
        }

    def change_lines(self) -> Iterator[dict[str, Any]]:
        """As lines of ``plan --json``: object_class, action, object, and the field with its two values as text."""
        for item in self.changes:
            yield {
                "object_class": self.object_class,
                "action": item.action,
                "object": item.label,
                "field": item.field,
                "before": item.before,
                "after": item.after,
            }


def is_accounted(counts: Mapping[str, int]) -> bool:
    """Whether every object seen is in exactly one outcome."""
    return counts["seen"] == sum(counts[name] for name in OUTCOMES)


def is_telling(counts: Mapping[str, int]) -> bool:
    """Whether more can be said of a class than that it is unchanged."""
    return any(counts[name] for name in COUNTS if name not in ("seen", "unchanged"))


def report_of(
    stage: str,
    plan: Plan,
    applied: Applied,
    *,
    dry_run: bool,
    seconds: float,
    ended: str | None = None,
    names: Names | None = None,
) -> ClassReport:
    """The report of a plan and what became of it (all of it, where nothing was to be written).

    ``ended`` is why the writing ended early; what was not reached is skipped with that reason.
    """
    made = len(plan.creates) if dry_run else len(applied.created)
    removals = plan.removals
    kept = [*removals.kept, *applied.kept]
    changed = len(plan.updates) if dry_run else len(applied.updated)
    return ClassReport(
        stage=stage,
        object_class=plan.object_class.name,
        dry_run=dry_run,
        created=made,
        updated=changed,
        unchanged=len(plan.unchanged) + len(applied.found),
        marked=sum(mark.first for mark in removals.marks if dry_run or mark in applied.marked),
        deleted=len(removals.deletes) if dry_run else len(applied.deleted),
        waiting=removals.waiting,
        braked=removals.braked,
        seen=plan.seen,
        changes=changes_of(plan, applied, dry_run=dry_run, names=names or Names()),
        skips=[*plan.skips, *(_not_reached(plan, applied, ended) if ended else ())],
        failures=[*plan.failures, *applied.failed],
        conflicts=_conflicts(plan, names or Names()),
        notes=[*plan.notes, *applied.notes, *(f"kept: {line}" for line in kept)],
        unresolved=list(plan.unresolved),
        ended=ended,
        kept=kept,
        duration_seconds=round(seconds, 3),
    )


def _conflicts(plan: Plan, names: Names) -> list[Conflict]:
    fields = plan.object_class.spec.by_name
    return [
        replace(
            item,
            netbox=names.value(fields.get(item.field), None, item.netbox),
            proxmox=names.value(fields.get(item.field), None, item.proxmox),
        )
        for item in plan.conflicts
    ]


def _not_reached(plan: Plan, applied: Applied, ended: str) -> list[Skip]:
    """The rows that were to be written when the writing ended. A list under way at that moment counts among them."""
    done = {id(item) for item, _ in (*applied.created, *applied.found)} | {id(item) for item in applied.updated}
    failed = Counter(skip.label for skip in applied.failed)
    left: list[Skip] = []
    planned: list[Create | Update] = [*plan.creates, *plan.updates]
    for item in planned:
        if failed[item.row.label] > 0 and id(item) not in done:
            failed[item.row.label] -= 1
        elif id(item) not in done:
            left.append(Skip(item.row.label, f"not known to be written: {ended}"))
    return left


def changes_of(plan: Plan, applied: Applied, *, dry_run: bool, names: Names) -> list[Change]:
    """Field by field, what was (or would be) written; what goes away first, what is new last."""
    spec = plan.object_class.spec
    changes: list[Change] = []
    for gone in plan.removals.deletes if dry_run else applied.deleted:
        changes.append(Change(gone.label, "delete", "—", "—", "—", gone.row_id, spec.page(gone.row_id), None))
    for mark in plan.removals.marks if dry_run else applied.marked:
        for name, (before, after) in mark.changes.items():
            old, new = (names.value(spec.by_name.get(name), None, value) for value in (before, after))
            changes.append(Change(mark.label, "mark", name, old, new, mark.row_id, spec.page(mark.row_id), None))
    for update in [*plan.retires, *plan.updates] if dry_run else [*applied.retired, *applied.updated]:
        action = "adopt" if update.adopted else "update"
        row_id = update.row_id or None  # a dry run knows no id of a row that is still to be made
        page = spec.page(update.row_id) if row_id else None
        for name, (before, after) in update.changes.items():
            old, new = (names.value(spec.by_name.get(name), update.row, value) for value in (before, after))
            changes.append(Change(update.row.label, action, name, old, new, row_id, page, update.row.link))
    created: Sequence[tuple[Any, int | None]] = [(item, None) for item in plan.creates] if dry_run else applied.created
    for item, new_id in created:
        page = spec.page(new_id) if new_id else None
        for name, value in item.values.items():
            if name not in NOT_SHOWN:
                after = names.value(spec.by_name.get(name), item.row, value)
                changes.append(Change(item.row.label, "create", name, "—", after, new_id, page, item.row.link))
    return changes
