"""Addresses that move between machines: who lets go first, what stays, and what is never taken. The core, in memory."""

from __future__ import annotations

from typing import Any

import pytest

from proxbox_dagster.netbox.changes import Rules
from proxbox_dagster.netbox.spec import ENDPOINT_FIELD, Coverage, Desired, Ref, Row
from proxbox_dagster.stages.devices_specs import CLUSTER, DEVICE, ROLE, SITE
from proxbox_dagster.stages.network_specs import IP_ADDRESS, VM_INTERFACE
from proxbox_dagster.stages.node_interfaces_specs import INTERFACE, NODE_PRIMARY_ADDRESS
from proxbox_dagster.stages.virtual_machines_specs import VIRTUAL_MACHINE
from proxbox_dagster.stages.vm_interfaces_specs import VMINTERFACE
from proxbox_dagster.stages.vm_ip_addresses import VM_ADDRESSES, VM_PRIMARY_ADDRESS, VM_PRIMARY_ADDRESSES
from proxbox_dagster_tests.support.memory_netbox import ADDRESSES, MemoryNetBox, failures

SPECS = (
    SITE,
    ROLE,
    CLUSTER,
    DEVICE,
    VIRTUAL_MACHINE,
    INTERFACE,
    VMINTERFACE,
    IP_ADDRESS,
    VM_PRIMARY_ADDRESS,
    NODE_PRIMARY_ADDRESS,
)
VMS = "virtualization/virtual-machines"
NICS = "virtualization/interfaces"


def vm(number: int) -> Ref:
    return Ref("virtual_machines", ("ams1", "qemu", number))


def nic(number: int, key: str = "net0") -> Ref:
    return Ref("vm_interfaces", (vm(number), key))


def address(text: str, where: Ref, **more: Any) -> Row:
    values = {
        ENDPOINT_FIELD: "ams1",
        "host": text,
        "address": text,
        "status": "active",
        "assigned_object_type": VM_INTERFACE,
        "assigned_object_id": where,
        "tags": frozenset({"proxbox"}),
    }
    return Row(values, f"{text} on {where}", **more)


def primary(number: int, host: str, *, initial: bool = False) -> Row:
    row = Row(dict(zip(VIRTUAL_MACHINE.identity, vm(number).key, strict=True)), f"vm {number}")
    (row.initial if initial else row.values)["primary_ip4"] = Ref("ip_addresses", ("ams1", host))
    return row


def addresses(*rows: Row, **more: Any) -> Desired:
    parents = frozenset(row.values["assigned_object_id"] for row in rows)
    return Desired(VM_ADDRESSES, list(rows), coverage=Coverage(parents=parents), **more)


def primaries(*rows: Row) -> Desired:
    return Desired(VM_PRIMARY_ADDRESSES, list(rows))


@pytest.fixture
def netbox() -> MemoryNetBox:
    """Two machines with two cards each."""
    made = MemoryNetBox()
    for number in (100, 101):
        row_id = made.seed(
            VMS, name=f"vm{number}", cf_proxmox_endpoint="ams1", cf_proxmox_vm_type="qemu", cf_proxmox_vm_id=number
        )
        for key in ("net0", "net1"):
            made.seed(NICS, virtual_machine=row_id, name=key, cf_proxmox_endpoint="ams1", cf_proxmox_nic=key)
    return made


def run(netbox: MemoryNetBox, *classes: Desired, rules: Rules | None = None) -> Any:
    return netbox.apply(classes, SPECS, rules)


def test_a_second_run_writes_nothing(netbox: MemoryNetBox) -> None:
    for _ in range(2):
        done = run(netbox, addresses(address("192.0.2.1/24", nic(100))), primaries(primary(100, "192.0.2.1")))
        assert failures(done) == []
    assert netbox.writes == []


def test_33_a_changed_prefix_length_is_one_patch_of_one_field(netbox: MemoryNetBox) -> None:
    run(netbox, addresses(address("192.0.2.1/24", nic(100))))
    before = netbox.row(ADDRESSES)["id"]
    run(netbox, addresses(address("192.0.2.1/25", nic(100))))
    assert netbox.writes == [("update", ADDRESSES, [{"id": before, "address": "192.0.2.1/25"}])]


