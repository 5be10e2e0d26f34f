"""The planner: whose a row is, what is adopted, and what becomes of parents and of identities that change hands."""

from __future__ import annotations

from typing import Any

import pytest

from proxbox_dagster.facts import UNOBSERVED
from proxbox_dagster.netbox.changes import Rules
from proxbox_dagster.netbox.spec import OWNER_TAG, Desired, Outcome, Ref, Row
from proxbox_dagster_tests.support.core import Run, again, fake, planned, synced
from proxbox_dagster_tests.support.core_specs import (
    CLUSTER,
    DISK,
    MACHINE,
    OTHER,
    PORT,
    UUID,
    cluster,
    disk,
    machine,
    machine_ref,
    port,
    port_ref,
    primary,
    role,
    wanted,
)
from proxbox_dagster_tests.support.fake_netbox import FakeNetBox

VMS, DISKS = MACHINE.path, DISK.path


# -- ownership and adoption ---------------------------------------------------------------------------------------


def test_a_released_row_is_left_alone_and_says_how_to_take_it_back() -> None:
    netbox = synced(wanted("virtual_machines", machine(100)))
    netbox.edit(VMS, netbox.one(VMS)["id"], tags=[])
    before = netbox.snapshot()
    run = again(netbox, wanted("virtual_machines", machine(100, memory=1), whole=True))
    assert netbox.snapshot() == before
    [skip] = run.reports["virtual_machines"].skips
    assert skip.outcome is Outcome.SKIPPED
    assert f"tag '{OWNER_TAG}'" in skip.reason
    assert "put the tag back" in skip.reason


def test_a_tag_that_was_deleted_stays_loud_until_it_is_put_back() -> None:
    """A new guest would have it again, and the others would look released by hand: green, and nothing is synced."""
    netbox = synced(wanted("virtual_machines", machine(100), machine(101)))
    rows = netbox.all(VMS)
    for row in rows:
        netbox.edit(VMS, row["id"], tags=[])
    before = netbox.snapshot()
    guests = wanted("virtual_machines", machine(100, memory=1), machine(101), machine(102), whole=True)
    for _ in range(3):
        run = again(netbox, guests, wanted("virtual_disks", disk(102, "scsi0")))
        assert run.counts("virtual_machines") == {"seen": 3, "failed": 3}
        assert run.counts("virtual_disks") == {"seen": 1, "skipped": 1}
        assert netbox.snapshot() == before
    for row in rows:
        netbox.edit(VMS, row["id"], tags=row["tags"])
    assert again(netbox, guests).counts("virtual_machines") == {"seen": 3, "created": 1, "updated": 1, "unchanged": 1}


def test_an_object_that_proxmox_names_twice_is_written_once_and_reported() -> None:
    netbox = synced(wanted("virtual_machines", machine(100, "first"), machine(100, "second")))
    run = again(netbox, wanted("virtual_machines", machine(100, "first"), machine(100, "second")))
    assert [row["name"] for row in netbox.all(VMS)] == ["first"]
    assert run.counts("virtual_machines") == {"seen": 2, "unchanged": 1, "failed": 1}
    [failure] = run.reports["virtual_machines"].failures
    assert "twice (first and second); the first is used" in failure.reason


def test_fields_that_another_class_patches_on_a_released_row_are_left_alone() -> None:
    """Primary addresses are written by a class without tags of its own."""
    guests = wanted("virtual_machines", machine(100))
    netbox = synced(guests, wanted("virtual_disks", disk(100, "scsi0")))
    [disk_row] = netbox.all(DISKS)
    netbox.edit(VMS, netbox.one(VMS)["id"], tags=[])
    made = planned(netbox, wanted("primary_disks", primary(100, Ref("virtual_disks", (machine_ref(100), "scsi0")))))
    assert disk_row["id"]
    assert not made.writes
    assert len(made.skips) == 1


def test_a_shared_row_of_people_is_used_and_not_changed() -> None:
    netbox = fake()
    theirs = netbox.add(
        "dcim/device-roles", slug="qemu", name="Ours since 2009", color="ffffff", tags=["proxbox-missing"]
    )
    before = netbox.snapshot()
    run = Run(netbox).write(wanted("roles", role("qemu", color="00ff00")))
    assert netbox.snapshot() == before
    assert run.counts("roles") == {"seen": 1, "unchanged": 1}
    assert run.state.resolve(Ref("roles", ("qemu",))) == theirs


def test_a_shared_row_with_our_mark_is_kept_true() -> None:
    netbox = synced()
    run = again(netbox, wanted("roles", role("qemu", color="00ff00")))
    assert run.counts("roles") == {"seen": 1, "updated": 1}
    assert netbox.one("dcim/device-roles")["color"] == "00ff00"


