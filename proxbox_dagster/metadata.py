"""Reports as Dagster metadata: numbers that the UI draws as trends, and tables that people read. Bounded in size.

The UI shows text as it is, and Markdown behind a click unless it is short; so what an operator must not miss is text,
and comes first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from proxbox_dagster.facts import Gap
from proxbox_dagster.netbox.spec import Skip
from proxbox_dagster.report import COUNTS, Change, ClassReport

MAX_ROWS = 50
"""Rows of a table in metadata; what is beyond is counted, and in the run's report file."""

MAX_CELL = 160
MAX_REASON = 700
"""A reason ends with its remedy, often a command to be copied: half of one is worse than none."""

MAX_TEXT = 400

EXAMPLES = 3
"""How many objects are named where many share a reason."""

MADE_FROM = "made_from"
"""Metadata of a materialization: what its run had read, see ``EndpointRun.made_from``; the automation goes by it."""


@dataclass(frozen=True)
class Places:
    """Where the objects of a report can be seen: addresses without a slash at the end."""

    netbox: str
    netbox_list: str | None = None
    proxmox: str | None = None
    file: str | None = None


def report_metadata(report: ClassReport, places: Places) -> dict[str, Any]:
    """The metadata of one object class in one run, what matters most first."""
    data: dict[str, Any] = {"result": dg.MetadataValue.text(result_line(report.counts(), dry_run=report.dry_run))}
    if lines := attention(report):
        data["attention"] = dg.MetadataValue.text(_cut("; ".join(lines), MAX_TEXT))
    data |= _tables(report, places)
    if places.netbox_list:
        data["in_netbox"] = dg.MetadataValue.url(places.netbox + places.netbox_list)
    if places.proxmox:
        data["in_proxmox"] = dg.MetadataValue.url(places.proxmox)
    if places.file:
        data["full_list"] = dg.MetadataValue.path(places.file)
    data |= {name: dg.MetadataValue.int(value) for name, value in report.counts().items()}
    data["conflicting"] = dg.MetadataValue.int(len({item.row_id for item in report.conflicts}))
    data["still_missing"] = dg.MetadataValue.int(report.waiting)
    data["netbox_requests"] = dg.MetadataValue.int(report.netbox_requests)
    data["netbox_rows"] = dg.MetadataValue.int(report.netbox_rows)
    data["proxmox_requests"] = dg.MetadataValue.int(report.proxmox_requests)
    data["duration_seconds"] = dg.MetadataValue.float(report.duration_seconds)
    if report.braked:
        data["braked"] = dg.MetadataValue.bool(True)
    if report.ended:
        data["object_class"] = dg.MetadataValue.text(report.object_class)
    if report.dry_run:
        data["dry_run"] = dg.MetadataValue.bool(True)
    return data


def _tables(report: ClassReport, places: Places) -> dict[str, dg.MetadataValue[Any]]:
    found: dict[str, str] = {}
    if report.changes:
        found["changes"] = changes_table(report.changes, places.netbox)
    if report.failures:
        found["failures"] = reasons_table(report.failures)
    if report.skips:
        found["skips"] = reasons_table(report.skips)
    if report.conflicts:
        found["conflicts"] = table(
            ("object", "field", "kept in NetBox", "in Proxmox"),
            [(item.label, item.field, item.netbox, item.proxmox) for item in report.conflicts],
        )
    if report.gaps:
        found["not_observed"] = gaps_table(report.gaps)
    if report.notes:
        lines = list(dict.fromkeys(report.notes))
        found["notes"] = "\n".join(f"- {_cell(line, MAX_REASON)}" for line in lines[:MAX_ROWS]) + _rest(len(lines))
    return {name: dg.MetadataValue.md(text) for name, text in found.items()}


def result_line(counts: Mapping[str, int], *, dry_run: bool = False) -> str:
    """The counts as one line: ``4 created, 1 updated, 200 unchanged``."""
    said = [f"{counts[name]} {name}" for name in COUNTS[1:] if counts[name]]
    if not counts["seen"] and not said:
        text = "nothing there"
    elif not any(counts[name] for name in ("created", "updated", "marked", "deleted")):
        text = "nothing changed: " + ", ".join(said)
    else:
        text = ", ".join(said)
    return f"plan only, nothing was written: {text}" if dry_run else text


def attention(report: ClassReport) -> list[str]:
    """What somebody should look at, a few words each, the worst first."""
    lines = [report.ended] if report.ended else []
    lines += [report.braked] if report.braked else []
    if report.failures:
        first = report.failures[0]
        lines.append(f"{report.failed} failed ({first.label}: {first.reason})")
    if report.conflicts:
        first_conflict = report.conflicts[0]
        lines.append(
            f"{len(report.conflicts)} field{'s' if len(report.conflicts) > 1 else ''} changed by hand and kept "
            f"({first_conflict.label}: {first_conflict.field})"
        )
    lines += [f"not observed: {where}: {reason}" for reason, where in grouped_gaps(report.gaps)]
    if report.waiting:
        lines.append(f"{report.waiting} still missing in Proxmox")
    return lines