def test_30_an_address_moves_although_it_is_primary(netbox: MemoryNetBox) -> None:
    run(netbox, addresses(address("192.0.2.1/24", nic(100))), primaries(primary(100, "192.0.2.1")))
    row_id = netbox.row(ADDRESSES)["id"]
    done = run(
        netbox,
        addresses(address("192.0.2.1/24", nic(101)), address("192.0.2.2/24", nic(100))),
        primaries(primary(101, "192.0.2.1"), primary(100, "192.0.2.2")),
    )
    assert failures(done) == []
    assert netbox.row(ADDRESSES, address="192.0.2.1/24")["id"] == row_id
    assert netbox.row(VMS, name="vm101")["primary_ip4"] == row_id
    assert netbox.row(VMS, name="vm100")["primary_ip4"] == netbox.row(ADDRESSES, address="192.0.2.2/24")["id"]
    assert any("vm100 lets go of its primary_ip4" in note for note in done["vm_addresses"][0].notes)
    run(
        netbox,
        addresses(address("192.0.2.1/24", nic(101)), address("192.0.2.2/24", nic(100))),
        primaries(primary(101, "192.0.2.1"), primary(100, "192.0.2.2")),
    )
    assert netbox.writes == []


def test_two_machines_swap_their_primary_addresses(netbox: MemoryNetBox) -> None:
    for one, two in ((100, 101), (101, 100)):
        done = run(
            netbox,
            addresses(address("192.0.2.1/24", nic(one)), address("192.0.2.2/24", nic(two))),
            primaries(primary(one, "192.0.2.1"), primary(two, "192.0.2.2")),
        )
        assert failures(done) == []
    first = netbox.row(ADDRESSES, address="192.0.2.1/24")["id"]
    assert netbox.row(VMS, name="vm101")["primary_ip4"] == first


def test_a_move_between_cards_of_one_machine_keeps_the_primary(netbox: MemoryNetBox) -> None:
    run(netbox, addresses(address("192.0.2.1/24", nic(100))), primaries(primary(100, "192.0.2.1")))
    done = run(netbox, addresses(address("192.0.2.1/24", nic(100, "net1"))), primaries(primary(100, "192.0.2.1")))
    assert failures(done) == []
    assert [(verb, path) for verb, path, _ in netbox.writes] == [("update", ADDRESSES)]


def test_34_a_primary_that_a_person_chose_is_kept(netbox: MemoryNetBox) -> None:
    both = addresses(address("192.0.2.1/24", nic(100)), address("192.0.2.2/24", nic(100)))
    run(netbox, both, primaries(primary(100, "192.0.2.1")))
    chosen = netbox.row(ADDRESSES, address="192.0.2.2/24")["id"]
    netbox.row(VMS, name="vm100")["primary_ip4"] = chosen
    done = run(netbox, both, primaries(primary(100, "192.0.2.1")))
    assert netbox.writes == []
    assert [item.field for item in done["vm_primary_addresses"][0].conflicts] == ["primary_ip4"]
    netbox.row(VMS, name="vm100")["primary_ip4"] = None
    run(netbox, both, primaries(primary(100, "192.0.2.1")))
    assert netbox.row(VMS, name="vm100")["primary_ip4"] is None, "a person took it away"


def test_a_primary_whose_address_netbox_deleted_is_set_anew(netbox: MemoryNetBox) -> None:
    run(netbox, addresses(address("192.0.2.1/24", nic(100))), primaries(primary(100, "192.0.2.1")))
    netbox.delete(ADDRESSES, [netbox.row(ADDRESSES)["id"]])
    assert netbox.row(VMS, name="vm100")["primary_ip4"] is None
    run(netbox, addresses(address("192.0.2.9/24", nic(100))), primaries(primary(100, "192.0.2.9")))
    assert netbox.row(VMS, name="vm100")["primary_ip4"] == netbox.row(ADDRESSES)["id"]


def test_memory_of_the_machine_itself_survives_a_primary(netbox: MemoryNetBox) -> None:
    row = netbox.row(VMS, name="vm100")
    row["custom_fields"]["proxbox_last_written"] = {"name": "vm100", "description": "first"}
    run(netbox, addresses(address("192.0.2.1/24", nic(100))), primaries(primary(100, "192.0.2.1")))
    memory = netbox.row(VMS, name="vm100")["custom_fields"]["proxbox_last_written"]
    assert memory == {"name": "vm100", "description": "first", "primary_ip4": netbox.row(ADDRESSES)["id"]}
    run(netbox, addresses(address("192.0.2.1/24", nic(101))), primaries(primary(101, "192.0.2.1")))
    memory = netbox.row(VMS, name="vm100")["custom_fields"]["proxbox_last_written"]
    assert memory == {"name": "vm100", "description": "first", "primary_ip4": None}


