"""What the command line shows: the same facts in a wide terminal, a narrow one and a pipe."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from proxbox_dagster.facts import Gap, GapKind
from proxbox_dagster.netbox.changes import Conflict
from proxbox_dagster.netbox.spec import Skip
from proxbox_dagster.progress import Progress
from proxbox_dagster.report import Change, ClassReport
from proxbox_dagster.terminal import MAX_OBJECTS, Terminal


def change(label: str, action: str, field: str, before: str, after: str) -> Change:
    return Change(label, action, field, before, after, 7, "/vm/7/", None)


def reports() -> list[ClassReport]:
    offline = Gap("node", "pve3", GapKind.OFFLINE, "node pve3 is offline")
    return [
        ClassReport("devices", "devices", dry_run=True, seen=3, unchanged=3, gaps=[offline]),
        ClassReport(
            "virtual_machines",
            "virtual_machines",
            dry_run=True,
            seen=3,
            created=1,
            updated=1,
            unchanged=1,
            marked=1,
            gaps=[offline],
            changes=[
                change("old (qemu/9)", "mark", "status", "active", "decommissioning"),
                change("web01 (qemu/100)", "update", "memory", "1024", "2048"),
                change("web01 (qemu/100)", "update", "device", "pve1", "pve2"),
                change("db02 (qemu/131)", "create", "name", "—", "db02"),
                change("db02 (qemu/131)", "create", "memory", "—", "4096"),
            ],
            conflicts=[Conflict("web01 (qemu/100)", "role", "web", "Virtual Machine", 7)],
        ),
    ]


def told(found: list[ClassReport], *, width: int = 100, tty: bool = False, **more: Any) -> str:
    """The text that a run with these reports leaves on a terminal of this width."""
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=tty, color_system=None, legacy_windows=False)
    result = {"ok": True, "run_id": "r-1", "errors": [], **more.pop("result", {})}
    with Terminal(console, show_changes=True, **more) as terminal:
        terminal.endpoint_started("ams1")
        for report in found:
            terminal.progress(Progress("ams1", report.stage, report.object_class, 0, 2))
            terminal.progress(Progress("ams1", report.stage, report.object_class, 2, 2, report))
        terminal.endpoint_ended("ams1", result)
    return out.getvalue()


@pytest.mark.parametrize("width", [40, 80, 160])
@pytest.mark.parametrize("tty", [True, False])
def test_every_fact_is_there_at_any_width(width: int, tty: bool) -> None:
    text = told(reports(), width=width, tty=tty)
    for words in (
        "~ web01 (qemu/100)",
        "memory  1024 → 2048",
        "device  pve1 → pve2",
        "+ db02 (qemu/131)",
        "name db02, memory 4096",
        "! old (qemu/9)",
        "web01 (qemu/100): role was changed by hand and is kept: NetBox has web, Proxmox Virtual Machine",
        "node pve3 is offline",
        "ams1: plan only, nothing was written: 1 created, 1 updated, 4 unchanged, 1 marked (run r-1)",
    ):
        assert words in text
    assert text.count("node pve3 is offline") == 1


@pytest.mark.parametrize("width", [80, 160])
def test_no_heading_of_the_counts_is_cut(width: int) -> None:
    line = next(line for line in told(reports(), width=width).splitlines() if line.startswith("object class"))
    assert line.split() == ["object", "class", "seen", "created", "updated", "unchanged", "marked"]


def test_a_run_that_changes_nothing_is_a_line() -> None:
    quiet = [ClassReport("devices", "devices", dry_run=False, seen=3, unchanged=3)]
    assert told(quiet).strip() == "✓ ams1: nothing changed: 3 unchanged (run r-1)"


def test_what_was_skipped_is_told_with_its_reason() -> None:
    off = [Skip(f"vm{n} (qemu/{n})", f"no address is known: qemu/{n} is not running") for n in range(100, 105)]
    found = [ClassReport("s", "vm_addresses", dry_run=False, seen=5, skips=off)]
    lines = told(found).splitlines()
    assert (
        "· vm_addresses: 5 skipped (vm100 (qemu/100), vm101 (qemu/101), vm102 (qemu/102) and 2 more): "
        "no address is known: … is not running"
    ) in lines


def test_errors_stand_whole_and_unwrapped() -> None:
    error = "virtual_machines: web01: NetBox refused it [status]: not a valid choice; " + "mend it " * 30
    text = told(reports(), width=50, result={"ok": False, "errors": [error]})
    assert f"✗ {error}".rstrip() in text
    assert "✗ failed ams1" in text


def test_a_long_plan_is_bounded_and_says_so() -> None:
    many = [change(f"vm{number}", "update", "memory", "1", "2") for number in range(MAX_OBJECTS + 30)]
    text = told([ClassReport("s", "virtual_machines", dry_run=True, updated=len(many), changes=many)])
    assert text.count("  ~ vm") == MAX_OBJECTS
    assert "and 30 more virtual_machines" in text


def test_a_quiet_terminal_draws_nothing() -> None:
    assert told(reports(), quiet=True) == ""
