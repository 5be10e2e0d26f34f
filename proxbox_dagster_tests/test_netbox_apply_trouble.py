"""The writer in trouble, over a NetBox in memory: races, answers that are lost or late, rows that nobody names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proxbox_dagster.netbox.errors import RowsRefused, WriteUncertain
from proxbox_dagster_tests.support.core import Run, base, fake, synced
from proxbox_dagster_tests.support.core_specs import (
    DISK,
    MACHINE,
    ROLE,
    SNAPSHOT,
    cluster,
    disk,
    machine,
    role,
    snapshot,
    wanted,
)
from proxbox_dagster_tests.support.fake_netbox import FakeNetBox


def test_scenario_38_a_shared_row_that_another_run_made_meanwhile_is_used_and_no_failure() -> None:
    netbox = fake()

    def other_run(method: str, path: str, rows: Sequence[Any]) -> None:
        netbox.before_write = None
        netbox.add(ROLE.path, slug="qemu", name="Qemu", tags=["proxbox"])

    netbox.before_write = other_run
    run = Run(netbox).write(wanted("roles", role("lxc"), role("qemu")))
    assert run.counts("roles") == {"seen": 2, "created": 1, "unchanged": 1}
    run.write(wanted("clusters", cluster()), wanted("virtual_machines", machine(100, role=None)))
    assert sorted(row["slug"] for row in netbox.all(ROLE.path)) == ["lxc", "qemu"]


def test_scenario_41_a_persons_row_made_meanwhile_is_named_and_the_others_are_written() -> None:
    netbox = synced(wanted("virtual_machines", machine(100)))
    [host] = [row["id"] for row in netbox.all(MACHINE.path)]

    def person(method: str, path: str, rows: Sequence[Any]) -> None:
        if path == DISK.path:
            netbox.before_write = None
            netbox.add(DISK.path, virtual_machine=host, name="d7", size=1)

    netbox.before_write = person
    disks = [disk(100, f"d{number}") for number in range(20)]
    run = Run(netbox).write(*base(), wanted("virtual_machines", machine(100)), wanted("virtual_disks", *disks))
    assert run.counts("virtual_disks") == {"seen": 20, "created": 19, "failed": 1}
    [failure] = run.reports["virtual_disks"].failures
    assert failure.label == "vm100 d7"
    assert "must make a unique set" in failure.reason
    assert netbox.one(DISK.path, name="d7")["size"] == 1


def test_a_deletion_whose_answer_was_lost_is_no_failed_one() -> None:
    machines = wanted("virtual_machines", machine(100))
    netbox = synced(machines, wanted("virtual_disks", disk(100, "d0"), disk(100, "d1"), disk(100, "d2")))
    delete = netbox.delete

    def lost(path: str, ids: Sequence[int]) -> None:
        netbox.delete = delete  # type: ignore[method-assign]
        delete(path, ids)
        delete(path, ids)  # the client repeats what got no answer

    netbox.delete = lost  # type: ignore[method-assign]
    left = wanted("virtual_disks", disk(100, "d0"), whole=True)
    run = Run(netbox).write(*base(), machines, left)
    assert run.counts("virtual_disks") == {"seen": 1, "unchanged": 1, "deleted": 2}
    assert run.reports["virtual_disks"].notes == []


def test_a_row_that_is_gone_when_it_is_to_be_changed_is_no_updated_one() -> None:
    """NetBox 4.6 leaves it out of its answer without a word."""
    netbox = synced(wanted("virtual_machines", machine(100), machine(101)))
    update = netbox.update

    def silent(path: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return update(path, [row for row in rows if row["id"] in netbox.tables[path].rows])

    def person(method: str, path: str, rows: Sequence[Any]) -> None:
        netbox.before_write = None
        netbox.tables[path].rows.pop(netbox.one(path, name="vm100")["id"])

    netbox.update = silent  # type: ignore[method-assign]
    netbox.before_write = person
    run = Run(netbox).write(*base(), wanted("virtual_machines", machine(100, memory=1), machine(101, memory=1)))
    assert run.counts("virtual_machines") == {"seen": 2, "updated": 1, "failed": 1}
    assert "does not have the row any more" in run.reports["virtual_machines"].failures[0].reason


def test_what_netbox_does_not_let_go_of_is_a_warning_with_its_reason() -> None:
    machines = wanted("virtual_machines", machine(100), machine(101))
    netbox = synced(machines, wanted("virtual_disks", disk(100, "d0"), disk(100, "d1")))

    def refuse(method: str, path: str, rows: Sequence[Any]) -> None:
        if method == "DELETE" or (path == MACHINE.path and method == "PATCH"):
            raise RowsRefused("a validator of this NetBox says no", {})

    netbox.before_write = refuse
    run = Run(netbox).write(
        *base(),
        wanted("virtual_machines", machine(100), whole=True),
        wanted("virtual_disks", disk(100, "d0"), whole=True),
    )
    assert run.counts("virtual_machines") == {"seen": 1, "unchanged": 1}
    [warning] = run.reports["virtual_machines"].warnings
    assert "vm101" in warning
    assert "could not be marked: NetBox refused it: a validator of this NetBox says no" in warning
    [warning] = run.reports["virtual_disks"].warnings
    assert "could not be deleted: a validator of this NetBox says no" in warning


def test_scenario_36_a_tag_that_a_person_puts_on_while_a_run_is_under_way_stays() -> None:
    netbox = synced(wanted("virtual_machines", machine(100, tags={"proxbox", "web"}), machine(101)))
    ids = {row["name"]: row["id"] for row in netbox.all(MACHINE.path)}

    def person(method: str, path: str, rows: Sequence[Any]) -> None:
        netbox.before_write = None
        netbox.edit(MACHINE.path, ids["vm100"], tags=["proxbox", "web", "theirs"])
        netbox.edit(MACHINE.path, ids["vm101"], tags=["proxbox", "proxbox-keep"])

    netbox.before_write = person
    changed = machine(100, tags={"proxbox", "db"})
    run = Run(netbox).write(*base(), wanted("virtual_machines", changed, whole=True))
    assert run.counts("virtual_machines") == {"seen": 1, "updated": 1, "marked": 1}
    assert netbox.one(MACHINE.path, name="vm100")["tags"] == ["db", "proxbox", "theirs"]
    assert netbox.one(MACHINE.path, name="vm101")["tags"] == ["proxbox", "proxbox-keep", "proxbox-missing"]


class Late(FakeNetBox):
    """Answers the first list of snapshots with a time-out, and makes its rows only ``looks`` pauses later."""

    late: list[Any] | None = None
    looks = 3

    def create(self, path: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        if path == SNAPSHOT.path and self.late is None:
            self.late = list(rows)
            raise WriteUncertain("no answer", settle=60.0)
        return super().create(path, rows)

    def pause(self, seconds: float) -> None:
        self.looks -= 1
        if self.looks == 0:
            super().create(SNAPSHOT.path, self.late or [])


def test_scenario_39_a_list_that_netbox_is_still_at_work_on_is_waited_for_and_not_sent_again() -> None:
    netbox = Late([table.model for table in fake().tables.values()])
    machines = wanted("virtual_machines", machine(100))
    synced(machines, netbox=netbox)
    run = Run(netbox, pause=netbox.pause).write(*base(), machines, wanted("snapshots", snapshot(100, "a")))
    assert run.counts("snapshots") == {"seen": 1, "created": 1}
    assert [row["name"] for row in netbox.all(SNAPSHOT.path)] == ["a"]


def test_scenario_41_a_row_at_which_netbox_fails_and_that_it_does_not_name_is_found_by_parting() -> None:
    netbox = synced(wanted("virtual_machines", machine(100)))

    def broken(method: str, path: str, rows: Sequence[Any]) -> None:
        if path == DISK.path and any(row.get("name") == "d77" for row in rows):
            raise WriteUncertain("HTTP 500: division by zero", fault=True)

    netbox.before_write = broken
    disks = [disk(100, f"d{number}") for number in range(100)]
    run = Run(netbox, bulk_size=100)
    run.write(*base(), wanted("virtual_machines", machine(100)), wanted("virtual_disks", *disks))
    assert run.counts("virtual_disks") == {"seen": 100, "created": 99, "failed": 1}
    [failure] = run.reports["virtual_disks"].failures
    assert (failure.label, "division by zero" in failure.reason) == ("vm100 d77", True)
    assert netbox.requests["POST", DISK.path] < 25


def test_scenario_41_a_list_that_is_too_large_is_parted() -> None:
    netbox = synced(wanted("virtual_machines", machine(100)))

    def small(method: str, path: str, rows: Sequence[Any]) -> None:
        if len(rows) > 7:
            raise RowsRefused("the request is too large", {})

    netbox.before_write = small
    disks = [disk(100, f"d{number}") for number in range(100)]
    run = Run(netbox, bulk_size=100)
    run.write(*base(), wanted("virtual_machines", machine(100)), wanted("virtual_disks", *disks))
    assert run.counts("virtual_disks") == {"seen": 100, "created": 100}
