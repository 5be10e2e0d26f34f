"""What a person at a terminal sees of a run: progress while it lasts, then what changed and what to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from proxbox_dagster.metadata import grouped_gaps, grouped_skips, result_line
from proxbox_dagster.progress import Progress as Step
from proxbox_dagster.report import COUNTS, Change, ClassReport, is_telling
from proxbox_dagster.stages import STAGES
from proxbox_dagster.summary_page import totals

MAX_REASONS = 20
MAX_OBJECTS = 200
NARROW = 70
"""Columns below which counts are told as lines, not as a table."""

SIGNS = {
    "create": ("+", "green"),
    "update": ("~", "yellow"),
    "adopt": ("~", "cyan"),
    "mark": ("!", "magenta"),
    "delete": ("-", "red"),
}


class Terminal:
    """Draws runs on ``console``. ``quiet`` draws nothing at all (``--json`` in a pipe).

    ``stages`` are those that the runs are narrowed to, so that the time left can be guessed; none means all.
    """

    def __init__(
        self, console: Console, *, show_changes: bool = False, quiet: bool = False, stages: Sequence[str] = ()
    ) -> None:
        self._console = console
        self._show_changes = show_changes
        self._quiet = quiet
        self._classes = sum(len(stage.object_classes) for stage in STAGES if not stages or stage.name in stages)
        self._reports: list[ClassReport] = []
        self._progress = Progress(
            TextColumn("{task.fields[endpoint]}", style="bold"),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=console,
        )
        self._live: Live | None = None
        self._task: Any = None

    def __enter__(self) -> Terminal:
        if not self._quiet and self._console.is_terminal:
            self._live = Live(self._progress, console=self._console, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def notice(self, text: str) -> None:
        """A line that holds for all runs of this command."""
        if not self._quiet:
            self._console.print(f"! {text}", highlight=False, markup=False, soft_wrap=True)

    def endpoint_started(self, name: str) -> None:
        self._reports = []
        self._task = self._progress.add_task("reading Proxmox", total=self._classes, endpoint=name)

    def progress(self, step: Step) -> None:
        if step.report:
            self._reports.append(step.report)
        part = step.done / step.total if step.total and not step.report else 0.0
        rows = f" {step.done}/{step.total}" if step.total else ""
        text = f"{step.object_class}{rows}"
        self._progress.update(self._task, description=text, completed=len(self._reports) + part)

    def endpoint_ended(self, name: str, result: dict[str, Any]) -> None:
        self._progress.remove_task(self._task)
        if self._quiet:
            return
        if self._show_changes:
            self._changes()
        self._counts(name)
        self._skips()
        self._warnings()
        self._errors(result["errors"])
        self._verdict(name, result)

    # -- counts -------------------------------------------------------------------------------------------------

    def _counts(self, name: str) -> None:
        told = [report for report in self._reports if is_telling(report.counts())]
        if not told:
            return
        if self._console.width < NARROW:
            self._console.print(name, style="bold")
            for report in told:
                self._say(f"  {report.object_class}: {result_line(report.counts())}")
            return
        shown = [count for count in COUNTS if any(report.counts()[count] for report in told)]
        table = Table(title=name, title_justify="left", title_style="bold", box=None, pad_edge=False)
        table.add_column("object class", no_wrap=True)
        for count in shown:
            table.add_column(count, justify="right", no_wrap=True, style="red" if count == "failed" else None)
        for report in told:
            numbers = report.counts()
            table.add_row(report.object_class, *(str(numbers[count] or "·") for count in shown))
        self._console.print(table)
        quiet = [report for report in self._reports if not is_telling(report.counts()) and report.seen]
        if quiet:
            self._say(f"{sum(report.seen for report in quiet)} objects of {len(quiet)} more classes are unchanged")

    # -- changes ------------------------------------------------------------------------------------------------

    def _changes(self) -> None:
        left = MAX_OBJECTS
        for report in self._reports:
            groups: dict[tuple[str, str, int | None], list[Change]] = {}
            for change in report.changes:
                groups.setdefault((change.action, change.label, change.row_id), []).append(change)
            if groups and left > 0:
                self._console.print(report.object_class, style="bold", highlight=False)
            for (action, label, _), fields in list(groups.items())[: max(0, left)]:
                self._object(action, label, fields)
            if left < len(groups):
                self._say(f"  … and {len(groups) - max(0, left)} more {report.object_class}")
            left -= len(groups)

    def _object(self, action: str, label: str, fields: list[Change]) -> None:
        sign, colour = SIGNS[action]
        self._console.print(Text(f"  {sign} {label}", style=colour), soft_wrap=True)
        if action == "create":
            said = ", ".join(f"{item.field} {item.after}" for item in fields if item.after != "—")
            self._say(f"      {said}" if len(said) <= 400 else f"      {said[:399]}…")
        elif action != "delete":
            width = max(len(item.field) for item in fields)
            for item in fields:
                self._say(f"      {item.field:<{width}}  {item.before} → {item.after}")

    # -- what to look at ----------------------------------------------------------------------------------------

    def _skips(self) -> None:
        """Why what was skipped was: who has no Dagster beside it reads it nowhere else."""
        lines = [
            f"{report.object_class}: {count} skipped ({names}): {reason}"
            for report in self._reports
            for count, names, reason in grouped_skips(report.skips)
        ]
        for line in lines[:MAX_REASONS]:
            self._say(f"· {line}")
        if len(lines) > MAX_REASONS:
            self._say(f"· … and {len(lines) - MAX_REASONS} more reasons")

    def _warnings(self) -> None:
        lines = [f"{report.object_class}: {line}" for report in self._reports for line in report.warnings]
        for line in lines[:MAX_REASONS]:
            self._warn(line)
        if len(lines) > MAX_REASONS:
            self._warn(f"… and {len(lines) - MAX_REASONS} more")
        gaps = grouped_gaps(dict.fromkeys(gap for report in self._reports for gap in report.gaps))
        for reason, where in gaps[:MAX_REASONS]:
            self._warn(f"not observed, left as it is: {where}: {reason}")
        waiting = sum(report.waiting for report in self._reports)
        if waiting:
            self._warn(f"{waiting} objects are marked as missing in Proxmox and wait for their return or removal")

    def _errors(self, lines: list[str]) -> None:
        for line in lines[:MAX_REASONS]:
            self._console.print("[red]✗[/red] ", end="")
            self._say(line)
        if len(lines) > MAX_REASONS:
            self._say(f"… and {len(lines) - MAX_REASONS} more")

    def _verdict(self, name: str, result: dict[str, Any]) -> None:
        counts = totals(report.counts() for report in self._reports)
        dry_run = any(report.dry_run for report in self._reports)
        said = result_line(counts, dry_run=dry_run) if self._reports else "nothing was written"
        sign = "[green]✓[/green]" if result["ok"] else "[red]✗ failed[/red]"
        self._console.print(f"{sign} ", end="")
        self._say(f"{name}: {said} (run {result['run_id']})")

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _warn(self, text: str) -> None:
        self._console.print("[yellow]![/yellow] ", end="")
        self._say(text)
