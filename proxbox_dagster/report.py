"""What became of one object class in one run: counts, changes and reasons, for the UI, the command line, the checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from proxbox_dagster.netbox.apply import Applied
from proxbox_dagster.netbox.changes import Conflict, Create, Plan, Update
from proxbox_dagster.netbox.spec import ENDPOINT_FIELD, MEMORY_FIELD, Skip
from proxbox_dagster.netbox.values import shown

COUNTS = ("seen", "created", "updated", "unchanged", "marked", "deleted", "skipped", "failed")
"""The counts of a class in a run, in the order in which people read them.

``seen`` = created + updated + unchanged + skipped + failed; marked and deleted rows are no longer seen.
"""

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
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    marked: int = 0
    deleted: int = 0
    waiting: int = 0
    """Rows marked as missing by earlier runs and still missing."""
    braked: str | None = None
    """Why nothing was removed although something is gone: the run fails with it."""
    planned_seen: int = 0
    changes: list[Change] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    failures: list[Skip] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    duration_seconds: float = 0.0

    @property
    def skipped(self) -> int:
        return len(self.skips)

    @property
    def failed(self) -> int:
        return len(self.failures)

    @property
    def seen(self) -> int:
        return self.planned_seen

    @property
    def accounted(self) -> bool:
        """Every object seen is in exactly one outcome."""
        return self.seen == self.created + self.updated + self.unchanged + self.skipped + self.failed

    def counts(self) -> dict[str, int]:
        return {name: int(getattr(self, name)) for name in COUNTS}


def report_of(
    stage: str, plan: Plan, applied: Applied, *, dry_run: bool, seconds: float, ended: str | None = None
) -> ClassReport:
    """The report of a plan and what became of it (all of it, where nothing was to be written).

    ``ended`` is why the writing ended early; what was not reached is skipped with that reason.
    """
    made = len(plan.creates) if dry_run else len(applied.created)
    removals = plan.removals
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
        planned_seen=plan.seen,
        changes=changes_of(plan, applied, dry_run=dry_run),
        skips=[*plan.skips, *(_not_reached(plan, applied, ended) if ended else ())],
        failures=[*plan.failures, *applied.failed],
        conflicts=list(plan.conflicts),
        notes=[*plan.notes, *applied.notes, *(f"kept: {line}" for line in removals.kept)],
        duration_seconds=round(seconds, 3),
    )


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


def changes_of(plan: Plan, applied: Applied, *, dry_run: bool) -> list[Change]:
    """Field by field, what was (or would be) written."""
    spec = plan.object_class.spec
    created: Sequence[tuple[Any, int | None]] = [(item, None) for item in plan.creates] if dry_run else applied.created
    changes: list[Change] = []
    for item, row_id in created:
        page = spec.page(row_id) if row_id else None
        for name, value in item.values.items():
            if name not in NOT_SHOWN:
                changes.append(Change(item.row.label, "create", name, "—", shown(value), row_id, page, item.row.link))
    for update in [*plan.retires, *plan.updates] if dry_run else [*applied.retired, *applied.updated]:
        action = "adopt" if update.adopted else "update"
        row_id = update.row_id or None  # a dry run knows no id of a row that is still to be made
        page = spec.page(update.row_id) if row_id else None
        for name, (before, after) in update.changes.items():
            changes.append(
                Change(update.row.label, action, name, shown(before), shown(after), row_id, page, update.row.link)
            )
    for mark in plan.removals.marks if dry_run else applied.marked:
        for name, (before, after) in mark.changes.items():
            page = spec.page(mark.row_id)
            changes.append(Change(mark.label, "mark", name, shown(before), shown(after), mark.row_id, page, None))
    for gone in plan.removals.deletes if dry_run else applied.deleted:
        changes.append(Change(gone.label, "delete", "—", "—", "—", gone.row_id, spec.page(gone.row_id), None))
    return changes
