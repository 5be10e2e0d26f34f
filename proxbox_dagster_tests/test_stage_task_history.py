"""Stage 5: the tasks of guests."""

from __future__ import annotations

from typing import Any

import pytest

from proxbox_dagster.facts import UNOBSERVED
from proxbox_dagster.netbox.spec import Desired
from proxbox_dagster.stages.task_history import STAGE, TASK, action_of
from proxbox_dagster_tests.support.guest_data import built, fetched, guest, one, skip_of, told, vm

START = 1_767_225_600  # 2026-01-01T00:00:00Z


def upid(kind: str = "qmstart", vmid: Any = 100, start: int = START, user: str = "root@pam", node: str = "pve1") -> str:
    return f"UPID:{node}:000A1B2C:0123ABCD:{start:08X}:{kind}:{vmid}:{user}:"


def task(kind: str = "qmstart", vmid: Any = 100, start: int = START, **row: Any) -> dict[str, Any]:
    """A finished task as ``node_tasks`` has it."""
    return {
        "upid": upid(kind, vmid, start),
        "node": "pve1",
        "pid": 0xA1B2C,
        "pstart": 0x123ABCD,
        "id": str(vmid),
        "type": kind,
        "user": "root@pam",
        "starttime": start,
        "endtime": start + 2,
        "status": "OK",
        "running": False,
        **row,
    }


def of(*tasks: dict[str, Any], guests: list[dict[str, Any]] | None = None) -> Desired:
    known = [guest(100), guest(101, "lxc")] if guests is None else guests
    return built(STAGE, guests=fetched("guests", known), node_tasks=fetched("node_tasks", tasks))["task_history"]


def test_a_finished_task_field_by_field() -> None:
    values = of(task(user="auto@pve", tokenid="ci")).rows[0].values
    assert values == {
        "cf.proxmox_endpoint": "ams1",
        "tags": {"proxbox"},
        "virtual_machine": vm(100),
        "vm_type": "qemu",
        "upid": upid(),
        "node": "pve1",
        "pid": 0xA1B2C,
        "pstart": 0x123ABCD,
        "task_id": "100",
        "task_type": "qmstart",
        "username": "auto@pve",
        "start_time": START,
        "end_time": START + 2,
        "description": "QEMU 100 - Start",
        "status": "OK",
        "task_state": "stopped",
        "exitstatus": "OK",
    }
    assert set(values) == set(TASK.by_name)


def test_a_running_task_has_no_end_and_gets_one_later() -> None:
    running = task(endtime=None, status=None, running=True)
    values = of(running).rows[0].values
    assert (values["end_time"], values["task_state"], values["status"], values["exitstatus"]) == (
        None,
        "running",
        "running",
        None,
    )
    for both in ([running, task()], [task(), running]):  # seen running, and again when it had ended
        rows = of(*both).rows
        assert [row.values["task_state"] for row in rows] == ["stopped"]
    assert all(TASK.by_name[name].policy == "always" for name in ("end_time", "task_state", "status", "exitstatus"))


@pytest.mark.parametrize("column", ["pid", "pstart", "starttime", "type", "user", "node"])
@pytest.mark.parametrize("missing", [None, UNOBSERVED])
def test_what_a_row_lacks_is_decoded_from_the_upid(column: str, missing: Any) -> None:
    assert of(task(**{column: missing})).rows[0].values == of(task()).rows[0].values


def test_the_token_is_kept_nowhere() -> None:
    made = of(task(upid=upid(user="auto@pve!ci"), user=None, tokenid="ci"), task(start=START + 9, user="auto@pve!ci"))
    assert {row.values["username"] for row in made.rows} == {"auto@pve"}
    assert not any(value == "ci" for row in made.rows for value in row.values.values())


def test_an_unreadable_upid_is_skipped_when_something_needed_is_missing() -> None:
    whole = task(upid="strange")
    assert of(whole).rows[0].values["upid"] == "strange"
    made = of({**whole, "starttime": None, "user": None})
    skip = skip_of(made, "start_time, username")
    assert skip.key == ("strange",)
    assert "g100 (qemu/100)" in skip.label
    assert not made.rows


def test_only_tasks_of_known_guests_count() -> None:
    made = of(
        task("vzdump", ""),
        task("imgdel", "100@local"),
        task("qmdestroy", 777),
        task("srvstart", "ssh"),
        task("vzstart", 101),
    )
    assert [row.values["task_type"] for row in made.rows] == ["vzstart"]
    assert not made.skips


@pytest.mark.parametrize(
    ("status", "exitstatus"),
    [
        ("WARNINGS: 3", "WARNINGS: 3"),
        (
            "start failed: command '/usr/bin/kvm' failed: got timeout",
            "start failed: command '/usr/bin/kvm' failed: got timeout",
        ),
        (None, None),
    ],
)
def test_outcomes(status: str | None, exitstatus: str | None) -> None:
    values = of(task(status=status)).rows[0].values
    assert (values["status"], values["exitstatus"]) == (status or "unknown", exitstatus)


def test_tasks_of_an_earlier_guest_of_the_same_number_are_not_its_own() -> None:
    made = of(
        task("qmcreate", start=START),
        task("qmdestroy", start=START + 100),
        task("qmdestroy", start=START + 50, status="unable to destroy"),
        task("qmcreate", start=START + 200),
        task("vzstart", start=START + 300),  # the number was a container's in between
        task("vzdump", start=START + 400),
    )
    assert [row.values["start_time"] for row in made.rows] == [START + 200, START + 400]
    assert any("4 tasks were of earlier guests" in note for note in made.notes)


def test_the_order_of_tasks_makes_no_difference() -> None:
    tasks = [task(start=START + number) for number in range(5)]
    assert told(of(*tasks).rows) == told(of(*reversed(tasks)).rows)


def test_the_oldest_tasks_are_written_first() -> None:
    """A run that is killed in between goes on from the newest that NetBox has."""
    tasks = [
        task(start=start, upid=upid(start=start).replace("000A1B2C", f"{pid:08X}"))
        for pid, start in enumerate((START + 500, START, START + 1000))
    ]
    rows = of(*tasks, task(start=START + 700, starttime=UNOBSERVED)).rows
    assert [row.values["start_time"] - START for row in rows] == [0, 500, 700, 1000]


def test_history_is_never_removed() -> None:
    coverage = of(task()).coverage
    assert not coverage.everything
    assert not coverage.parents
    assert TASK.removal == "ignore"
    assert TASK.window == "start_time"


@pytest.mark.parametrize(
    ("kind", "action"),
    [
        ("qmstart", "Start"),
        ("vzshutdown", "Shutdown"),
        ("qmigrate", "Migrate"),
        ("vzmigrate", "Migrate"),
        ("vzdump", "Backup"),
        ("qmdelsnapshot", "Delete snapshot"),
        ("qmsuspend", "Hibernate"),
        ("vzsuspend", "Suspend"),
        ("move_volume", "Move volume"),
        ("somethingnew", "Somethingnew"),
    ],
)
def test_actions(kind: str, action: str) -> None:
    assert action_of(kind) == action
    vmid, word = (101, "CT") if kind.startswith("vz") and kind != "vzdump" else (100, "QEMU")
    assert one(of(task(kind, vmid)), task_type=kind)["description"] == f"{word} {vmid} - {action}"
