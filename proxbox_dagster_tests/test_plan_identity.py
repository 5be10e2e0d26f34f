"""Who is who: the planner's rules over a NetBox in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from proxbox_dagster.facts import UNOBSERVED
from proxbox_dagster.netbox.changes import Rules
from proxbox_dagster.netbox.errors import NetBoxUnreachable
from proxbox_dagster.netbox.removal import RemovalRules
from proxbox_dagster.netbox.spec import OWNER_TAG
from proxbox_dagster_tests.support.core import OPEN, Run, again, later, synced, whole
from proxbox_dagster_tests.support.core_specs import (
    DISK,
    MACHINE,
    OTHER,
    UUID,
    cluster,
    disk,
    machine,
    machine_ref,
    wanted,
)

VMS = MACHINE.path


def test_a_number_with_another_uuid_and_another_name_is_another_guest() -> None:
    netbox = synced(wanted("virtual_machines", machine(100)))
    old = netbox.one(VMS)["id"]
    run = later(netbox, whole(100, name="other", serial=UUID.format(9)))
    assert run.counts("virtual_machines") == {"seen": 1, "created": 1}
    assert netbox.one(VMS, name="other")["id"] != old
    assert netbox.one(VMS, id=old)["custom_fields"]["proxmox_vm_id"] is None
    assert netbox.one(VMS, id=old)["status"] == "decommissioning"
    assert run.plans["virtual_machines"].notes == [f"vm100 (id {old}) is gone: its number now belongs to other"]


def test_what_is_under_a_number_that_was_given_anew_goes_to_the_new_guest() -> None:
    netbox = synced(whole(100), wanted("virtual_disks", disk(100, "a")))
    old = netbox.one(VMS)["id"]
    later(netbox, whole(100, name="other", serial=UUID.format(9)), wanted("virtual_disks", disk(100, "b")))
    new = netbox.one(VMS, name="other")["id"]
    assert {row["name"]: row["virtual_machine"] for row in netbox.all(DISK.path)} == {"a": old, "b": new}


def test_what_a_person_wrote_into_serial_and_name_proves_nothing() -> None:
    netbox = synced(wanted("virtual_machines", machine(100)))
    row_id = netbox.one(VMS)["id"]
    netbox.edit(VMS, row_id, serial="INV-0042", name="billing")
    run = again(netbox, wanted("virtual_machines", machine(100, "renamed")))
    assert not run.plans["virtual_machines"].retires
    assert [row["id"] for row in netbox.all(VMS)] == [row_id]


@pytest.mark.parametrize("removal", ["mark", "ignore"])
def test_a_kept_guest_whose_number_is_used_again_loses_the_number_and_is_not_marked(removal: Any) -> None:
    netbox = synced(wanted("virtual_machines", machine(100)))
    old = netbox.one(VMS)["id"]
    if removal == "mark":
        netbox.edit(VMS, old, tags=[OWNER_TAG, "proxbox-keep"])
    rules = Rules(removal=RemovalRules(default=removal))
    again(netbox, wanted("virtual_machines", machine(100, "other", serial=UUID.format(9))), rules=rules)
    row = netbox.one(VMS, id=old)
    assert (row["status"], row["custom_fields"]["proxmox_vm_id"]) == ("active", None)
    assert row["custom_fields"]["proxbox_missing"] is None


def test_the_brake_holds_numbers_that_all_belong_to_other_guests_at_once() -> None:
    """As when an endpoint's host leads to another cluster: nodes and numbers are the same, the guests are not."""
    vmids = range(100, 110)
    netbox = synced(whole(*vmids), wanted("virtual_disks", *(disk(vmid, "scsi0") for vmid in vmids)))
    before = netbox.snapshot()
    others = wanted("virtual_machines", *(machine(vmid, f"x{vmid}", serial=f"other {vmid}") for vmid in vmids))
    under = frozenset(machine_ref(vmid) for vmid in vmids)
    theirs = wanted("virtual_disks", *(disk(vmid, "scsi0", 99) for vmid in vmids), parents=under)
    for removal in (RemovalRules(), RemovalRules(default="ignore")):
        run = later(netbox, others, theirs, removal=removal)
        assert "10 of 10 virtual_machines would be removed (100 %), 10 of them" in str(
            run.reports["virtual_machines"].braked
        )
        assert run.counts("virtual_machines") == {"seen": 10, "failed": 10}
        assert run.counts("virtual_disks") == {"seen": 10, "skipped": 10}
        assert netbox.snapshot() == before
    run = later(netbox, others, theirs, removal=RemovalRules(override=True))
    assert run.counts("virtual_machines") == {"seen": 10, "created": 10}
    assert run.counts("virtual_disks") == {"seen": 10, "created": 10}


