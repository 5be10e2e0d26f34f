"""Stage 8: the network configuration of nodes becomes interfaces, VLANs and addresses of devices."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxbox_dagster.facts import UNOBSERVED, Gap, GapKind
from proxbox_dagster.netbox.spec import Desired, Outcome, Ref
from proxbox_dagster.scope import Scope
from proxbox_dagster.stages.node_interfaces import STAGE, build
from proxbox_dagster.stages.node_topology import topology_of
from proxbox_dagster_tests.support.networking import CONTEXT, Bench, Source, by_label, one
from proxbox_dagster_tests.support.sources import fetched, shuffled

SITE = Ref("sites", ("proxmox-default-site-ams1",))

LINUX: list[dict[str, Any]] = [
    {"iface": "lo", "type": "loopback", "cidr": "127.0.0.1/8"},
    {"iface": "eno1", "type": "eth", "active": True},
    {"iface": "eno2", "type": "eth", "active": True},
    {"iface": "eno3", "type": "eth", "comments": " spare,\nnot cabled\n"},
    {"iface": "bond0", "type": "bond", "active": True, "slaves": "eno2 eno1", "bond_mode": "802.3ad"},
    {
        "iface": "vmbr0",
        "type": "bridge",
        "active": True,
        "bridge_ports": "bond0",
        "bridge_vlan_aware": True,
        "bridge_vids": "2-4094",
        "cidr": "192.0.2.11/24",
        "gateway": "192.0.2.1",
        "cidr6": "2001:DB8:0:2::11/64",
        "options": ["hwaddress ether bc:24:11:00:00:aa", "post-up true"],
    },
    {"iface": "vmbr0:1", "type": "alias", "active": True, "address": "192.0.2.111", "netmask": "255.255.255.0"},
    {
        "iface": "vmbr0.20",
        "type": "vlan",
        "active": True,
        "vlan-id": 20,
        "vlan-raw-device": "vmbr0",
        "mtu": 9000,
        "cidr": "198.51.100.11/26",
    },
    {"iface": "mgmt", "type": "vlan", "active": True, "vlan-id": 1, "vlan-raw-device": "vmbr1"},
    {"iface": "eno3.30", "type": "vlan", "active": True},
    {"iface": "vmbr1", "type": "bridge", "active": True, "bridge_ports": "none"},
    {"iface": "vmbr2", "type": "bridge", "active": True, "bridge_vlan_aware": True, "bridge_vids": "10 20 30-32"},
    {"iface": "vmbr30", "type": "bridge", "active": True, "bridge_ports": "eno3.30 gone0"},
]
OVS: list[dict[str, Any]] = [
    {"iface": "ens1", "type": "eth", "active": True},
    {"iface": "ens2", "type": "eth", "active": True},
    {"iface": "ens3", "type": "OVSPort", "ovs_bridge": "vmbr0", "ovs_tag": 30},
    {"iface": "ens4", "type": "OVSPort", "ovs_bridge": "vmbr0", "ovs_options": "vlan_mode=trunk tag=5 trunks=10,20"},
    {"iface": "bond0", "type": "OVSBond", "ovs_bonds": "ens1 ens2", "ovs_bridge": "vmbr0"},
    {"iface": "vmbr0", "type": "OVSBridge", "ovs_ports": "bond0 mgmt ens3"},
    {"iface": "mgmt", "type": "OVSIntPort", "ovs_bridge": "vmbr0", "cidr": "192.0.2.12/24", "gateway": "192.0.2.1"},
]


def source(**nodes: list[dict[str, Any]]) -> Source:
    made = Source()
    made.networks = [{"node": node, **row} for node, rows in nodes.items() for row in rows]
    return made


def built(**nodes: list[dict[str, Any]]) -> dict[str, Desired]:
    return {item.object_class.name: item for item in build(source(**nodes).inputs(), CONTEXT)}


def values(name: str, *fields: str, **nodes: list[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """Interface to its values of these fields, references as the other interface's name or the VLAN's id."""
    rows = built(**nodes)["interfaces"].rows
    return {row.values["name"]: tuple(_plain(row.values[field]) for field in (name, *fields)) for row in rows}


def _plain(value: Any) -> Any:
    if isinstance(value, Ref):
        return value.key[1] if value.index == "interfaces" else value.key[0]
    return tuple(_plain(item) for item in value) if isinstance(value, tuple) else value


def test_types_and_topology_of_linux() -> None:
    assert values("type", "bridge", "lag", "parent", pve1=LINUX) == {
        "bond0": ("lag", "vmbr0", None, None),
        "eno1": ("other", None, "bond0", None),
        "eno2": ("other", None, "bond0", None),
        "eno3": ("other", None, None, None),
        "eno3.30": ("virtual", "vmbr30", None, "eno3"),
        "mgmt": ("virtual", None, None, "vmbr1"),
        "vmbr0": ("bridge", None, None, None),
        "vmbr0.20": ("virtual", None, None, "vmbr0"),
        "vmbr1": ("bridge", None, None, None),
        "vmbr2": ("bridge", None, None, None),
        "vmbr30": ("bridge", None, None, None),
    }


def test_vlans_of_linux() -> None:
    found = values("mode", "untagged_vlan", "tagged_vlans", pve1=LINUX)
    assert {name: value for name, value in found.items() if value != (None, None, ())} == {
        "eno3": ("tagged", None, (30,)),
        "eno3.30": ("access", 30, ()),
        "mgmt": ("access", 1, ()),
        "vmbr0": ("tagged-all", None, ()),
        "vmbr0.20": ("access", 20, ()),
        "vmbr1": ("tagged", None, (1,)),
        "vmbr2": ("tagged", None, (10, 20, 30, 31, 32)),
    }
    vlans = built(pve1=LINUX)["node_vlans"]
    assert [row.values["vid"] for row in vlans] == [1, 10, 20, 30, 31, 32]
    assert {row.values["site"] for row in vlans} == {SITE}


def test_open_vswitch() -> None:
    assert values("type", "bridge", "lag", "mode", "untagged_vlan", "tagged_vlans", pve2=OVS) == {
        "bond0": ("lag", "vmbr0", None, None, None, ()),
        "ens1": ("other", None, "bond0", None, None, ()),
        "ens2": ("other", None, "bond0", None, None, ()),
        "ens3": ("other", "vmbr0", None, "access", 30, ()),
        "ens4": ("other", "vmbr0", None, "tagged", 5, (10, 20)),
        "mgmt": ("virtual", "vmbr0", None, None, None, ()),
        "vmbr0": ("bridge", None, None, None, None, ()),
    }


def test_other_fields() -> None:
    found = values("enabled", "mtu", "description", pve1=LINUX)
    assert found["eno3"] == (False, None, "spare, not cabled")
    assert found["vmbr0.20"] == (True, 9000, None)


def test_a_mac_address_only_where_the_configuration_sets_one() -> None:
    made = built(pve1=LINUX)
    assert [row.values["mac_address"] for row in made["node_mac_addresses"]] == ["BC:24:11:00:00:AA"]
    primary = made["node_primary_macs"].rows[0].values
    interface = Ref("interfaces", (Ref("devices", ("ams1", "pve1")), "vmbr0"))
    assert primary["name"] == "vmbr0"
    assert primary["primary_mac_address"] == Ref("mac_addresses", ("BC:24:11:00:00:AA", "dcim.interface", interface))


def test_addresses_and_primaries() -> None:
    made = built(pve1=LINUX, pve2=OVS)
    found = {row.values["address"]: _plain(row.values["assigned_object_id"]) for row in made["node_addresses"]}
    assert found == {
        "192.0.2.11/24": "vmbr0",
        "192.0.2.111/24": "vmbr0",
        "198.51.100.11/26": "vmbr0.20",
        "2001:db8:0:2::11/64": "vmbr0",
        "192.0.2.12/24": "mgmt",
    }
    rows = by_label(made["node_primary_addresses"])
    assert _plain(rows["pve1"].values["primary_ip4"]) == "ams1"
    assert rows["pve1"].values["primary_ip4"].key[1] == "192.0.2.11"
    assert rows["pve1"].values["primary_ip6"].key[1] == "2001:db8:0:2::11", "beside the other family's"
    assert rows["pve2"].values["primary_ip4"].key[1] == "192.0.2.12"
    assert "primary_ip6" not in rows["pve2"].values


def test_the_cluster_address_is_primary_before_the_one_with_the_gateway() -> None:
    rows = [
        {"iface": "a", "type": "eth", "cidr": "203.0.113.1/24", "gateway": "203.0.113.254"},
        {"iface": "b", "type": "eth", "cidr": "192.0.2.11/24"},
    ]
    assert built(pve1=rows)["node_primary_addresses"].rows[0].values["primary_ip4"].key[1] == "192.0.2.11"
    rows[1]["cidr"] = "192.0.2.99/24"
    assert built(pve1=rows)["node_primary_addresses"].rows[0].values["primary_ip4"].key[1] == "203.0.113.1"
    rows[0]["gateway"] = None
    assert built(pve1=rows)["node_primary_addresses"].rows == []


def test_a_node_whose_address_the_cluster_does_not_tell_keeps_its_primary_one() -> None:
    made = source(pve1=[{"iface": "a", "type": "eth", "cidr": "203.0.113.1/24", "gateway": "203.0.113.254"}])
    read = made.inputs()
    status = fetched("cluster_status", [{**row, "ip": None} for row in read["cluster_status"].rows])
    [row] = one(build({**read, "cluster_status": status}, CONTEXT), "node_primary_addresses").rows
    assert "primary_ip4" not in row.values
    assert row.initial["primary_ip4"].key[1] == "203.0.113.1", "where NetBox has none"


def test_odd_addresses() -> None:
    rows = [
        {"iface": "a", "type": "eth", "address": "nonsense"},
        {"iface": "b", "type": "eth", "cidr": "169.254.1.1/16", "cidr6": "fe80::1/64"},
        {"iface": "c", "type": "eth", "cidr": "192.0.2.1/24"},
        {"iface": "c:0", "type": "alias", "cidr": "192.0.2.1/24"},
        {"iface": "gone:0", "type": "alias", "cidr": "192.0.2.2/24"},
    ]
    made = built(pve1=rows)["node_addresses"]
    assert [row.values["address"] for row in made] == ["192.0.2.1/24"]
    assert [(skip.label, skip.outcome) for skip in made.skips] == [("pve1 a", Outcome.SKIPPED)]


def test_31_two_nodes_with_one_address() -> None:
    rows = [{"iface": "a", "type": "eth", "cidr": "192.0.2.1/24"}]
    made = built(pve1=rows, pve2=rows)["node_addresses"]
    assert made.rows == []
    assert [(skip.outcome, skip.key) for skip in made.skips] == [(Outcome.FAILED, ("ams1", "192.0.2.1"))] * 2


def test_12_what_was_not_read_is_not_covered() -> None:
    made = source(pve1=LINUX, pve2=OVS)
    made.gaps["node_networks"] = [
        Gap("node", "pve2", GapKind.UNREADABLE, "mtu: no whole number: 'x'"),
        Gap("node", "pve3", GapKind.OFFLINE, "node pve3 is offline"),
        Gap("node", "pve4", GapKind.OUT_OF_SCOPE, "node pve4 is not in scope"),
    ]
    classes = {item.object_class.name: item for item in build(made.inputs(), CONTEXT)}
    desired = classes["interfaces"]
    assert desired.coverage.parents == {Ref("devices", ("ams1", "pve1"))}
    assert {ref.key[0].key[1] for ref in classes["node_addresses"].coverage.parents} == {"pve1"}
    assert [(skip.label, skip.outcome) for skip in desired.skips] == [
        ("node pve2", Outcome.FAILED),
        ("node pve3", Outcome.SKIPPED),
    ]
    made.gaps["node_networks"] = [Gap("all", "", GapKind.PERMISSION, "the token lacks SDN.Audit: bridges are left out")]
    desired = one(build(made.inputs(), CONTEXT), "interfaces")
    assert desired.coverage.parents == frozenset()
    assert desired.notes == ["the token lacks SDN.Audit: bridges are left out"]
    assert len(desired.rows) == len(LINUX) - 2 + len(OVS)


def test_an_interface_with_an_unreadable_cell_is_kept() -> None:
    rows = [{"iface": "v", "type": "vlan", "vlan-id": UNOBSERVED}, {"iface": "e", "type": "eth", "mtu": UNOBSERVED}]
    desired = built(pve1=rows)["interfaces"]
    assert [row.label for row in desired] == ["pve1 e"]
    assert desired.rows[0].values["mtu"] is UNOBSERVED
    assert desired.skips[0].key == (Ref("devices", ("ams1", "pve1")), "v")


@pytest.mark.parametrize("seed", range(3))
def test_2_the_order_of_answers_makes_no_difference(seed: int) -> None:
    inputs = source(pve1=LINUX, pve2=OVS).inputs()
    straight, mixed = build(inputs, CONTEXT), build(shuffled(inputs, seed), CONTEXT)
    for one_class, other in zip(straight, mixed, strict=True):
        assert [(row.label, row.values) for row in one_class] == [(row.label, row.values) for row in other]


_NAMES = st.sampled_from(["vmbr0", "vmbr1", "bond0", "eno1", "eno1.10", "vmbr0.20", "x:1", "lo", ".", "a.b", ""])
_ROW = st.fixed_dictionaries(
    {"iface": _NAMES.filter(bool), "type": st.sampled_from(["bridge", "bond", "eth", "vlan", "alias", "new", None])},
    optional={
        "bridge_ports": st.lists(_NAMES).map(" ".join),
        "slaves": st.text(max_size=20),
        "vlan-raw-device": _NAMES,
        "vlan-id": st.integers(-5, 5000),
        "bridge_vlan_aware": st.booleans(),
        "bridge_vids": st.text(max_size=20),
        "ovs_options": st.text(max_size=20),
        "ovs_bridge": _NAMES,
        "ovs_tag": st.integers(-5, 5000),
        "address": st.text(max_size=20),
        "options": st.lists(st.text(max_size=20) | st.integers()) | st.text(),
        "comments": st.text(max_size=20),
    },
)


@given(st.lists(_ROW, max_size=6, unique_by=lambda row: row["iface"]))
@settings(max_examples=80, deadline=None)
def test_whatever_a_node_says_the_result_is_what_netbox_takes(rows: list[dict[str, Any]]) -> None:
    made = source(pve1=rows)
    build(made.inputs(), CONTEXT)
    topology = topology_of(fetched("node_networks", made.networks).rows)
    for group in (topology.bridge, topology.lag, topology.parent):
        assert all(
            one_of in topology.rows and other in topology.rows and one_of != other for one_of, other in group.items()
        )
    for vlans in topology.vlans.values():
        assert all(1 <= vid <= 4094 for vid in vlans.vids)


# -- over runs --------------------------------------------------------------------------------------------------


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.source.networks = source(pve1=LINUX, pve2=OVS).networks
    made.sync()
    assert made.failures == []
    return made


def interface(bench: Bench, node: str, name: str) -> dict[str, Any]:
    return bench.netbox.row("dcim/interfaces", device=bench.netbox.row("dcim/devices", name=node)["id"], name=name)


def test_1_a_second_run_writes_nothing(bench: Bench) -> None:
    assert interface(bench, "pve1", "eno1")["lag"] == interface(bench, "pve1", "bond0")["id"]
    assert interface(bench, "pve1", "bond0")["bridge"] == interface(bench, "pve1", "vmbr0")["id"]
    assert interface(bench, "pve1", "vmbr0.20")["parent"] == interface(bench, "pve1", "vmbr0")["id"]
    device = bench.netbox.row("dcim/devices", name="pve1")
    assert device["primary_ip4"] == bench.netbox.row("ipam/ip-addresses", address="192.0.2.11/24")["id"]
    assert interface(bench, "pve1", "vmbr0")["primary_mac_address"] == bench.netbox.row("dcim/mac-addresses")["id"]
    bench.sync()
    assert bench.netbox.writes == []


def test_a_new_bridge_takes_its_ports_over(bench: Bench) -> None:
    for row in bench.source.networks:
        if row["node"] == "pve1" and row["iface"] == "vmbr0":
            row["bridge_ports"] = "eno3"
    bench.source.networks.append(
        {"node": "pve1", "iface": "vmbr9", "type": "bridge", "active": True, "bridge_ports": "bond0"}
    )
    bench.sync()
    assert bench.failures == []
    assert interface(bench, "pve1", "bond0")["bridge"] == interface(bench, "pve1", "vmbr9")["id"]
    assert interface(bench, "pve1", "eno3")["bridge"] == interface(bench, "pve1", "vmbr0")["id"]
    bench.sync()
    assert bench.netbox.writes == []


def test_36_a_type_that_a_person_chose_is_kept(bench: Bench) -> None:
    interface(bench, "pve1", "eno1")["type"] = "25gbase-x-sfp28"
    bench.sync()
    assert bench.netbox.writes == []
    assert interface(bench, "pve1", "eno1")["type"] == "25gbase-x-sfp28"


def test_11_an_offline_node_keeps_everything(bench: Bench) -> None:
    bench.source.networks = [row for row in bench.source.networks if row["node"] == "pve1"]
    bench.source.gaps["node_networks"] = [Gap("node", "pve2", GapKind.OFFLINE, "node pve2 is offline")]
    bench.sync()
    assert bench.netbox.writes == []


def test_an_interface_that_is_gone_is_marked_and_its_address_stays_with_it(bench: Bench) -> None:
    bench.source.networks = [row for row in bench.source.networks if row["iface"] != "vmbr0.20"]
    plans = bench.sync()
    assert [mark.label.split()[0] for mark in plans["interfaces"].removals.marks] == ["vmbr0.20"]
    tags = {tag["slug"] for tag in interface(bench, "pve1", "vmbr0.20")["tags"]}
    assert tags == {"proxbox", "proxbox-missing"}
    assert "198.51.100.11/26" in {row["address"] for row in bench.netbox.rows("ipam/ip-addresses")}


def test_a_narrowed_run_looks_at_its_node_only(bench: Bench) -> None:
    bench.source.networks = [row for row in bench.source.networks if row["iface"] not in ("eno3", "ens3")]
    plans = bench.sync(STAGE, context=replace(CONTEXT, scope=Scope(nodes=frozenset({"pve2"}))))
    assert [mark.label.split()[0] for mark in plans["interfaces"].removals.marks] == ["ens3"]
