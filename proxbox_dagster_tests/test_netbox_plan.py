"""The planner: what differs, by which policy, of whose rows, and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from proxbox_dagster.facts import UNOBSERVED
from proxbox_dagster.netbox.changes import Rules
from proxbox_dagster.netbox.spec import MEMORY_FIELD, OWNER_TAG, Desired, Policy, Ref
from proxbox_dagster_tests.support.core import Run, again, base, changes, fake, planned, synced
from proxbox_dagster_tests.support.core_specs import (
    MACHINE,
    OTHER,
    PORT,
    disk,
    machine,
    machine_ref,
    port,
    port_ref,
    primary,
    snapshot,
    wanted,
)
from proxbox_dagster_tests.support.fake_netbox import FakeNetBox

VMS = MACHINE.path


def overridden(**fields: Policy) -> Rules:
    return Rules(policies={"virtual_machines": fields})


# -- policies -----------------------------------------------------------------------------------------------------


def test_always_overwrites_whatever_netbox_holds() -> None:
    netbox = synced(wanted("virtual_machines", machine(100)))
    netbox.edit(VMS, netbox.one(VMS)["id"], memory=1, status="offline")
    made = planned(netbox, wanted("virtual_machines", machine(100)))
    assert changes(made) == {"vm100": {"memory": (1, 2048), "status": ("offline", "active")}}
    assert not made.conflicts


def test_managed_is_written_while_netbox_holds_what_we_last_wrote() -> None:
    netbox = synced(wanted("virtual_machines", machine(100, description="one")))
    made = planned(netbox, wanted("virtual_machines", machine(100, description="two")))
    assert changes(made) == {"vm100": {"description": ("one", "two")}}
    assert made.updates[0].memory is not None
    assert made.updates[0].memory["description"] == "two"


def test_managed_keeps_a_persons_edit_and_reports_the_conflict() -> None:
    netbox = synced(wanted("virtual_machines", machine(100, description="one")))
    row_id = netbox.one(VMS)["id"]
    netbox.edit(VMS, row_id, description="mine")
    made = planned(netbox, wanted("virtual_machines", machine(100, description="two")))
    assert not made.updates
    assert made.unchanged == [row_id]
    [conflict] = made.conflicts
    assert (conflict.field, conflict.netbox, conflict.proxmox, conflict.row_id) == (
        "description",
        "mine",
        "two",
        row_id,
    )


def test_managed_takes_up_again_when_the_person_puts_our_value_back() -> None:
    netbox = synced(wanted("virtual_machines", machine(100, description="one")))
    row_id = netbox.one(VMS)["id"]
    netbox.edit(VMS, row_id, description="mine")
    again(netbox, wanted("virtual_machines", machine(100, description="two")))
    netbox.edit(VMS, row_id, description="one")
    again(netbox, wanted("virtual_machines", machine(100, description="two")))
    assert netbox.one(VMS)["description"] == "two"


def test_managed_does_not_overwrite_without_memory() -> None:
    netbox = synced(wanted("virtual_machines", machine(100, description="one")))
    netbox.edit(VMS, netbox.one(VMS)["id"], cf_proxbox_last_written=None)
    made = planned(netbox, wanted("virtual_machines", machine(100, description="two")))
    assert set(changes(made)["vm100"]) == {MEMORY_FIELD}, "what both sides say alike is remembered again"
    assert [item.field for item in made.conflicts] == ["description"]


@pytest.mark.parametrize("memory", ["text", ["list"], 7])
def test_managed_with_damaged_memory_falls_to_the_safe_side(memory: Any) -> None:
    netbox = synced(wanted("virtual_machines", machine(100, description="one")))
    netbox.edit(VMS, netbox.one(VMS)["id"], cf_proxbox_last_written=memory)
    made = planned(netbox, wanted("virtual_machines", machine(100, description="two")))
    assert set(changes(made)["vm100"]) == {MEMORY_FIELD}
    assert [item.field for item in made.conflicts] == ["description"]


def test_managed_fills_what_is_empty_and_never_was_ours() -> None:
    netbox = synced(wanted("virtual_machines", machine(100)))
    made = planned(netbox, wanted("virtual_machines", machine(100, description="new")))
    assert changes(made) == {"vm100": {"description": (None, "new")}}


def test_managed_leaves_to_people_what_proxmox_says_nothing_about() -> None:
    netbox = synced(wanted("virtual_machines", machine(100)))
    netbox.edit(VMS, netbox.one(VMS)["id"], description="mine")
    made = planned(netbox, wanted("virtual_machines", machine(100, description=None)))
    assert not made.writes
    assert not made.conflicts


def test_managed_stays_empty_when_a_person_cleared_it() -> None:
    netbox = synced(wanted("virtual_machines", machine(100, description="one")))
    netbox.edit(VMS, netbox.one(VMS)["id"], description="")
    made = planned(netbox, wanted("virtual_machines", machine(100, description="one")))
    assert not made.updates
    assert len(made.conflicts) == 1


def test_managed_reference_keeps_the_role_that_a_person_chose() -> None:
    qemu = Ref("roles", ("qemu",))
    netbox = synced(wanted("virtual_machines", machine(100, role=qemu)))
    theirs = netbox.add("dcim/device-roles", slug="db", name="Database")
    netbox.edit(VMS, netbox.one(VMS)["id"], role=theirs)
    run = again(netbox, wanted("virtual_machines", machine(100, role=qemu)))
    assert run.counts("virtual_machines") == {"seen": 1, "unchanged": 1}
    assert netbox.one(VMS)["role"] == theirs
    assert [item.field for item in run.reports["virtual_machines"].conflicts] == ["role"]


def test_fill_if_empty_writes_only_into_nothing() -> None:
    netbox = synced(wanted("virtual_machines", machine(100), machine(101, comments="a")))
    made = planned(netbox, wanted("virtual_machines", machine(100, comments="b"), machine(101, comments="b")))
    assert changes(made) == {"vm100": {"comments": (None, "b")}}
    assert not made.conflicts


def test_create_only_is_written_once() -> None:
    netbox = synced(wanted("virtual_machines", machine(100, disk=10)))
    assert netbox.one(VMS)["disk"] == 10
    for theirs in (10, 5, None):
        netbox.edit(VMS, netbox.one(VMS)["id"], disk=theirs)
        made = planned(netbox, wanted("virtual_machines", machine(100, disk=20)))
        assert not made.writes
        assert not made.conflicts, "a person's from then on"


def test_never_by_override_is_left_out_of_create_and_update() -> None:
    rules = overridden(memory=Policy.NEVER)
    netbox = synced(wanted("virtual_machines", machine(100)), rules=rules)
    assert netbox.one(VMS)["memory"] is None
    assert not planned(netbox, wanted("virtual_machines", machine(100)), rules).writes
    assert planned(netbox, wanted("virtual_machines", machine(100))).writes


def test_an_override_by_object_class_makes_an_always_field_managed() -> None:
    rules = overridden(memory=Policy.MANAGED)
    netbox = synced(wanted("virtual_machines", machine(100)), rules=rules)
    netbox.edit(VMS, netbox.one(VMS)["id"], memory=4096)
    made = planned(netbox, wanted("virtual_machines", machine(100, memory=1024)), rules)
    assert not made.updates
    assert [item.field for item in made.conflicts] == ["memory"]


# -- three values -------------------------------------------------------------------------------------------------

SETTABLE = ("status", "memory", "vcpus", "description", "comments", "serial", "tags", "role", "name")


@pytest.mark.parametrize("name", SETTABLE)
def test_unobserved_never_writes(name: str) -> None:
    values = {"description": "a", "comments": "b", "vcpus": 2, "role": Ref("roles", ("qemu",))}
    netbox = synced(wanted("virtual_machines", machine(100, **values)))
    assert not planned(netbox, wanted("virtual_machines", machine(100, **{**values, name: UNOBSERVED}))).writes


def test_a_field_that_is_not_named_is_left_alone() -> None:
    netbox = synced(wanted("virtual_machines", machine(100, description="a")))
    assert not planned(netbox, wanted("virtual_machines", machine(100))).writes


@pytest.mark.parametrize(("name", "value"), [("memory", 1), ("vcpus", 2.0), ("description", "a"), ("serial", "b")])
def test_known_absent_clears(name: str, value: Any) -> None:
    netbox = synced(wanted("virtual_machines", machine(100, **{name: value})))
    made = planned(netbox, wanted("virtual_machines", machine(100, **{name: None})))
    assert changes(made) == {"vm100": {name: (value, None)}}
    again(netbox, wanted("virtual_machines", machine(100, **{name: None})))
    assert netbox.one(VMS)[name] in (None, "")
    assert not planned(netbox, wanted("virtual_machines", machine(100, **{name: None}))).writes


def test_known_absent_clears_a_reference() -> None:
    netbox = synced(
        wanted("virtual_machines", machine(100)),
        wanted("vm_interfaces", port(100, "vmbr0"), port(100, "net0", bridge=port_ref(100, "vmbr0"))),
    )
    again(
        netbox,
        wanted("virtual_machines", machine(100)),
        wanted("vm_interfaces", port(100, "vmbr0"), port(100, "net0", bridge=None)),
    )
    assert netbox.one(PORT.path, name="net0")["bridge"] is None


def test_an_existing_row_is_updated_although_a_required_value_is_unobserved() -> None:
    netbox = synced(wanted("virtual_machines", machine(100)))
    made = planned(netbox, wanted("virtual_machines", machine(100, name=UNOBSERVED, memory=1)))
    assert changes(made) == {"vm100": {"memory": (2048, 1)}}


# -- tags ---------------------------------------------------------------------------------------------------------


def tagged(*tags: str) -> Desired:
    return wanted("virtual_machines", machine(100, tags={OWNER_TAG, *tags}))


def tags_after(netbox: FakeNetBox, *tags: str) -> set[str]:
    again(netbox, tagged(*tags))
    return set(netbox.one(VMS)["tags"]) - {OWNER_TAG}


def test_tags_of_people_stay_and_ours_come_and_go() -> None:
    netbox = synced(tagged("web", "old"))
    netbox.edit(VMS, netbox.one(VMS)["id"], tags=[OWNER_TAG, "web", "old", "theirs"])
    assert tags_after(netbox, "web", "new") == {"web", "new", "theirs"}
    assert tags_after(netbox) == {"theirs"}


def test_a_tag_that_a_person_took_off_stays_off() -> None:
    netbox = synced(tagged("web", "db"))
    netbox.edit(VMS, netbox.one(VMS)["id"], tags=[OWNER_TAG, "db"])
    assert tags_after(netbox, "web", "db") == {"db"}
    assert tags_after(netbox, "web", "db", "new") == {"db", "new"}
    assert tags_after(netbox, "web", "db", "new") == {"db", "new"}


def test_a_tag_that_a_person_had_put_before_us_is_theirs() -> None:
    netbox = synced(tagged())
    netbox.edit(VMS, netbox.one(VMS)["id"], tags=[OWNER_TAG, "web"])
    assert tags_after(netbox, "web") == {"web"}
    assert tags_after(netbox) == {"web"}


def test_tags_by_always_are_added_and_never_taken_from_people() -> None:
    rules = overridden(tags=Policy.ALWAYS)
    netbox = synced(tagged("web"), rules=rules)
    netbox.edit(VMS, netbox.one(VMS)["id"], tags=[OWNER_TAG, "theirs"])
    again(netbox, tagged("web"), rules=rules)
    assert set(netbox.one(VMS)["tags"]) == {OWNER_TAG, "web", "theirs"}


# -- patched by another class, clashes, long texts ----------------------------------------------------------------


def test_update_only_patches_a_row_that_another_class_makes() -> None:
    guests, disks = wanted("virtual_machines", machine(100)), wanted("virtual_disks", disk(100, "scsi0"))
    boot = wanted("primary_disks", primary(100, Ref("virtual_disks", (machine_ref(100), "scsi0"))))
    netbox = synced(guests, disks, boot)
    assert netbox.one(VMS)["boot_disk"] == netbox.one("virtualization/virtual-disks")["id"]
    before = netbox.changes
    run = again(netbox, guests, disks, boot)
    assert netbox.changes == before
    assert run.counts("primary_disks") == {"seen": 1, "unchanged": 1}


def test_update_only_without_a_row_is_skipped_and_makes_none() -> None:
    netbox = synced()
    run = again(netbox, wanted("primary_disks", primary(100, None)))
    assert run.counts("primary_disks") == {"seen": 1, "skipped": 1}
    assert netbox.all(VMS) == []


def test_a_clash_with_another_endpoint_gets_a_value_of_its_own_and_stays_so() -> None:
    netbox = synced(wanted("virtual_machines", machine(100)))
    theirs = netbox.add(
        "plugins/proxbox/snapshots",
        virtual_machine=netbox.one(VMS)["id"],
        name="before",
        vmid=100,
        cf_proxmox_endpoint=OTHER,
        tags=[OWNER_TAG],
    )
    desired = (wanted("virtual_machines", machine(100)), wanted("snapshots", snapshot(100, "before")))
    run = again(netbox, *desired)
    assert run.counts("snapshots") == {"seen": 1, "created": 1}
    names = {row["id"]: row["name"] for row in netbox.all("plugins/proxbox/snapshots")}
    assert names.pop(theirs) == "before"
    assert set(names.values()) == {"before@ams1"}
    assert again(netbox, *desired).counts("snapshots") == {"seen": 1, "unchanged": 1}


def test_long_text_is_cut_as_netbox_would_refuse_it_and_stays_equal() -> None:
    guest = machine(100, "x" * 80, description="y" * 300)
    netbox = synced(wanted("virtual_machines", guest))
    row = netbox.one(VMS)
    assert (len(row["name"]), len(row["description"])) == (64, 200)
    assert row["name"].endswith("…")
    assert again(netbox, wanted("virtual_machines", guest)).counts("virtual_machines") == {"seen": 1, "unchanged": 1}


# -- accounting ---------------------------------------------------------------------------------------------------


def test_a_dry_run_reads_and_plans_all_classes_and_writes_nothing() -> None:
    netbox = fake()
    desired = (
        *base(),
        wanted("virtual_machines", machine(100)),
        wanted("virtual_disks", disk(100, "scsi0")),
        wanted("primary_disks", primary(100, Ref("virtual_disks", (machine_ref(100), "scsi0")))),
    )
    before = netbox.snapshot()
    dry = Run(netbox, dry_run=True).write(*desired)
    assert netbox.snapshot() == before
    assert {method for method, _path in netbox.requests} == {"GET"}
    wet = Run(netbox).write(*desired)
    for name in ("roles", "clusters", "virtual_machines", "virtual_disks"):
        assert dry.reports[name].counts() == wet.reports[name].counts()
        told = [(item.label, item.action, item.field, item.after) for item in dry.reports[name].changes]
        done = [(item.label, item.action, item.field, item.after) for item in wet.reports[name].changes]
        assert told == done
        assert len(told) == len(done)


def test_one_changed_field_is_one_patch_of_one_field() -> None:
    guests = [machine(vmid) for vmid in range(100, 110)]
    netbox = synced(wanted("virtual_machines", *guests))
    netbox.log.clear()
    guests[3] = machine(103, memory=4096)
    again(netbox, wanted("virtual_machines", *guests))
    row_id = netbox.one(VMS, name="vm103")["id"]
    assert netbox.log == [("PATCH", VMS, [{"id": row_id, "memory": 4096}])]
