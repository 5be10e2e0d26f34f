"""What a materialization says: short at any size, what matters first, and links that lead somewhere."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from proxbox_dagster.facts import Gap, GapKind
from proxbox_dagster.metadata import MAX_ROWS, Places, report_metadata, result_line
from proxbox_dagster.netbox.changes import Conflict
from proxbox_dagster.netbox.spec import Outcome, Skip
from proxbox_dagster.proxmox.grants import grant
from proxbox_dagster.report import Change, ClassReport

NETBOX = "https://netbox.example.org"
PLACES = Places(NETBOX, "/dcim/devices/?cf_proxmox_endpoint=ams1", "https://pve1:8006/#v1:0:=cluster", "/r/devices.csv")
BOUND = 160_000
"""Bytes of one materialization's metadata in Dagster's database, at any size of the cluster and of the reasons."""


def change(label: str = "web01", action: str = "update", field: str = "memory", **more: Any) -> Change:
    values = {"before": "1024", "after": "2048", "row_id": 7, "page": "/vm/7/", "link": "https://pve1:8006/#q100"}
    return Change(label=label, action=action, field=field, **{**values, **more})


def text_of(report: ClassReport, name: str) -> str:
    return str(report_metadata(report, PLACES)[name].value)


def huge(count: int = 10_000) -> ClassReport:
    """A report of a cluster with this many guests, each of which has something to tell in every list."""
    names = [f"guest-with-a-rather-long-name-{number}" for number in range(count)]
    return ClassReport(
        stage="virtual_machines",
        object_class="virtual_machines",
        dry_run=False,
        created=count,
        updated=count,
        changes=[
            *(change(name, field=field, before="x" * 500) for name in names for field in ("name", "memory")),
            *(change(name, "create", field, after="y" * 500) for name in names for field in ("name", "memory", "disk")),
        ],
        skips=[Skip(name, f"guest {number}: {'z' * 3000} {name}") for number, name in enumerate(names)],
        failures=[Skip(name, f"{name} is {'w' * 5000}{number}", Outcome.FAILED) for number, name in enumerate(names)],
        conflicts=[Conflict(name, "role", "a" * 400, "b" * 400, number) for number, name in enumerate(names)],
        notes=[f"note {number} {'n' * 3000}" for number in range(count)],
        gaps=[
            Gap("guest", f"qemu/{number}", GapKind.FAILED, f"odd {'o' * 900} {'p' * number}")
            for number in range(count // 10)
        ],
        braked="more than the brake allows " * 40,
    )


def test_metadata_stays_small_at_ten_thousand_guests() -> None:
    metadata = report_metadata(huge(), PLACES)
    event = dg.AssetMaterialization("netbox/virtual_machines", metadata=metadata)
    assert len(dg.serialize_value(event)) < BOUND
    assert len(text_of(huge(), "changes").splitlines()) <= MAX_ROWS + 4


@pytest.mark.parametrize("name", ["not_observed", "skips", "failures", "notes"])
def test_a_reason_is_told_to_its_end_where_the_remedy_stands(name: str) -> None:
    line = grant("/", ("VM.GuestAgent.Audit",), "netbox@pve", "sync")
    reason = f"the API token netbox@pve!sync lacks VM.GuestAgent.Audit on /: no agent is asked. Grant it: {line}"
    told = {
        "not_observed": {"gaps": [Gap("all", "", GapKind.PERMISSION, reason)]},
        "skips": {"skips": [Skip("vm1", reason)]},
        "failures": {"failures": [Skip("vm1", reason, Outcome.FAILED)]},
        "notes": {"notes": [f"kept: vm1: {reason}"]},
    }
    text = text_of(ClassReport("s", "c", dry_run=False, **told[name]), name)
    assert reason in text.replace("\\|", "|")


def test_a_table_says_how_much_it_leaves_out() -> None:
    many = ClassReport("s", "c", dry_run=False, changes=[change(f"vm{number}") for number in range(MAX_ROWS + 7)])
    assert "7 more" in text_of(many, "changes")
    few = ClassReport("s", "c", dry_run=False, changes=[change()])
    assert "more" not in text_of(few, "changes")


def test_a_changed_field_is_a_line_with_links_to_both_sides() -> None:
    line = text_of(ClassReport("s", "c", dry_run=False, changes=[change()]), "changes").splitlines()[-1]
    assert line == f"| [web01]({NETBOX}/vm/7/) [↗](https://pve1:8006/#q100) | update | memory | 1024 | 2048 |"


def test_a_new_object_is_one_line_after_what_was_changed() -> None:
    changes = [change("new", "create", "name", after="new", row_id=9), change("new", "create", "memory", row_id=9)]
    report = ClassReport("s", "c", dry_run=False, changes=[*changes, change("old")])
    lines = text_of(report, "changes").splitlines()[2:]
    assert len(lines) == 2
    assert "[old]" in lines[0]
    assert "name new, memory 2048" in lines[1]


def test_equal_reasons_are_one_line_with_their_count() -> None:
    silent = [Skip(f"vm (qemu/{n})", f"no address is known: qemu/{n} is not running") for n in range(100, 600)]
    other = Skip("web (lxc/7)", "its node is offline")
    lines = text_of(ClassReport("s", "c", dry_run=False, skips=[other, *silent]), "skips").splitlines()[2:]
    assert len(lines) == 2
    assert lines[0].startswith("| 500 | vm (qemu/100), vm (qemu/101), vm (qemu/102) and 497 more |")
    assert "is not running" in lines[0]
    assert lines[1] == "| 1 | web (lxc/7) | its node is offline |"


def test_what_must_not_be_missed_is_plain_text_and_comes_first() -> None:
    report = ClassReport(
        "s",
        "c",
        dry_run=False,
        seen=3,
        unchanged=3,
        waiting=2,
        braked="5 of 9 would go, more than the brake allows",
        failures=[Skip("vm1", "NetBox: name: too long", Outcome.FAILED)],
        conflicts=[Conflict("vm2", "role", "db", "web", 5)],
        gaps=[Gap("node", "pve3", GapKind.OFFLINE, "node pve3 is offline")],
    )
    metadata = report_metadata(report, PLACES)
    assert list(metadata)[:2] == ["result", "attention"]
    said = metadata["attention"].value
    for words in ("brake", "1 failed (vm1: NetBox: name: too long)", "vm2: role", "node pve3 is offline", "2 still"):
        assert words in said
    assert "attention" not in report_metadata(ClassReport("s", "c", dry_run=False), PLACES)


def test_places_are_links() -> None:
    metadata = report_metadata(ClassReport("s", "c", dry_run=False), PLACES)
    assert metadata["in_netbox"].url == f"{NETBOX}/dcim/devices/?cf_proxmox_endpoint=ams1"
    assert metadata["in_proxmox"].url == "https://pve1:8006/#v1:0:=cluster"
    assert metadata["full_list"].path == "/r/devices.csv"


@pytest.mark.parametrize("name", ["a|b", "[x](javascript:alert(1))", "<b>", "`", "a\nb", "\\|"])
def test_a_guests_name_cannot_break_out_of_its_cell(name: str) -> None:
    line = text_of(ClassReport("s", "c", dry_run=False, skips=[Skip(name, "why")]), "skips").splitlines()[-1]
    bare = line.replace("\\\\", "").replace("\\|", "").replace("\\[", "").replace("\\]", "").replace("\\<", "")
    assert bare.count("|") == 4
    assert "](" not in bare
    assert "<" not in bare


@pytest.mark.parametrize(
    ("counts", "dry_run", "line"),
    [
        ({}, False, "nothing there"),
        ({"seen": 5, "unchanged": 4, "skipped": 1}, False, "nothing changed: 4 unchanged, 1 skipped"),
        ({"seen": 5, "created": 2, "unchanged": 3}, False, "2 created, 3 unchanged"),
        ({"seen": 0, "deleted": 3}, False, "3 deleted"),
        ({"seen": 2, "created": 2}, True, "plan only, nothing was written: 2 created"),
    ],
)
def test_the_result_in_one_line(counts: dict[str, int], dry_run: bool, line: str) -> None:
    full = dict.fromkeys(ClassReport("s", "c", dry_run=False).counts(), 0) | counts
    assert result_line(full, dry_run=dry_run) == line