def test_a_guest_whose_number_was_emptied_is_no_other_and_known_again_by_explicit_rule_only() -> None:
    netbox = synced(whole(100, 101))
    row_id = netbox.one(VMS, name="vm100")["id"]
    netbox.edit(VMS, row_id, cf_proxmox_vm_id=None, description="of a person")
    before = netbox.snapshot()
    run = again(netbox, whole(100, 101))
    assert run.counts("virtual_machines") == {"seen": 2, "unchanged": 1, "failed": 1}
    assert "no longer knows" in run.reports["virtual_machines"].failures[0].reason
    assert netbox.snapshot() == before
    run = again(netbox, whole(100, 101), rules=Rules(adopt="by_name"))
    assert run.counts("virtual_machines") == {"seen": 2, "unchanged": 1, "updated": 1}
    row = netbox.one(VMS, name="vm100")
    assert (row["id"], row["custom_fields"]["proxmox_vm_id"], row["description"]) == (row_id, 100, "of a person")


def test_a_released_row_keeps_its_number_and_its_name_whoever_has_them_now() -> None:
    netbox = synced(whole(100, 101))
    later(netbox, whole(101))
    old = netbox.one(VMS, name="vm100")["id"]
    netbox.edit(VMS, old, tags=["proxbox-missing"])
    before = netbox.one(VMS, id=old)
    other = machine(100, "other", serial=UUID.format(9))
    later(netbox, wanted("virtual_machines", machine(101), other, machine(150, "vm100"), whole=True))
    assert netbox.one(VMS, id=old) == before
    assert len(netbox.all(VMS)) == 2


def test_a_guest_made_anew_under_another_number_of_its_cluster_is_a_new_one() -> None:
    netbox = synced(whole(100, 101))
    later(netbox, whole(101))
    old = netbox.one(VMS, name="vm100")["id"]
    later(netbox, wanted("virtual_machines", machine(101), machine(150, "new", serial=UUID.format(100)), whole=True))
    assert netbox.one(VMS, name="new")["id"] != old
    assert netbox.one(VMS, id=old)["custom_fields"]["proxmox_vm_id"] == 100


def test_a_gone_guest_gives_up_its_name_and_gets_it_back() -> None:
    netbox = synced(whole(100, 101))
    old = netbox.one(VMS, name="vm100")["id"]
    copy = machine(150, "vm100", serial=UUID.format(100))
    run = later(netbox, wanted("virtual_machines", machine(101), copy, whole=True))
    assert netbox.one(VMS, id=old)["name"] == f"vm100 (missing {old})"
    assert run.plans["virtual_machines"].notes == [
        f"vm100 is gone and gives up its name for vm100: it is vm100 (missing {old}) now"
    ]
    assert netbox.one(VMS, name="vm100")["custom_fields"]["proxmox_vm_id"] == 150
    later(netbox, whole(100, 101))
    later(netbox, whole(100, 101))
    row = netbox.one(VMS, id=old)
    assert (row["status"], row["custom_fields"]["proxbox_missing"]) == ("active", None)