@pytest.mark.parametrize("mark", ["Proxmox", "People"])
def test_members_are_added_to_whoever_made_the_row(mark: str) -> None:
    netbox = fake()
    netbox.add(
        "extras/custom-fields", name="proxmox_vm_id", type="integer", object_types=["dcim.rack"], group_name=mark
    )
    row = Row({"name": "proxmox_vm_id", "type": "text", "object_types": ("dcim.device",), "group_name": "X"}, "field")
    Run(netbox).write(wanted("custom_fields", row))
    found = netbox.one("extras/custom-fields")
    assert found["object_types"] == ["dcim.device", "dcim.rack"]
    assert (found["type"], found["group_name"]) == ("integer", mark)
    assert not planned(netbox, wanted("custom_fields", row)).writes


def foreign(netbox: FakeNetBox, name: str = "web", **values: Any) -> int:
    """A virtual machine in our cluster that this project did not make."""
    return netbox.add(VMS, name=name, cluster=netbox.one(CLUSTER.path)["id"], **values)


@pytest.mark.parametrize(
    ("adopt", "tags", "taken"),
    [
        ("never", [], False),
        ("never", [OWNER_TAG], False),
        ("tagged", [], False),
        ("tagged", [OWNER_TAG], True),
        ("by_name", [], True),
    ],
)
def test_adoption_by_rule_only(adopt: Any, tags: list[str], taken: bool) -> None:
    netbox = synced()
    theirs = foreign(netbox, "WEB", tags=tags, memory=1, description="by hand", comments="by hand")
    before = netbox.snapshot()
    guest = machine(100, "web", description="from Proxmox", comments="from Proxmox", disk=5)
    run = again(netbox, wanted("virtual_machines", guest), rules=Rules(adopt=adopt))
    if not taken:
        assert netbox.snapshot() == before
        [failure] = run.reports["virtual_machines"].failures
        assert f"id {theirs}" in failure.reason
        assert "adopt: by_name" in failure.reason
        assert "rename it" in failure.reason
        return
    row = netbox.one(VMS)
    assert row["id"] == theirs
    assert row["custom_fields"]["proxmox_vm_id"] == 100
    assert row["memory"] == 2048
    assert row["disk"] == 5
    assert (row["description"], row["comments"]) == ("by hand", "by hand")
    assert OWNER_TAG in row["tags"]
    assert run.counts("virtual_machines") == {"seen": 1, "updated": 1}
    assert {item.action for item in run.reports["virtual_machines"].changes} == {"adopt"}
    assert not planned(netbox, wanted("virtual_machines", guest)).writes


def test_a_rival_of_another_endpoint_is_never_adopted_and_named() -> None:
    netbox = synced()
    foreign(netbox, "web", tags=[OWNER_TAG], cf_proxmox_endpoint=OTHER)
    before = netbox.snapshot()
    run = again(netbox, wanted("virtual_machines", machine(100, "web")), rules=Rules(adopt="by_name"))
    assert netbox.snapshot() == before
    [failure] = run.reports["virtual_machines"].failures
    assert OTHER in failure.reason
    assert "rename one of the two" in failure.reason


def test_a_rival_of_ours_is_another_object() -> None:
    netbox = synced(wanted("virtual_machines", machine(100, "web")))
    run = again(netbox, wanted("virtual_machines", machine(100, "web"), machine(101, "WEB")))
    assert run.counts("virtual_machines") == {"seen": 2, "unchanged": 1, "failed": 1}
    assert "another object of this endpoint" in run.reports["virtual_machines"].failures[0].reason


def test_rows_of_other_endpoints_are_out_of_sight() -> None:
    netbox = synced(wanted("virtual_machines", machine(100)))
    Run(netbox, endpoint=OTHER).write(
        wanted("clusters", cluster("lab", OTHER)), wanted("virtual_machines", machine(100, endpoint=OTHER))
    )
    before = netbox.snapshot()
    run = again(netbox, wanted("virtual_machines", machine(100), whole=True))
    assert run.counts("virtual_machines") == {"seen": 1, "unchanged": 1}
    assert netbox.snapshot() == before


# -- doubles, parents, references ---------------------------------------------------------------------------------


def test_children_of_a_parent_that_the_mapping_skipped_are_skipped_with_its_reason() -> None:
    guests = wanted("virtual_machines", machine(101))
    guests.fail("vm100", "its config answered 500", machine_ref(100).key)
    run = again(synced(), guests, wanted("virtual_disks", disk(100, "scsi0"), disk(101, "scsi0")))
    assert run.counts("virtual_machines") == {"seen": 2, "created": 1, "failed": 1}
    assert "its config answered 500" in run.reports["virtual_disks"].skips[0].reason


def test_children_of_a_skipped_parent_that_netbox_has_are_written() -> None:
    netbox = synced(wanted("virtual_machines", machine(100)))
    guests = wanted("virtual_machines")
    guests.skip("vm100", "its node is offline", machine_ref(100).key)
    run = again(netbox, guests, wanted("virtual_disks", disk(100, "scsi0")))
    assert run.counts("virtual_disks") == {"seen": 1, "created": 1}


def test_a_parent_that_nobody_wrote_is_named() -> None:
    run = again(synced(), wanted("virtual_disks", disk(404, "scsi0")))
    [skip] = run.reports["virtual_disks"].skips
    assert "virtual_machines ams1 / qemu / 404 is not in NetBox" in skip.reason
    [wrong] = run.reports["virtual_disks"].unresolved
    assert (wrong.label, wrong.reason) == (skip.label, skip.reason)


