"""Reports as Dagster metadata: numbers that the UI draws as trends, and tables that people read. Bounded in size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import dagster as dg

from proxbox_dagster.netbox.spec import Skip
from proxbox_dagster.netbox.values import shown
from proxbox_dagster.report import COUNTS, Change, ClassReport

MAX_ROWS = 50
"""Rows of a table in metadata; what is beyond is counted, and in the run's report file."""

MAX_TEXT = 120


def report_metadata(report: ClassReport, netbox_url: str) -> dict[str, Any]:
    """The metadata of one object class in one run."""
    data: dict[str, Any] = {name: dg.MetadataValue.int(value) for name, value in report.counts().items()}
    data["duration_seconds"] = dg.MetadataValue.float(report.duration_seconds)
    if report.dry_run:
        data["dry_run"] = dg.MetadataValue.bool(True)
    if report.changes:
        data["changes"] = dg.MetadataValue.md(changes_table(report.changes, netbox_url))
    if report.failures:
        data["failures"] = dg.MetadataValue.md(reasons_table(report.failures))
    if report.skips:
        data["skips"] = dg.MetadataValue.md(reasons_table(report.skips))
    if report.conflicts:
        data["conflicts"] = dg.MetadataValue.md(
            table(
                ("object", "field", "kept in NetBox", "in Proxmox"),
                [(item.label, item.field, shown(item.netbox), shown(item.proxmox)) for item in report.conflicts],
            )
        )
    if report.waiting:
        data["still_missing"] = dg.MetadataValue.int(report.waiting)
    if report.braked:
        data["brake"] = dg.MetadataValue.text(report.braked)
    if report.notes:
        data["notes"] = dg.MetadataValue.md("\n".join(f"- {_cell(note)}" for note in _bounded(report.notes)))
    return data


def changes_table(changes: Sequence[Change], netbox_url: str) -> str:
    """What changed, field by field, with links to the object in NetBox and in Proxmox's UI."""
    rows = []
    for change in changes:
        name = f"[{_cell(change.label)}]({netbox_url}{change.page})" if change.page else _cell(change.label)
        source = f" [↗]({change.link})" if change.link else ""
        rows.append((Raw(name + source), change.action, change.field, change.before, change.after))
    return table(("object", "action", "field", "before", "after"), rows)


def reasons_table(skips: Sequence[Skip]) -> str:
    """Objects that did not arrive, with the reason."""
    return table(("object", "reason"), [(skip.label, skip.reason) for skip in skips])


class Raw(str):
    """Text that is Markdown already."""


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table of at most :data:`MAX_ROWS` rows, saying how many are left out."""
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(cell if isinstance(cell, Raw) else _cell(cell) for cell in row) for row in rows[:MAX_ROWS]]
    text = "\n".join(f"| {line} |" for line in lines)
    return text if len(rows) <= MAX_ROWS else f"{text}\n\n… and {len(rows) - MAX_ROWS} more"


def _cell(value: Any) -> str:
    text = " ".join(str(value).split()).replace("|", "\\|")
    return text if len(text) <= MAX_TEXT * 2 else text[: MAX_TEXT * 2 - 1] + "…"


def _bounded(notes: Iterable[str]) -> list[str]:
    found = list(dict.fromkeys(notes))
    return found if len(found) <= MAX_ROWS else [*found[:MAX_ROWS], f"… and {len(found) - MAX_ROWS} more"]


def counts_of(metadata: dict[str, Any]) -> dict[str, int]:
    """The counts out of the metadata of a materialization."""
    return {name: int(getattr(metadata.get(name), "value", 0) or 0) for name in COUNTS}