@pytest.mark.parametrize(
    "after",
    [("b", "a", "c"), ("b", "c", "a"), ("c", "a", "b"), ("b", "c", "d"), ("d", "a", "b"), ("B", "A", "c")],
    ids="-".join,
)
def test_scenario_22_guests_that_exchange_their_names_keep_their_rows(after: tuple[str, ...]) -> None:
    def named(names: tuple[str, ...]) -> Any:
        return wanted("virtual_machines", *(machine(100 + n, name, memory=512) for n, name in enumerate(names)))

    netbox = synced(wanted("virtual_machines", *(machine(100 + n, name) for n, name in enumerate("abc"))))
    ids = {row["custom_fields"]["proxmox_vm_id"]: row["id"] for row in netbox.all(VMS)}
    assert again(netbox, named(after)).counts("virtual_machines") == {"seen": 3, "updated": 3}
    rows = {row["custom_fields"]["proxmox_vm_id"]: row for row in netbox.all(VMS)}
    assert [rows[100 + number]["name"] for number in range(3)] == list(after)
    assert {vmid: row["id"] for vmid, row in rows.items()} == ids
    assert again(netbox, named(after)).counts("virtual_machines") == {"seen": 3, "unchanged": 3}


def test_a_new_guest_gets_the_name_that_another_one_gives_up_in_the_same_run() -> None:
    netbox = synced(wanted("virtual_machines", machine(100, "web")))
    old = netbox.one(VMS)["id"]
    run = again(netbox, wanted("virtual_machines", machine(100, "web-old", memory=7), machine(101, "web")))
    assert run.counts("virtual_machines") == {"seen": 2, "created": 1, "updated": 1}
    row = netbox.one(VMS, name="web-old")
    assert (row["id"], row["memory"]) == (old, 7)
    assert netbox.one(VMS, name="web")["custom_fields"]["proxmox_vm_id"] == 101
    run = again(netbox, wanted("virtual_machines", machine(100, "web-old", memory=7), machine(101, "web")))
    assert run.counts("virtual_machines") == {"seen": 2, "unchanged": 2}


def test_a_new_guest_gets_a_name_although_names_go_on_from_guest_to_guest() -> None:
    netbox = synced(wanted("virtual_machines", *(machine(101 + n, name) for n, name in enumerate("abc"))))
    after = [machine(100, "a"), *(machine(101 + n, name) for n, name in enumerate(("b", "c", "d")))]
    run = again(netbox, wanted("virtual_machines", *after))
    assert run.counts("virtual_machines") == {"seen": 4, "created": 1, "updated": 3}
    names = {row["custom_fields"]["proxmox_vm_id"]: row["name"] for row in netbox.all(VMS)}
    assert names == {100: "a", 101: "b", 102: "c", 103: "d"}
    assert again(netbox, wanted("virtual_machines", *after)).counts("virtual_machines") == {"seen": 4, "unchanged": 4}


def test_a_name_that_stepped_aside_is_known_for_ours_where_the_run_ends_then() -> None:
    both = wanted("virtual_machines", machine(100, "a"), machine(101, "b"))
    netbox = synced(both)
    exchanged = wanted("virtual_machines", machine(100, "b"), machine(101, "a"))

    def end(method: str, path: str, rows: Sequence[Any]) -> None:
        if any("(renamed" in row["name"] for row in netbox.all(VMS)):
            raise NetBoxUnreachable("no answer")

    netbox.before_write = end
    with pytest.raises(NetBoxUnreachable):
        again(netbox, exchanged)
    netbox.before_write = None
    assert again(netbox, exchanged).counts("virtual_machines")["seen"] == 2
    names = {row["custom_fields"]["proxmox_vm_id"]: row["name"] for row in netbox.all(VMS)}
    assert names == {100: "b", 101: "a"}


def test_a_guest_that_was_not_proved_gone_or_has_a_persons_name_keeps_it() -> None:
    netbox = synced(whole(100))
    copy = wanted("virtual_machines", machine(150, "vm100"))
    assert again(netbox, copy).counts("virtual_machines") == {"seen": 1, "failed": 1}
    row_id = netbox.one(VMS)["id"]
    netbox.edit(VMS, row_id, name="shop")
    run = later(netbox, wanted("virtual_machines", machine(151, "shop"), whole=True))
    assert run.counts("virtual_machines") == {"seen": 1, "failed": 1, "marked": 1}
    assert netbox.one(VMS, id=row_id)["name"] == "shop"


