"""The full list of what a run changed, as files for whom the bounded tables of the UI do not do.

A CSV file per object class in a folder per run: ``<endpoint>/<start, UTC>-<run>-<job>/<object class>.csv``.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from datetime import datetime

from upath import UPath

from proxbox_dagster.report import ClassReport

COLUMNS = ("what", "object", "field", "before", "after", "reason", "netbox", "proxmox")

_RUN = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}-(?P<job>\w+)$")
"""Names of our folders; what else lies there is not ours to remove."""


def run_folder(base: UPath, endpoint: str, started: datetime, run_id: str, job: str) -> UPath:
    """The folder of one run; the names of an endpoint's runs sort by time."""
    return base / endpoint / f"{started:%Y%m%dT%H%M%SZ}-{run_id[:8]}-{job}"


def report_rows(report: ClassReport, netbox_url: str) -> Iterator[tuple[str, ...]]:
    """The lines of a class's file, in the order of :data:`COLUMNS`."""
    for change in report.changes:
        page = f"{netbox_url}{change.page}" if change.page else ""
        yield change.action, change.label, change.field, change.before, change.after, "", page, change.link or ""
    for word, skips in (("failed", report.failures), ("skipped", report.skips)):
        for skip in skips:
            yield word, skip.label, "", "", "", skip.reason, "", ""
    for item in report.conflicts:
        reason = "changed by hand in NetBox and kept"
        yield "conflict", item.label, item.field, str(item.netbox), str(item.proxmox), reason, "", ""
    for note in report.notes:
        yield "note", "", "", "", "", note, "", ""
    for gap in report.gaps:
        yield "not observed", f"{gap.level} {gap.name}".strip(), "", "", "", gap.reason, "", ""


def write_report(report: ClassReport, folder: UPath, netbox_url: str, keep: int) -> UPath | None:
    """Write a class's list, unless there is nothing to tell, and drop the folders of the oldest runs beyond ``keep``.

    Each job has its own: runs each quarter of an hour would drive out last night's.
    Raises :class:`OSError`, or what the file system of ``folder`` raises.
    """
    lines = list(report_rows(report, netbox_url)) if keep else []
    if not lines:
        return None
    fresh = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    csv.writer(text).writerows([COLUMNS, *([_harmless(cell) for cell in line] for line in lines)])
    file = folder / f"{report.object_class}.csv"
    file.write_text(text.getvalue(), encoding="utf-8")
    if fresh:
        _drop_oldest(folder, keep)
    return file


def _harmless(cell: str) -> str:
    """A name that a guest's owner chose must not run as a formula where the file is opened as a spreadsheet."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) and len(cell) > 1 else cell


def _drop_oldest(newest: UPath, keep: int) -> None:
    job = _job_of(newest)
    runs = sorted((item for item in newest.parent.iterdir() if job == _job_of(item)), key=lambda item: item.name)
    for run in runs[:-keep]:
        for file in run.iterdir():
            file.unlink(missing_ok=True)
        if run.exists():  # on an object store a folder goes with its last file
            run.rmdir()


def _job_of(folder: UPath) -> str | None:
    """``None`` for what is no folder of ours."""
    found = _RUN.match(folder.name)
    return found["job"] if found else None
