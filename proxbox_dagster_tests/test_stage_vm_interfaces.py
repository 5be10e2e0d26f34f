"""Stage 9: network cards of guests become interfaces, field by field, and stay the same rows whatever changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxbox_dagster.facts import GapKind
from proxbox_dagster.netbox.spec import Desired, Ref
from proxbox_dagster.scope import Scope
from proxbox_dagster.settings import AddressConfig
from proxbox_dagster.stages.common import device_ref, vm_ref
from proxbox_dagster.stages.vlans import MOST_TAGGED, Dot1q, dot1q, ids_of
from proxbox_dagster.stages.vm_interfaces import STAGE, build
from proxbox_dagster_tests.support.networking import CONTEXT, Bench, Source, by_label, inside, one
from proxbox_dagster_tests.support.sources import shuffled

MAC = "BC:24:11:00:00:{:02X}"
AGENT = replace(CONTEXT, addresses=AddressConfig(interface_names="agent"))
SITE = Ref("sites", ("proxmox-default-site-ams1",))


def vlan(vid: int) -> Ref:
    return Ref("vlans", (vid, SITE))


def card(net0: str, kind: str = "qemu", **more: Any) -> dict[str, Any]:
    """The values of the one card of a guest."""
    source = Source()
    getattr(source, kind)(100, net0=net0, **more)
    rows = one(build(source.inputs(), CONTEXT), "vm_interfaces").rows
    assert len(rows) == 1
    return rows[0].values


def test_vlans_are_of_the_site_that_people_put_the_guest_in_or_else_its_node() -> None:
    source = Source()
    for vmid in (100, 101, 102):
        source.qemu(vmid, net0=f"virtio={MAC.format(vmid)},bridge=vmbr0,tag=10", node="pve1" if vmid < 102 else "pve2")
    sites = {vm_ref(CONTEXT, "qemu", 100): "guests", device_ref(CONTEXT, "pve1"): "nodes"}
    made = build(source.inputs(), replace(CONTEXT, placed=sites.get, netbox_site="cluster"))
    wanted = [(10, Ref("sites", (slug,))) for slug in ("cluster", "guests", "nodes")]
    assert [(row.values["vid"], row.values["site"]) for row in one(made, "vm_vlans").rows] == wanted
    found = {row.label: row.values["untagged_vlan"].key[1].key[0] for row in one(made, "vm_interfaces").rows}
    assert sorted(found.items()) == list(zip(sorted(found), ("guests", "nodes", "cluster"), strict=True))


@pytest.mark.parametrize(
    ("net0", "expected"),
    [
        (
            "virtio=BC:24:11:00:00:01,bridge=vmbr0",
            {"name": "net0", "enabled": True, "mtu": None, "mode": None, "description": "virtio on vmbr0"},
        ),
        ("e1000=BC:24:11:00:00:01,bridge=vmbr0,link_down=1", {"enabled": False, "description": "e1000 on vmbr0"}),
        ("virtio=BC:24:11:00:00:01,bridge=vmbr0,mtu=1", {"mtu": None}),
        ("virtio=BC:24:11:00:00:01,bridge=vmbr0,mtu=9000", {"mtu": 9000}),
        ("virtio=BC:24:11:00:00:01", {"description": "virtio"}),
        (
            "virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=10",
            {"mode": "access", "untagged_vlan": vlan(10), "tagged_vlans": ()},
        ),
        (
            "virtio=BC:24:11:00:00:01,bridge=vmbr0,trunks=30;10-11",
            {"mode": "tagged", "untagged_vlan": None, "tagged_vlans": (vlan(10), vlan(11), vlan(30))},
        ),
        (
            "virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=10,trunks=10;20",
            {"mode": "tagged", "untagged_vlan": vlan(10), "tagged_vlans": (vlan(20),)},
        ),
        (
            "virtio=BC:24:11:00:00:01,bridge=vmbr0,trunks=2-4094",
            {
                "mode": "tagged-all",
                "untagged_vlan": None,
                "tagged_vlans": (),
                "description": "virtio on vmbr0, VLANs 2-4094",
            },
        ),
        ("virtio=BC:24:11:00:00:01,bridge=vmbr0,tag=0", {"mode": None, "untagged_vlan": None}),
    ],
)
def test_fields_of_a_qemu_card(net0: str, expected: dict[str, Any]) -> None:
    values = card(net0)
    assert {name: values[name] for name in expected} == expected
    assert values["cf.proxmox_nic"] == "net0"


def test_fields_of_a_container_card() -> None:
    values = card("name=eth0,bridge=vmbr0,hwaddr=bc:24:11:00:00:01,ip=dhcp,tag=20,type=veth,link_down=1", "lxc")
    assert (values["name"], values["cf.proxmox_nic"], values["enabled"]) == ("eth0", "net0", False)
    assert (values["mode"], values["untagged_vlan"], values["description"]) == ("access", vlan(20), "veth on vmbr0")


def test_vlans_are_those_that_the_cards_need() -> None:
    source = Source()
    source.qemu(100, net0=f"virtio={MAC.format(1)},bridge=vmbr0,tag=10,trunks=30-31")
    source.lxc(101, net3="name=eth0,bridge=vmbr0,tag=10")
    made = one(build(source.inputs(), CONTEXT), "vm_vlans")
    assert [(row.values["vid"], row.values["name"], row.values["site"]) for row in made] == [
        (10, "VLAN 10", SITE),
        (30, "VLAN 30", SITE),
        (31, "VLAN 31", SITE),
    ]
    assert not made.coverage.everything
    assert not made.coverage.parents


@given(st.lists(st.tuples(st.integers(0, 4095), st.integers(0, 4095)), max_size=5), st.integers(1, 4094) | st.none())
@settings(max_examples=60, deadline=None)
def test_vlan_modes_are_what_netbox_takes(ranges: list[tuple[int, int]], tag: int | None) -> None:
    got = dot1q(tag, ids_of((min(pair), max(pair)) for pair in ranges))
    assert all(1 <= vid <= 4094 for vid in got.vids)
    assert got.untagged == tag
    assert got.untagged not in got.tagged
    assert len(got.tagged) <= MOST_TAGGED
    assert bool(got.tagged) == (got.mode == "tagged")
    if got.mode is None:
        assert got == Dot1q()


def test_unreadable_cards_are_reported_and_kept() -> None:
    source = Source()
    source.qemu(
        100, net0=f"virtio={MAC.format(1)},bridge=vmbr0", net1="virtio=XX,bridge=", net2="virtio,bridge=vmbr0,tag=5000"
    )
    made = one(build(source.inputs(), CONTEXT), "vm_interfaces")
    assert [row.label for row in made] == ["vm100 (qemu/100) net0"]
    vm = Ref("virtual_machines", ("ams1", "qemu", 100))
    assert [(skip.label, skip.key) for skip in made.skips] == [
        ("vm100 (qemu/100) net1", (vm, "net1")),
        ("vm100 (qemu/100) net2", (vm, "net2")),
    ]
    assert "net1 cannot be read" in made.skips[0].reason
    assert "tag=5000 is no VLAN id" in made.skips[1].reason


def test_13_a_guest_whose_configuration_was_not_read_is_left_alone() -> None:
    source = Source()
    source.qemu(100, net0=f"virtio={MAC.format(1)},bridge=vmbr0")
    source.qemu(101, net0=f"virtio={MAC.format(2)},bridge=vmbr0")
    source.configs["qemu", 101] = None
    source.gap("guest_configs", "qemu", 101, GapKind.FAILED, "500 oops")
    classes = build(source.inputs(), CONTEXT)
    made = one(classes, "vm_interfaces")
    assert [row.label for row in made] == ["vm100 (qemu/100) net0"]
    assert made.coverage.parents == {Ref("virtual_machines", ("ams1", "qemu", 100))}
    assert "500 oops" in made.skips[0].reason
    assert [ref.key[1] for ref in one(classes, "vm_mac_addresses").coverage.parents] == ["net0"]


@pytest.mark.parametrize("seed", range(3))
def test_2_the_order_of_answers_makes_no_difference(seed: int) -> None:
    source = Source()
    for vmid in range(100, 106):
        source.qemu(vmid, net0=f"virtio={MAC.format(vmid - 100)},bridge=vmbr0,tag={vmid - 90}", net1="virtio,bridge=b")
    straight, mixed = build(source.inputs(), CONTEXT), build(shuffled(source.inputs(), seed), CONTEXT)
    assert [shown(item) for item in straight] == [shown(item) for item in mixed]


def shown(desired: Desired) -> Any:
    return [(row.label, row.values, row.initial) for row in desired.rows], desired.skips, desired.coverage


def test_bridges_go_to_the_sync_states() -> None:
    source = Source()
    source.networks.append({"node": "pve2", "iface": "vmbr1", "type": "bridge"})
    source.qemu(
        100,
        net0=f"virtio={MAC.format(1)},bridge=vmbr0",
        net1=f"virtio={MAC.format(2)},bridge=vnet7",
        net2=f"virtio={MAC.format(3)}",
    )
    source.qemu(101, node="pve3", net0=f"virtio={MAC.format(4)},bridge=vmbr9")
    rows = by_label(one(build(source.inputs(), CONTEXT), "vm_interface_sync_states"))
    bridge = Ref("interfaces", (Ref("devices", ("ams1", "pve1")), "vmbr0"))
    unknown = Ref("interfaces", (Ref("devices", ("ams1", "pve3")), "vmbr9"))
    found = {
        label: (row.values["proxbox_bridge"], row.values["proxbox_bridge_raw_value"]) for label, row in rows.items()
    }
    assert found == {
        "vm100 (qemu/100) net0": (bridge, "vmbr0"),
        "vm100 (qemu/100) net1": (None, "vnet7"),
        "vm100 (qemu/100) net2": (None, None),
        "vm101 (qemu/101) net0": (unknown, "vmbr9"),  # node not read: NetBox may know the bridge from before
    }
    without = [item.object_class.name for item in build(source.inputs(), replace(CONTEXT, plugin=False))]
    assert without == [item.name for item in STAGE.classes(plugin=False)]


# -- over runs --------------------------------------------------------------------------------------------------


def test_a_card_arrives_with_mac_vlan_and_bridge_and_then_nothing_is_written() -> None:
    bench = Bench()
    bench.source.qemu(100, net0=f"virtio={MAC.format(1).lower()},bridge=vmbr0,tag=10", net1=f"rtl8139={MAC.format(2)}")
    bench.source.lxc(101, net0=f"name=eth0,bridge=vmbr0,hwaddr={MAC.format(3)},trunks=10;20")
    bench.sync()
    assert bench.failures == []
    row = bench.card("vm100", "net0")
    mac = bench.netbox.row("dcim/mac-addresses", mac_address=MAC.format(1))
    assert (mac["assigned_object_type"], mac["assigned_object_id"]) == ("virtualization.vminterface", row["id"])
    assert row["primary_mac_address"] == mac["id"]
    assert row["untagged_vlan"] == bench.netbox.row("ipam/vlans", vid=10)["id"]
    state = bench.netbox.row("plugins/proxbox/sync-state/vm-interfaces", vm_interface=row["id"])
    assert state["proxbox_bridge"] == state["proxbox_bridge_raw_id"] == bench.netbox.row("dcim/interfaces")["id"]
    assert bench.card("ct101", "eth0")["mode"] == "tagged"
    bench.sync()
    assert bench.netbox.writes == []
    bench.source.qemu(100, net1=f"rtl8139={MAC.format(2)}", net0=f"bridge=vmbr0,tag=10,virtio={MAC.format(1)}")
    bench.sync()
    assert bench.netbox.writes == [], "another spelling of the same"


@pytest.mark.parametrize(
    ("net0", "patch"),
    [
        (f"virtio={MAC.format(1)},bridge=vmbr0", {"mode": "", "untagged_vlan": None}),
        (f"virtio={MAC.format(1)},bridge=vmbr0,tag=10,link_down=1", {"enabled": False}),
        (f"virtio={MAC.format(1)},bridge=vmbr0,tag=10,mtu=1400", {"mtu": 1400}),
    ],
)
def test_5_a_change_of_a_card_is_one_patch_of_what_changed(net0: str, patch: dict[str, Any]) -> None:
    bench = Bench()
    bench.source.qemu(100, net0=f"virtio={MAC.format(1)},bridge=vmbr0,tag=10")
    bench.sync()
    bench.source.qemu(100, net0=net0)
    bench.sync()
    row_id = bench.card("vm100", "net0")["id"]
    assert bench.netbox.writes == [("update", "virtualization/interfaces", [{"id": row_id, **patch}])]


def test_a_renamed_container_card_stays_the_same_row() -> None:
    bench = Bench()
    bench.source.lxc(101, net0=f"name=eth0,bridge=vmbr0,hwaddr={MAC.format(3)}")
    bench.sync()
    row_id = bench.card("ct101", "eth0")["id"]
    bench.source.lxc(101, net0=f"name=wan0,bridge=vmbr0,hwaddr={MAC.format(3)}")
    bench.sync()
    assert bench.changed() == [("update", "virtualization/interfaces", 1)]
    assert bench.card("ct101", "wan0")["id"] == row_id


def test_a_new_mac_replaces_the_old_one() -> None:
    bench = Bench()
    bench.source.qemu(100, net0=f"virtio={MAC.format(1)},bridge=vmbr0")
    bench.sync()
    bench.source.qemu(100, net0=f"virtio={MAC.format(9)},bridge=vmbr0")
    bench.sync()
    assert [row["mac_address"] for row in bench.netbox.rows("dcim/mac-addresses")] == [MAC.format(9)]
    assert bench.card("vm100", "net0")["primary_mac_address"] == bench.netbox.row("dcim/mac-addresses")["id"]


def test_a_removed_card_goes_and_a_new_one_comes() -> None:
    bench = Bench()
    bench.source.qemu(100, net0=f"virtio={MAC.format(1)},bridge=vmbr0", net1=f"virtio={MAC.format(2)},bridge=vmbr0")
    bench.sync()
    bench.source.qemu(100, net0=f"virtio={MAC.format(1)},bridge=vmbr0", net2=f"virtio={MAC.format(3)},bridge=vmbr0")
    bench.sync()
    names = {row["name"] for row in bench.netbox.rows("virtualization/interfaces")}
    assert names == {"net0", "net2"}


def test_36_what_a_person_wrote_survives() -> None:
    bench = Bench()
    bench.source.qemu(100, net0=f"virtio={MAC.format(1)},bridge=vmbr0")
    bench.sync()
    row = bench.card("vm100", "net0")
    row |= {"name": "mgmt", "description": "uplink"}
    plans = bench.sync()
    assert bench.netbox.writes == []
    assert {item.field for item in plans["vm_interfaces"].conflicts} == {"name", "description"}


def test_names_of_the_agent_are_one_patch_and_survive_its_silence() -> None:
    bench = Bench()
    bench.source.qemu(100, agent="1", net0=f"virtio={MAC.format(1)},bridge=vmbr0")
    bench.sync(context=AGENT)
    row_id = bench.card("vm100", "net0")["id"]
    bench.source.reports(
        100,
        inside("lo", "00:00:00:00:00:00", "127.0.0.1/8"),
        inside("docker0", MAC.format(1)),
        inside("br0", MAC.format(1)),
        inside("ens18", MAC.format(1)),
        inside("ens18.20", MAC.format(1)),
    )
    bench.sync(STAGE, context=AGENT)
    assert bench.changed() == [("update", "virtualization/interfaces", 1)]
    assert bench.card("vm100", "ens18")["id"] == row_id
    bench.source.reports(100)
    bench.sync(STAGE, context=AGENT)
    assert bench.netbox.writes == []
    bench.sync(STAGE, context=CONTEXT)
    assert bench.card("vm100", "net0")["id"] == row_id, "the setting was taken back"


def test_two_cards_with_one_mac_do_not_clash_in_name() -> None:
    bench = Bench()
    bench.source.qemu(100, agent="1", net0=f"virtio={MAC.format(1)},bridge=a", net1=f"virtio={MAC.format(1)},bridge=b")
    bench.source.reports(100, inside("eth0", MAC.format(1)))
    bench.sync(STAGE, context=AGENT)
    assert {row["name"] for row in bench.netbox.rows("virtualization/interfaces")} == {"eth0", "net1"}


def test_a_narrowed_run_touches_only_its_guests() -> None:
    bench = Bench()
    bench.source.qemu(100, net0=f"virtio={MAC.format(1)},bridge=vmbr0")
    bench.source.qemu(101, net0=f"virtio={MAC.format(2)},bridge=vmbr0")
    bench.sync()
    bench.source.qemu(100)
    bench.source.qemu(101)
    bench.sync(STAGE, context=replace(CONTEXT, scope=Scope(vmids=frozenset({101}))))
    assert [row["virtual_machine"] for row in bench.netbox.rows("virtualization/interfaces")] == [
        bench.machine("vm100")["id"]
    ]