def test_what_is_only_presumed_never_changes_or_moves_a_row(netbox: MemoryNetBox) -> None:
    run(netbox, addresses(address("192.0.2.1/24", nic(100))))
    done = run(netbox, addresses(address("192.0.2.1/25", nic(100), only_new=True)))
    assert (netbox.writes, done["vm_addresses"][0].unchanged) == ([], [netbox.row(ADDRESSES)["id"]])
    presumed = addresses(address("192.0.2.1/25", nic(101), only_new=True))
    done = run(netbox, presumed, primaries(primary(101, "192.0.2.1", initial=True)))
    assert netbox.writes == []
    assert "there it stays" in done["vm_addresses"][0].skips[0].reason
    assert failures(done) == []


def test_what_is_only_presumed_is_made_where_netbox_has_nothing(netbox: MemoryNetBox) -> None:
    presumed = addresses(address("192.0.2.1/25", nic(101), only_new=True))
    run(netbox, presumed, primaries(primary(101, "192.0.2.1", initial=True)))
    assert netbox.row(VMS, name="vm101")["primary_ip4"] == netbox.row(ADDRESSES)["id"]
    run(netbox, presumed, primaries(primary(101, "192.0.2.1", initial=True)))
    assert netbox.writes == []


def test_a_narrowed_run_takes_no_address_from_where_it_does_not_look(netbox: MemoryNetBox) -> None:
    run(netbox, addresses(address("192.0.2.1/24", nic(100))), primaries(primary(100, "192.0.2.1")))
    narrowed = addresses(address("192.0.2.1/24", nic(101)), hold="it is narrowed to guests 101")
    done = run(netbox, narrowed, primaries(primary(101, "192.0.2.1")))
    assert netbox.writes == []
    assert "where this run does not look (it is narrowed to guests 101)" in done["vm_addresses"][0].skips[0].reason
    both = addresses(
        address("192.0.2.1/24", nic(101)), address("192.0.2.2/24", nic(100)), hold="it is narrowed to guests 100, 101"
    )
    assert failures(run(netbox, both)) == []
    assert (
        netbox.row(ADDRESSES, address="192.0.2.1/24")["assigned_object_id"]
        == netbox.row(NICS, virtual_machine=netbox.row(VMS, name="vm101")["id"], name="net0")["id"]
    )


@pytest.mark.parametrize("mask", ["24", "32"])
def test_an_address_that_people_assigned_elsewhere_is_never_taken(netbox: MemoryNetBox, mask: str) -> None:
    foreign = netbox.seed(
        ADDRESSES, address=f"192.0.2.1/{mask}", tags=[], assigned_object_type="dcim.interface", assigned_object_id=999
    )
    for adopt in ("never", "by_name"):
        done = run(netbox, addresses(address("192.0.2.1/24", nic(100))), rules=Rules(adopt=adopt))  # type: ignore[arg-type]
        assert netbox.writes == []
        assert "is assigned to something else and is not taken from it" in failures(done)[0]
    netbox.tables[ADDRESSES][foreign]["assigned_object_id"] = None
    netbox.tables[ADDRESSES][foreign]["assigned_object_type"] = None
    assert "did not make" in failures(run(netbox, addresses(address("192.0.2.1/24", nic(100)))))[0]
    assert failures(run(netbox, addresses(address("192.0.2.1/24", nic(100))), rules=Rules(adopt="by_name"))) == []
    assert netbox.tables[ADDRESSES][foreign]["address"] == "192.0.2.1/24"


def test_47_a_dry_run_names_fields_of_rows_that_are_still_to_be_made(netbox: MemoryNetBox) -> None:
    classes = (addresses(address("192.0.2.1/24", nic(100))), primaries(primary(100, "192.0.2.1")))
    done = netbox.apply(classes, SPECS, dry_run=True)
    assert netbox.writes == []
    update = done["vm_primary_addresses"][0].updates[0]
    assert update.changes["primary_ip4"] == (None, Ref("ip_addresses", ("ams1", "192.0.2.1")))
    netbox.delete(VMS, [row["id"] for row in netbox.rows(VMS)])
    done = netbox.apply(classes, SPECS, dry_run=True)
    assert failures(done) == []
    assert "is not in NetBox" in done["vm_primary_addresses"][0].skips[0].reason
