"""The networking stages on the real NetBox, where its own rules decide: moves, modes, primaries, topology."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from proxbox_dagster.demo.proxmox import Cluster
from proxbox_dagster.demo.proxmox.loader import agent_row, interface_row, read_cluster
from proxbox_dagster_tests.support.synced import VMS, Synced, laid_out, lend

NICS = "virtualization/interfaces"
IPS = "ipam/ip-addresses"
MAC = "BC:24:11:00:00:{:02X}"


def cluster() -> Cluster:
    """One node with a bond, a VLAN-aware bridge and a VLAN on it; a QEMU guest with agent and a container."""
    return read_cluster(
        {
            "name": "net",
            "nodes": {
                "pve1": {
                    "ip": "192.0.2.11",
                    "network": [
                        {"iface": "eno1", "type": "eth"},
                        {"iface": "eno2", "type": "eth"},
                        {"iface": "bond0", "type": "bond", "slaves": "eno1 eno2", "bond_mode": "802.3ad"},
                        {
                            "iface": "vmbr0",
                            "type": "bridge",
                            "bridge_ports": "bond0",
                            "bridge_vlan_aware": 1,
                            "cidr": "192.0.2.11/24",
                            "gateway": "192.0.2.1",
                        },
                        {"iface": "vmbr0.20", "type": "vlan", "vlan-id": "20", "vlan-raw-device": "vmbr0"},
                        {"iface": "eno3", "type": "eth"},
                    ],
                }
            },
            "storages": {"local": {"type": "dir", "path": "/var/lib/vz", "content": "iso"}},
            "guests": [
                {
                    "qemu": 100,
                    "name": "one",
                    "node": "pve1",
                    "status": "running",
                    "config": {
                        "agent": 1,
                        "net0": f"virtio={MAC.format(1)},bridge=vmbr0,tag=10",
                        "net1": f"virtio={MAC.format(2)},bridge=vmbr0,trunks=10;20",
                    },
                    "agent": {
                        "interfaces": [
                            {"name": "eth0", "mac": MAC.format(1), "addresses": ["198.51.100.1/26", "2001:db8::1/64"]}
                        ]
                    },
                },
                {
                    "lxc": 101,
                    "name": "two",
                    "node": "pve1",
                    "status": "running",
                    "config": {
                        "hostname": "two",
                        "searchdomain": "example.org",
                        "net0": f"name=eth0,bridge=vmbr0,hwaddr={MAC.format(3)},ip=dhcp,type=veth",
                    },
                    "interfaces": [{"name": "eth0", "mac": MAC.format(3), "addresses": ["198.51.100.2/26"]}],
                },
            ],
        }
    )


@pytest.fixture(scope="module")
def shared(netbox_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synced]:
    with laid_out(netbox_server, tmp_path_factory.mktemp("net"), net=cluster()) as lab:
        lab.run()
        yield lab


@pytest.fixture
def lab(shared: Synced, request: pytest.FixtureRequest) -> Iterator[Synced]:
    yield from lend(shared, request)


def primary(lab: Synced, name: str, family: int = 4) -> str | None:
    row = lab.one(VMS, name=name)[f"primary_ip{family}"]
    return row["address"] if row else None


def primaries(lab: Synced) -> list[str | None]:
    return [primary(lab, "one"), primary(lab, "one", 6), primary(lab, "two")]


def place(lab: Synced, address: str) -> tuple[int, int]:
    """The row of an address, and the interface that it is on."""
    row = lab.one(IPS, address=address)
    return row["id"], row["assigned_object_id"]


def reports(lab: Synced, *addresses: str) -> None:
    """What the agent of the QEMU guest tells from now on."""
    row = {"name": "eth0", "mac": MAC.format(1), "addresses": list(addresses)}
    lab.clusters["net"].guests[100].agent.interfaces = [agent_row(row)]  # type: ignore[union-attr]


def has(lab: Synced, *addresses: str) -> None:
    """What the container has from now on."""
    lab.clusters["net"].guests[101].interfaces[0].addresses = list(addresses)


def quiet_run(lab: Synced, **order: Any) -> None:
    """A green run that writes nothing."""
    lab.run(**order)
    assert (lab.written(), lab.writing_requests()) == ([], [])


def test_scenarios_1_2_3_4_networks_arrive_and_an_unchanged_source_writes_nothing(lab: Synced) -> None:
    _arrived(lab)
    source = lab.clusters["net"]
    source.shuffle(7)
    source.respell(7)
    source.churn()
    quiet_run(lab)


def test_scenarios_30_33_an_address_moves_while_primary_and_another_changes_its_prefix(lab: Synced) -> None:
    row, _ = place(lab, "198.51.100.1")
    reports(lab, "198.51.100.9/26", "2001:db8::1/60")
    has(lab, "198.51.100.1/26")
    lab.run()
    cards = {card["name"]: card["id"] for card in lab.rows(NICS)}
    assert place(lab, "198.51.100.1") == (row, cards["eth0"])
    assert primaries(lab) == ["198.51.100.9/26", "2001:db8::1/60", "198.51.100.1/26"]
    assert lab.rows(IPS, address="198.51.100.2") == []
    assert lab.log.writes() == {
        ("ipaddress", "create", "198.51.100.9/26", frozenset()),
        ("ipaddress", "update", "198.51.100.1/26", frozenset({"assigned_object_id", "dns_name"})),
        ("ipaddress", "update", "2001:db8::1/60", frozenset({"address"})),
        ("ipaddress", "delete", "198.51.100.2/26", frozenset()),
        ("virtualmachine", "update", "one", frozenset({"primary_ip4"})),
        ("virtualmachine", "update", "two", frozenset({"primary_ip4"})),
    }
    quiet_run(lab)


def test_scenario_31_one_address_on_two_guests_is_a_conflict_on_both_and_stays_where_it_is(lab: Synced) -> None:
    before, chosen = place(lab, "198.51.100.1"), primaries(lab)
    reports(lab, "198.51.100.1/26", "198.51.100.9/26", "2001:db8::1/60")
    for number in range(5):
        lab.clusters["net"].shuffle(number)
        result = lab.watched(stages=() if number in (0, 4) else ("vm_ip_addresses",))
        assert not result["ok"]
        failed = {item.label: item.reason for item in lab.reports()["net", "vm_addresses"].failures}
        assert set(failed) == {"198.51.100.1 of one (qemu/100) net0", "198.51.100.1 of two (lxc/101) net0"}
        for reason, other in zip(failed.values(), ("two (lxc/101) net0", "one (qemu/100) net0"), strict=True):
            assert reason.startswith(f"address conflict: {other} reports 198.51.100.1 too; nothing is written")
        assert (lab.written(), lab.writing_requests()) == ([], [])
        assert (place(lab, "198.51.100.1"), primaries(lab)) == (before, chosen)
    reports(lab, "198.51.100.9/26", "2001:db8::1/60")
    quiet_run(lab)


def test_scenario_34_the_primary_follows_the_rule_in_any_order_unless_a_person_chose_it(lab: Synced) -> None:
    own = ("198.51.100.12/26", "198.51.100.9/26", "198.51.100.10/26")
    for order in (own, own[::-1]):
        reports(lab, *order, "2001:db8::1/60")
        lab.run()
        assert primary(lab, "one") == "198.51.100.9/26", "the lowest"
    assert lab.written() == []

    lab.configure(addresses={"primary_preference": ["198.51.100.12/32"]})
    lab.run()
    assert primary(lab, "one") == "198.51.100.12/26", "the settings' choice"
    assert lab.log.writes() == {("virtualmachine", "update", "one", frozenset({"primary_ip4"}))}

    client = lab.client()
    person = place(lab, "198.51.100.10")[0]
    client.update(VMS, [{"id": lab.one(VMS, name="one")["id"], "primary_ip4": person}])
    client.close()
    lab.configure()
    quiet_run(lab)
    assert primary(lab, "one") == "198.51.100.10/26", "a person's choice"

    agent = lab.clusters["net"].guests[100].agent
    assert agent is not None
    agent.running = False
    quiet_run(lab)
    assert primaries(lab) == ["198.51.100.10/26", "2001:db8::1/60", "198.51.100.1/26"], "nothing was observed"
    agent.running = True


def test_cards_and_bridges_change_in_place(lab: Synced) -> None:
    """A card is re-tagged, one loses its trunks, one gets another MAC and name; a bond's bridge changes; one goes."""
    source = lab.clusters["net"]
    config = source.guests[100].config
    config["net0"] = f"virtio={MAC.format(1)},bridge=vmbr0,trunks=2-4094"
    config["net1"] = f"virtio={MAC.format(2)},bridge=vmbr0,link_down=1"
    source.guests[101].config["net0"] = f"name=wan0,bridge=vmbr0,hwaddr={MAC.format(9)},ip=dhcp,type=veth"
    source.guests[101].interfaces[0].mac = MAC.format(9)
    bridge = next(row for row in source.nodes["pve1"].network if row["iface"] == "vmbr0")
    bridge["bridge_ports"] = "eno3"
    source.nodes["pve1"].network.append(interface_row({"iface": "vmbr1", "type": "bridge", "bridge_ports": "bond0"}, 9))
    ids = {row["id"] for row in lab.rows(NICS)}
    lab.run()
    assert {row["id"] for row in lab.rows(NICS)} == ids
    _changed(lab)
    quiet_run(lab)

    del config["net1"]
    lab.run()
    assert {row["name"] for row in lab.rows(NICS)} == {"net0", "wan0"}
    assert {entry.action for entry in lab.written()} == {"delete"}