@pytest.mark.parametrize("first", ["not observed", "hidden"])
def test_the_second_of_two_namesakes_keeps_its_name_while_that_of_the_first_is_not_told(first: str) -> None:
    """Its node is off, or the token may not see it: nothing says any more that the name is taken."""
    netbox = synced(wanted("virtual_machines", machine(100, "web"), machine(105, "web (2)")))
    rows = [machine(105, "web", memory=4096)]
    if first == "not observed":
        rows.append(machine(100, UNOBSERVED))
    run = again(netbox, wanted("virtual_machines", *rows))
    assert run.counts("virtual_machines") == {"seen": len(rows), "updated": 1, **({"unchanged": 1} if rows[1:] else {})}
    assert netbox.one(VMS, name="web (2)")["memory"] == 4096
    assert "web stays web (2): web is still virtual_machines" in run.reports["virtual_machines"].notes[0]
    before = netbox.changes
    again(netbox, wanted("virtual_machines", *rows))
    assert netbox.changes == before
    again(netbox, wanted("virtual_machines", machine(100, "shop"), machine(105, "web")))
    assert {row["name"] for row in netbox.all(VMS)} == {"shop", "web"}, "ours still, to be renamed"


@pytest.mark.parametrize("trouble", ["released", "two-guests", "two-rows"])
def test_a_guest_from_another_cluster_is_new_where_it_is_not_certain(trouble: str) -> None:
    netbox = synced()
    theirs = [machine(7, "wanderer", endpoint=OTHER), machine(8, endpoint=OTHER)]
    if trouble == "two-rows":
        theirs.append(machine(9, "double", endpoint=OTHER, serial=UUID.format(7)))
    Run(netbox, endpoint=OTHER).write(wanted("clusters", cluster("lab", OTHER)), wanted("virtual_machines", *theirs))
    left = wanted("virtual_machines", machine(8, endpoint=OTHER), whole=True)
    Run(netbox, Rules(removal=OPEN), endpoint=OTHER).write(left)
    old = netbox.one(VMS, name="wanderer")
    if trouble == "released":
        netbox.edit(VMS, old["id"], tags=["proxbox-missing"])
    arrived = [machine(100, "wanderer", serial=UUID.format(7))]
    if trouble == "two-guests":
        arrived.append(machine(101, "clone", serial=UUID.format(7)))
    run = again(netbox, wanted("virtual_machines", *arrived))
    assert run.counts("virtual_machines") == {"seen": len(arrived), "created": len(arrived)}
    assert netbox.one(VMS, id=old["id"])["custom_fields"]["proxmox_endpoint"] == OTHER


def test_a_copy_that_a_person_made_of_a_row_with_our_marks_is_left_alone() -> None:
    """NetBox's *Clone* or an import may take tags and custom fields along: two rows are one guest, says NetBox."""
    rules = RemovalRules(default="delete", grace_days=0, confirmations=0, brake_percent=100, brake_objects=99)
    netbox = synced(whole(100, 101))
    row = netbox.one(VMS, name="vm100")
    copy = {name: value for name, value in row.items() if name not in ("id", "name", "custom_fields")}
    marks = {f"cf_{name}": value for name, value in row["custom_fields"].items()}
    twin = netbox.add(VMS, **copy, **marks, name="vm100-next")
    for guests in ((100, 101), (101,)):
        before = (netbox.one(VMS, id=row["id"]), netbox.one(VMS, id=twin))
        for day in (1, 9, 18):
            run = later(netbox, whole(*guests), days=day, removal=rules)
        assert (netbox.one(VMS, id=row["id"]), netbox.one(VMS, id=twin)) == before
        kept = [line for line in run.plans["virtual_machines"].removals.kept if "the same identity" in line]
        assert len(kept) == 3 - len(guests)