# -- tables -----------------------------------------------------------------------------------------------------


def changes_table(changes: Sequence[Change], netbox_url: str) -> str:
    """What changed, field by field, with links to the object in NetBox and in Proxmox's UI.

    A new object is one line, for all of its fields are new.
    """
    rows: list[tuple[Any, ...]] = []
    new: dict[tuple[str, int | None], list[Change]] = {}
    for change in changes:
        if change.action == "create":
            new.setdefault((change.label, change.row_id), []).append(change)
        else:
            rows.append((_object(change, netbox_url), change.action, change.field, change.before, change.after))
    for fields in new.values():
        said = ", ".join(f"{item.field} {_cut(item.after, 40)}" for item in fields if _is_telling(item))
        rows.append((_object(fields[0], netbox_url), "create", "", "", said))
    return table(("object", "action", "field", "before", "after"), rows)


def _is_telling(change: Change) -> bool:
    """Custom fields of a new row repeat what its label says."""
    return change.after not in ("—", "") and not change.field.startswith("cf.")


def _object(change: Change, netbox_url: str) -> Raw:
    name = _cell(change.label)
    name = f"[{name}]({netbox_url}{change.page})" if change.page else name
    return Raw(f"{name} [↗]({change.link})" if change.link else name)


def reasons_table(skips: Sequence[Skip]) -> str:
    """Objects that did not arrive, by reason: many with one reason are one line."""
    rows = [(count, names, whole(reason)) for count, names, reason in grouped_skips(skips)]
    return table(("count", "objects", "reason"), rows)


def grouped_skips(skips: Sequence[Skip]) -> list[tuple[int, str, str]]:
    """(count, objects, reason) of what did not arrive, what most share first."""
    groups: dict[str, list[Skip]] = {}
    for skip in skips:
        groups.setdefault(_likeness(skip.reason, skip.label), []).append(skip)
    return [
        (len(items), _some([item.label for item in items]), items[0].reason if len(items) == 1 else reason)
        for reason, items in sorted(groups.items(), key=lambda group: -len(group[1]))
    ]


def gaps_table(gaps: Iterable[Gap]) -> str:
    """What could not be read and is therefore left as it is, by reason."""
    return table(("where", "reason"), [(where, whole(reason)) for reason, where in grouped_gaps(gaps)])


def grouped_gaps(gaps: Iterable[Gap]) -> list[tuple[str, str]]:
    """(reason, places) of gaps, places of one reason together; what was tried and failed first."""
    groups: dict[tuple[bool, str], list[Gap]] = {}
    for gap in gaps:
        groups.setdefault((not gap.is_error, _likeness(gap.reason, gap.name)), []).append(gap)
    lines = []
    for (_, reason), items in sorted(groups.items(), key=lambda group: group[0][0]):
        places = list(dict.fromkeys(f"{item.level} {item.name}".strip() for item in items))
        lines.append((items[0].reason if len(items) == 1 else reason, _some(places)))
    return lines


_NAMED = re.compile(r"\b(?:qemu|lxc|VM|CT|guest) ?/? ?\d+\b|\b\d{3,9}\b")


def _likeness(reason: str, label: str) -> str:
    """A reason without what tells one object from another, so that equal ones can be counted."""
    text = reason.replace(label, "…") if label else reason
    return _NAMED.sub("…", text)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(_cut(name, 60) for name in names[:EXAMPLES])
    return shown if len(names) <= EXAMPLES else f"{shown} and {len(names) - EXAMPLES} more"


class Raw(str):
    """Text that is Markdown already."""


def whole(reason: str) -> Raw:
    """A reason as a cell."""
    return Raw(_cell(reason, MAX_REASON))


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table of at most :data:`MAX_ROWS` rows, saying how many are left out."""
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(cell if isinstance(cell, Raw) else _cell(cell) for cell in row) for row in rows[:MAX_ROWS]]
    return "\n".join(f"| {line} |" for line in lines) + _rest(len(rows))


def _rest(count: int) -> str:
    return f"\n\n… and {count - MAX_ROWS} more, all of them in the file full_list" if count > MAX_ROWS else ""


def _cell(value: Any, limit: int = MAX_CELL) -> str:
    """Text that stays text and in its cell, whatever characters a guest's owner chose."""
    return re.sub(r"([\\|<`*\[\]])", r"\\\1", _cut(" ".join(str(value).split()), limit))


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def counts_of(metadata: Mapping[str, Any]) -> dict[str, int]:
    """The counts out of the metadata of a materialization."""
    return {name: int(getattr(metadata.get(name), "value", 0) or 0) for name in COUNTS}
