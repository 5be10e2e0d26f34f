"""What a person at a terminal sees of a run: progress while it lasts, then a table of counts and what to look at."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from proxbox_dagster import run as runs
from proxbox_dagster.report import COUNTS, ClassReport

MAX_REASONS = 20
MAX_CHANGES = 200


class Terminal:
    """Draws runs on ``console``. ``quiet`` draws nothing at all (``--json`` in a pipe)."""

    def __init__(self, console: Console, *, show_changes: bool = False, quiet: bool = False) -> None:
        self._console = console
        self._show_changes = show_changes
        self._quiet = quiet
        self._reports: list[ClassReport] = []
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
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

    def endpoint_started(self, name: str) -> None:
        self._reports = []
        self._task = self._progress.add_task(f"{name}: reading Proxmox", total=None)

    def progress(self, step: runs.Progress) -> None:
        if step.report:
            self._reports.append(step.report)
        text = f"{step.endpoint}: {step.stage} · {step.object_class}"
        self._progress.update(self._task, description=text, completed=step.done, total=step.total or None)

    def endpoint_ended(self, name: str, result: dict[str, Any]) -> None:
        self._progress.remove_task(self._task)
        if self._quiet:
            return
        if self._reports:
            self._console.print(self._counts(name))
        if self._show_changes:
            self._changes()
        self._reasons(result)

    def _counts(self, name: str) -> Table:
        table = Table(title=name, title_justify="left", box=None, pad_edge=False)
        table.add_column("object class", no_wrap=True)
        for count in COUNTS:
            table.add_column(count, justify="right", style="red" if count == "failed" else None)
        for report in self._reports:
            numbers = report.counts()
            if any(numbers.values()):
                table.add_row(report.object_class, *(str(numbers[count] or "·") for count in COUNTS))
        return table

    def _changes(self) -> None:
        changes = [(report.object_class, change) for report in self._reports for change in report.changes]
        if not changes:
            self._console.print("nothing to change")
            return
        table = Table("object class", "object", "action", "field", "before", "after", box=None, pad_edge=False)
        for object_class, change in changes[:MAX_CHANGES]:
            table.add_row(object_class, change.label, change.action, change.field, change.before, change.after)
        self._console.print(table)
        if len(changes) > MAX_CHANGES:
            self._console.print(f"… and {len(changes) - MAX_CHANGES} more fields")

    def _reasons(self, result: dict[str, Any]) -> None:
        for line in result["errors"][:MAX_REASONS]:
            self._console.print("[red]✗[/red] ", end="")
            self._console.print(line, highlight=False, soft_wrap=True, markup=False)
        if len(result["errors"]) > MAX_REASONS:
            self._console.print(f"… and {len(result['errors']) - MAX_REASONS} more")
        for report in self._reports:
            for warning in report.warnings[:MAX_REASONS]:
                self._console.print(
                    f"! {report.object_class}: {warning}", highlight=False, markup=False, soft_wrap=True
                )
        word = "[green]✓[/green] done" if result["ok"] else "[red]✗[/red] failed"
        self._console.print(f"{word} (run {result['run_id']})", highlight=False)