def _arrived(lab: Synced) -> None:
    ports = {row["name"]: row for row in lab.rows("dcim/interfaces")}
    assert ports["eno1"]["lag"]["name"] == ports["eno2"]["lag"]["name"] == "bond0"
    assert ports["bond0"]["bridge"]["name"] == "vmbr0"
    assert ports["vmbr0.20"]["parent"]["name"] == "vmbr0"
    assert (ports["vmbr0.20"]["mode"]["value"], ports["vmbr0.20"]["untagged_vlan"]["vid"]) == ("access", 20)
    assert ports["vmbr0"]["mode"]["value"] == "tagged-all"
    assert lab.one("dcim/devices")["primary_ip4"]["address"] == "192.0.2.11/24"
    cards = {row["name"]: row for row in lab.rows(NICS)}
    assert set(cards) == {"net0", "net1", "eth0"}
    assert (cards["net0"]["mode"]["value"], cards["net0"]["untagged_vlan"]["vid"]) == ("access", 10)
    assert {vlan["vid"] for vlan in cards["net1"]["tagged_vlans"]} == {10, 20}
    assert {name: row["mac_address"] for name, row in cards.items()} == {
        "net0": MAC.format(1),
        "net1": MAC.format(2),
        "eth0": MAC.format(3),
    }
    state = lab.one("plugins/proxbox/sync-state/vm-interfaces", vm_interface_id=cards["net0"]["id"])
    assert state["proxbox_bridge"]["id"] == state["proxbox_bridge_raw_id"] == ports["vmbr0"]["id"]
    assert (primary(lab, "one"), primary(lab, "one", 6)) == ("198.51.100.1/26", "2001:db8::1/64")
    assert (primary(lab, "two"), lab.one(IPS, address="198.51.100.2")["dns_name"]) == (
        "198.51.100.2/26",
        "two.example.org",
    )


def _changed(lab: Synced) -> None:
    cards = {row["name"]: row for row in lab.rows(NICS)}
    assert set(cards) == {"net0", "net1", "wan0"}
    assert (cards["net0"]["mode"]["value"], cards["net0"]["untagged_vlan"]) == ("tagged-all", None)
    assert (cards["net1"]["mode"], cards["net1"]["tagged_vlans"], cards["net1"]["enabled"]) == (None, [], False)
    assert cards["wan0"]["mac_address"] == MAC.format(9)
    assert {row["mac_address"] for row in lab.rows("dcim/mac-addresses")} == {MAC.format(n) for n in (1, 2, 9)}
    ports = {row["name"]: row for row in lab.rows("dcim/interfaces")}
    assert ports["bond0"]["bridge"]["name"] == "vmbr1"
    assert ports["eno3"]["bridge"]["name"] == "vmbr0"