def test_an_optional_reference_that_leads_nowhere_is_left_alone_with_a_note() -> None:
    netbox = synced(wanted("virtual_machines", machine(100, role=Ref("roles", ("qemu",)))))
    run = again(netbox, wanted("virtual_machines", machine(100, role=Ref("roles", ("gone",)))))
    assert run.counts("virtual_machines") == {"seen": 1, "unchanged": 1}
    assert any("role is left alone" in note for note in run.reports["virtual_machines"].notes)
    assert [item.reason for item in run.reports["virtual_machines"].unresolved] == ["role: roles gone is not in NetBox"]


@pytest.mark.parametrize("turn", [1, -1])
def test_rows_of_one_class_may_refer_to_one_another_in_any_order(turn: int) -> None:
    rows = [
        port(100, "vmbr0"),
        port(100, "net0", bridge=port_ref(100, "vmbr0")),
        port(100, "net0.5", parent=port_ref(100, "net0")),
    ][::turn]
    netbox = synced(wanted("virtual_machines", machine(100)), wanted("vm_interfaces", *rows))
    ids = {row["name"]: row["id"] for row in netbox.all(PORT.path)}
    assert netbox.one(PORT.path, name="net0")["bridge"] == ids["vmbr0"]
    assert netbox.one(PORT.path, name="net0.5")["parent"] == ids["net0"]
    assert (
        not again(netbox, wanted("virtual_machines", machine(100)), wanted("vm_interfaces", *rows))
        .plans["vm_interfaces"]
        .writes
    )


def test_an_existing_row_may_refer_to_a_new_one_of_its_class() -> None:
    guests = wanted("virtual_machines", machine(100))
    netbox = synced(guests, wanted("vm_interfaces", port(100, "net0")))
    run = again(
        netbox, guests, wanted("vm_interfaces", port(100, "net0", bridge=port_ref(100, "vmbr0")), port(100, "vmbr0"))
    )
    assert run.counts("vm_interfaces") == {"seen": 2, "created": 1, "updated": 1}
    assert netbox.one(PORT.path, name="net0")["bridge"] == netbox.one(PORT.path, name="vmbr0")["id"]


# -- identities that change hands ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values", [{"serial": UUID.format(9)}, {"name": "renamed"}, {"serial": None, "name": "x"}, {"serial": UNOBSERVED}]
)
def test_one_differing_proof_is_the_same_guest(values: dict[str, Any]) -> None:
    netbox = synced(wanted("virtual_machines", machine(100)))
    made = planned(netbox, wanted("virtual_machines", machine(100, **values)))
    assert not made.retires
    assert not made.creates


def moved_guest(netbox: FakeNetBox) -> Desired:
    """A guest that the other endpoint lost, as this one sees it: another number, the same uuid."""
    Run(netbox, endpoint=OTHER).write(
        wanted("clusters", cluster("lab", OTHER)),
        wanted("virtual_machines", machine(7, "wanderer", endpoint=OTHER, description="d"), machine(8, endpoint=OTHER)),
    )
    return wanted("virtual_machines", machine(100, "wanderer", serial=UUID.format(7), description="d"))


def test_a_guest_from_another_cluster_keeps_its_row_once_it_is_missing_there() -> None:
    netbox = synced()
    guest = moved_guest(netbox)
    Run(netbox, endpoint=OTHER).write(wanted("virtual_disks", disk(7, "a", endpoint=OTHER)))
    theirs = netbox.one(DISKS)["id"]
    Run(netbox, endpoint=OTHER).write(wanted("virtual_machines", machine(8, endpoint=OTHER), whole=True))
    old = netbox.one(VMS, name="wanderer")
    assert old["status"] == "decommissioning"
    run = again(netbox, guest)
    assert run.counts("virtual_machines") == {"seen": 1, "updated": 1}
    row = netbox.one(VMS, name="wanderer")
    assert row["id"] == old["id"]
    assert row["custom_fields"]["proxmox_endpoint"] == "ams1"
    assert row["custom_fields"]["proxmox_vm_id"] == 100
    assert row["custom_fields"]["proxbox_missing"] is None
    assert row["status"] == "active"
    assert "proxbox-missing" not in row["tags"]
    [kept] = netbox.all(DISKS)
    assert (kept["id"], kept["custom_fields"]["proxmox_endpoint"]) == (theirs, "ams1"), "what is under it comes along"
    assert again(netbox, guest).counts("virtual_machines") == {"seen": 1, "unchanged": 1}
    assert any("came from endpoint fra1" in note for note in run.reports["virtual_machines"].notes)


def test_a_guest_that_the_other_cluster_still_has_is_a_copy() -> None:
    netbox = synced()
    guest = moved_guest(netbox)
    run = again(netbox, guest)
    assert run.counts("virtual_machines") == {"seen": 1, "created": 1}
    assert len([row for row in netbox.all(VMS) if row["name"] == "wanderer"]) == 2
