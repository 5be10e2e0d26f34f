"""The networking stages on the real NetBox, where its own rules decide: moves, modes, primaries, topology."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxbox_dagster.demo.proxmox import Cluster
from proxbox_dagster.demo.proxmox.loader import agent_row, interface_row, read_cluster
from proxbox_dagster_tests.support.lab import Lab

VMS = "virtualization/virtual-machines"
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


def one(lab: Lab, path: str, **filters: Any) -> dict[str, Any]:
    rows = lab.rows(path, **filters)
    assert len(rows) == 1, rows
    return rows[0]


def primary(lab: Lab, name: str, family: int = 4) -> str | None:
    row = one(lab, VMS, name=name)[f"primary_ip{family}"]
    return row["address"] if row else None


def log(lab: Lab) -> int:
    """How many changes NetBox has recorded."""
    return len(lab.rows("core/object-changes"))


def reports(guest: Any, *addresses: str) -> None:
    guest.agent.interfaces = [agent_row({"name": "eth0", "mac": MAC.format(1), "addresses": list(addresses)})]


def test_networking(netbox: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = cluster()
    with Lab(netbox, tmp_path, monkeypatch, net=source) as lab:
        lab.good_sync()
        _arrived(lab)

        before = log(lab)
        source.shuffle(7)
        source.respell(7)
        source.churn()
        lab.good_sync()
        assert log(lab) == before, "1, 2, 3, 4: nothing has changed"

        # 30: the container takes the primary address of the virtual machine, which gets another one.
        row_id = one(lab, IPS, address="198.51.100.1")["id"]
        reports(source.guests[100], "198.51.100.9/26", "2001:db8::1/60")
        source.guests[101].interfaces[0].addresses = ["198.51.100.1/26"]
        lab.good_sync()
        assert one(lab, IPS, address="198.51.100.1")["id"] == row_id
        assert (primary(lab, "one"), primary(lab, "two")) == ("198.51.100.9/26", "198.51.100.1/26")
        assert primary(lab, "one", 6) == "2001:db8::1/60", "33: the prefix length"
        assert lab.rows(IPS, address="198.51.100.2") == []

        # A card is re-tagged, one loses its trunks, one gets another MAC; a bond's bridge changes.
        config = source.guests[100].config
        config["net0"] = f"virtio={MAC.format(1)},bridge=vmbr0,trunks=2-4094"
        config["net1"] = f"virtio={MAC.format(2)},bridge=vmbr0,link_down=1"
        source.guests[101].config["net0"] = f"name=wan0,bridge=vmbr0,hwaddr={MAC.format(9)},ip=dhcp,type=veth"
        source.guests[101].interfaces[0].mac = MAC.format(9)
        bridge = next(row for row in source.nodes["pve1"].network if row["iface"] == "vmbr0")
        bridge["bridge_ports"] = "eno3"
        source.nodes["pve1"].network.append(
            interface_row({"iface": "vmbr1", "type": "bridge", "bridge_ports": "bond0"}, 9)
        )
        ids = {row["id"] for row in lab.rows(NICS)}
        lab.good_sync()
        assert {row["id"] for row in lab.rows(NICS)} == ids
        _changed(lab)
        before = log(lab)
        lab.good_sync()
        assert log(lab) == before

        # A card goes with what was on it; 34: a primary that a person chose stays.
        del config["net1"]
        reports(source.guests[100], "198.51.100.9/26", "198.51.100.10/26")
        lab.good_sync()
        assert {row["name"] for row in lab.rows(NICS)} == {"net0", "wan0"}
        client = lab.client()
        chosen = one(lab, IPS, address="198.51.100.10")["id"]
        client.update(VMS, [{"id": one(lab, VMS, name="one")["id"], "primary_ip4": chosen}])
        client.close()
        before = log(lab)
        lab.good_sync()
        assert (log(lab), primary(lab, "one")) == (before, "198.51.100.10/26")


def _arrived(lab: Lab) -> None:
    ports = {row["name"]: row for row in lab.rows("dcim/interfaces")}
    assert ports["eno1"]["lag"]["name"] == ports["eno2"]["lag"]["name"] == "bond0"
    assert ports["bond0"]["bridge"]["name"] == "vmbr0"
    assert ports["vmbr0.20"]["parent"]["name"] == "vmbr0"
    assert (ports["vmbr0.20"]["mode"]["value"], ports["vmbr0.20"]["untagged_vlan"]["vid"]) == ("access", 20)
    assert ports["vmbr0"]["mode"]["value"] == "tagged-all"
    assert one(lab, "dcim/devices")["primary_ip4"]["address"] == "192.0.2.11/24"
    cards = {row["name"]: row for row in lab.rows(NICS)}
    assert set(cards) == {"net0", "net1", "eth0"}
    assert (cards["net0"]["mode"]["value"], cards["net0"]["untagged_vlan"]["vid"]) == ("access", 10)
    assert {vlan["vid"] for vlan in cards["net1"]["tagged_vlans"]} == {10, 20}
    assert {name: row["mac_address"] for name, row in cards.items()} == {
        "net0": MAC.format(1),
        "net1": MAC.format(2),
        "eth0": MAC.format(3),
    }
    state = one(lab, "plugins/proxbox/sync-state/vm-interfaces", vm_interface_id=cards["net0"]["id"])
    assert state["proxbox_bridge"]["id"] == state["proxbox_bridge_raw_id"] == ports["vmbr0"]["id"]
    assert (primary(lab, "one"), primary(lab, "one", 6)) == ("198.51.100.1/26", "2001:db8::1/64")
    assert (primary(lab, "two"), one(lab, IPS, address="198.51.100.2")["dns_name"]) == (
        "198.51.100.2/26",
        "two.example.org",
    )


def _changed(lab: Lab) -> None:
    cards = {row["name"]: row for row in lab.rows(NICS)}
    assert set(cards) == {"net0", "net1", "wan0"}
    assert (cards["net0"]["mode"]["value"], cards["net0"]["untagged_vlan"]) == ("tagged-all", None)
    assert (cards["net1"]["mode"], cards["net1"]["tagged_vlans"], cards["net1"]["enabled"]) == (None, [], False)
    assert cards["wan0"]["mac_address"] == MAC.format(9)
    assert {row["mac_address"] for row in lab.rows("dcim/mac-addresses")} == {MAC.format(n) for n in (1, 2, 9)}
    ports = {row["name"]: row for row in lab.rows("dcim/interfaces")}
    assert ports["bond0"]["bridge"]["name"] == "vmbr1"
    assert ports["eno3"]["bridge"]["name"] == "vmbr0"
