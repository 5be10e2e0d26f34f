"""Scenario 41: NetBox takes a list all or none; one bad row of a hundred costs itself and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from proxbox_dagster_tests.support.history import History, history_lab
from proxbox_dagster_tests.support.synced import VMS, X, errors

HUNDRED = [f"s{number:03}" for number in range(100)]
BAD = "s050"
TABLE = "netbox_proxbox_vmsnapshot"

shared = history_lab


@pytest.fixture
def lab(shared: History) -> History:
    """A hundred snapshots at the source of which NetBox has none, and lists of a hundred."""
    shared.rewind(bulk_size=100)
    for name in HUNDRED:
        shared.clusters["small"].add_snapshot("qemu", 101, name)
    return shared


def break_row(lab: History, *operations: str) -> None:
    """NetBox's database refuses these operations on one row; NetBox answers HTTP 500 and names no row."""
    lab.netbox.sql(
        "create or replace function broken() returns trigger language plpgsql as $$ begin"
        f" if coalesce(old.name, new.name) = '{BAD}' then raise exception 'the row {BAD} is broken'; end if;"
        " if tg_op = 'DELETE' then return old; end if; return new; end $$"
    )
    for operation in operations:
        lab.netbox.sql(
            f"create trigger broken_{operation} before {operation} on {TABLE} for each row execute function broken()"
        )


def mend_row(lab: History) -> None:
    lab.netbox.sql("drop function if exists broken() cascade")


def counts(lab: History) -> dict[str, int]:
    return {name: value for name, value in lab.reports()["small", "snapshots"].counts().items() if value}


def names(lab: History) -> set[str]:
    return {row["name"] for row in lab.rows(f"{X}snapshots") if row["name"] in HUNDRED}


def test_scenario_41_a_row_that_clashes_with_one_made_meanwhile_by_a_person_is_told_apart(lab: History) -> None:
    """Snapshots are unique by guest number, name and node only: the one that comes second gets a node of its own."""
    machine = lab.vm(101)
    node = machine["device"]["name"]
    made: list[dict[str, Any]] = []

    def person() -> None:
        row = {"virtual_machine": machine["id"], "name": BAD, "vmid": 101, "node": node, "subtype": "qemu"}
        client = lab.client()
        made.extend(client.create(f"{X}snapshots", [{**row, "status": "active"}]))
        client.close()

    lab.proxy.add_fault("POST", f"^/api/{X}snapshots/$", above=1000, before=person)
    lab.good_sync()
    [theirs] = made
    assert counts(lab) == {"seen": 102, "created": 100, "unchanged": 2}
    assert names(lab) == set(HUNDRED)
    rows = {row["custom_fields"]["proxmox_endpoint"]: row for row in lab.rows(f"{X}snapshots", name=BAD)}
    assert rows.keys() == {None, "small"}
    assert rows[None] == theirs, "the person's row is as it was"
    assert (rows[None]["node"], rows["small"]["node"]) == (node, f"{node}@small")
    [note] = [note for note in lab.reports()["small", "snapshots"].notes if BAD in note]
    assert f"node is written as {node}@small" in note
    lab.run()
    assert lab.written() == []


def test_scenario_41_a_row_that_netbox_names_in_its_refusal_of_the_list(lab: History) -> None:
    """A person has made a disk of that name under the guest since it was read; it stays, and the others are made."""
    cluster = lab.clusters["small"]
    machine = lab.vm(101)
    for number in range(4, 30):
        cluster.set_config("qemu", 101, f"scsi{number}", f"ceph:vm-101-disk-{number + 50},size=2G")
    made: list[dict[str, Any]] = []

    def person() -> None:
        client = lab.client()
        row = {"virtual_machine": machine["id"], "name": "scsi17", "size": 9999, "description": "the accounts"}
        made.extend(client.create("virtualization/virtual-disks", [row]))
        client.close()

    lab.proxy.add_fault("POST", "^/api/virtualization/virtual-disks/$", above=1000, before=person)
    result = lab.sync()
    assert not result["ok"]
    disks = lab.reports()["small", "virtual_disks"].counts()
    assert (disks["created"], disks["failed"]) == (25, 1)
    [line] = [line for line in errors(result) if "scsi17" in line]
    assert "NetBox refused it" in line
    [theirs] = made
    assert lab.one("virtualization/virtual-disks", id=theirs["id"]) == theirs, "the person's row is as it was"
    found = {row["name"] for row in lab.rows("virtualization/virtual-disks", virtual_machine_id=machine["id"])}
    assert {f"scsi{number}" for number in range(4, 30)} <= found


def test_scenario_41_a_row_that_netbox_fails_at_and_does_not_name(lab: History) -> None:
    break_row(lab, "insert")
    result = lab.sync()
    assert not result["ok"]
    assert counts(lab) == {"seen": 102, "created": 99, "unchanged": 2, "failed": 1}
    assert names(lab) == set(HUNDRED) - {BAD}
    [line] = [line for line in errors(result) if BAD in line]
    assert "the row s050 is broken" in line
    mend_row(lab)
    lab.run()
    assert counts(lab) == {"seen": 102, "created": 1, "unchanged": 101}


def test_scenario_41_a_bad_row_in_a_list_of_changes_and_in_one_of_deletions(lab: History) -> None:
    cluster = lab.clusters["small"]
    lab.run()
    for name in HUNDRED:
        cluster.guest(101).snapshots[name].description = "described later"
    break_row(lab, "update", "delete")
    result = lab.sync()
    assert not result["ok"]
    assert counts(lab) == {"seen": 102, "updated": 99, "unchanged": 2, "failed": 1}
    [line] = [line for line in errors(result) if BAD in line]
    assert "the row s050 is broken" in line
    for name in reversed(HUNDRED):
        cluster.remove_snapshot("qemu", 101, name)
    lab.sync(override_brake=True)
    assert counts(lab) == {"seen": 2, "deleted": 99, "unchanged": 2}
    assert names(lab) == {BAD}
    [note] = [note for note in lab.reports()["small", "snapshots"].notes if BAD in note]
    assert "could not be deleted" in note
    assert "the row s050 is broken" in note
    mend_row(lab)
    lab.run()
    assert names(lab) == set()


def test_scenario_41_a_row_that_is_too_large_for_the_front_end(lab: History) -> None:
    cluster = lab.clusters["small"]
    cluster.set_config("qemu", 101, "description", "x" * 6000)
    cluster.set_config("qemu", 100, "memory", 2048)
    cluster.set_config("qemu", 102, "memory", 2048)
    lab.proxy.add_fault("PATCH", f"^/api/{VMS}/$", above=5000, count=None, status=413, body="<html>too large</html>")
    result = lab.sync()
    assert not result["ok"]
    report = lab.reports()["small", "virtual_machines"]
    assert (report.updated, report.failed) == (2, 1)
    assert lab.vm(100)["memory"] == lab.vm(102)["memory"] == 2048
    assert any("db01" in line and "too large" in line for line in errors(result)), errors(result)
    lab.run()
    assert len(lab.vm(101)["comments"]) >= 6000
