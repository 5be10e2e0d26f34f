"""A simulated cluster never contradicts itself: every endpoint tells of the same state."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_interface, ip_network
from typing import Any

import pytest

from proxbox_dagster.demo.proxmox import DEMO_CLUSTERS, Cluster, ProxmoxSimulator, load_cluster, make_cluster

from .proxmox_http import Wire

CLUSTERS = [*DEMO_CLUSTERS, "odd", "made"]
DOCUMENTATION = [ip_network(text) for text in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")]
BENCHMARK = ip_network("198.18.0.0/15")
GIB = 1 << 30


@pytest.fixture(params=CLUSTERS)
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    name = request.param
    cluster = make_cluster("made", nodes=4, guests=90, seed=3) if name == "made" else load_cluster(name)
    for node in cluster.nodes.values():
        cluster.node_online(node.name)
    with ProxmoxSimulator(cluster) as simulator:
        yield Wire(simulator)


def _guests(wire: Wire) -> dict[int, dict[str, Any]]:
    return {row["vmid"]: row for row in wire.data("/cluster/resources?type=vm")}


def test_guests_are_the_same_in_every_list(wire: Wire) -> None:
    everywhere = _guests(wire)
    listed = {}
    for node in wire.data("/nodes"):
        for kind in ("qemu", "lxc"):
            for row in wire.data(f"/nodes/{node['node']}/{kind}"):
                assert row["vmid"] not in listed
                listed[row["vmid"]] = (node["node"], kind, row)
    assert listed.keys() == everywhere.keys()
    for vmid, (node, kind, row) in listed.items():
        resource = everywhere[vmid]
        assert (resource["node"], resource["type"]) == (node, kind)
        if resource["status"] == "unknown":
            continue
        assert resource["name"] == row["name"]
        assert (resource["status"] == "stopped") == (row["status"] == "stopped")
        assert resource["maxmem"] == row["maxmem"]
        assert resource["maxcpu"] == row["cpus"]
        assert resource["template"] == row.get("template", 0)
        assert (resource.get("tags"), resource.get("lock")) == (row.get("tags"), row.get("lock"))


def test_configurations_tell_what_the_lists_tell(wire: Wire) -> None:
    for vmid, resource in _guests(wire).items():
        base = f"/nodes/{resource['node']}/{resource['type']}/{vmid}"
        config = wire.data(f"{base}/config?current=1")
        assert resource.get("tags") == config.get("tags")
        assert resource.get("lock") == config.get("lock")
        if resource["status"] == "unknown":
            continue
        name = config.get("name" if resource["type"] == "qemu" else "hostname")
        assert resource["name"] == (name or (f"VM {vmid}" if resource["type"] == "qemu" else f"CT{vmid}"))
        assert resource["maxmem"] == int(str(config.get("memory", 512)).removeprefix("current=")) * 1024 * 1024
        snapshots = wire.data(f"{base}/snapshot")
        parents = {row["name"] for row in snapshots}
        assert all(row.get("parent") in parents | {None} for row in snapshots)
        present = next(row for row in snapshots if row["name"] == "current")
        assert present.get("parent") == config.get("parent")
        assert "snaptime" not in present
        assert all(("vmstate" in row) == (resource["type"] == "qemu") for row in snapshots if row is not present)


def test_sizes_of_boot_disks() -> None:
    with ProxmoxSimulator(load_cluster("ams1")) as simulator:
        sizes = {vmid: row["maxdisk"] for vmid, row in _guests(Wire(simulator)).items()}
    assert sizes[100] == 32 * GIB
    assert sizes[102] == 80 * GIB
    assert sizes[201] == 16 * GIB
    assert sizes[110] == 4 * GIB


def test_volumes_of_guests_are_on_their_storages(wire: Wire) -> None:
    cluster = wire.simulator.cluster
    for guest in list(cluster.guests.values()):
        for key, value in guest.config.items():
            found = re.match(r"(?:file=|volume=)?([a-z][\w-]*):(?!iso/)([^,]+)", value)
            if not re.match(r"(scsi|virtio|sata|ide|efidisk|tpmstate|unused|mp|rootfs)\d*$", key) or not found:
                continue
            storage = cluster.storages[found.group(1)]
            assert set(storage.content) & {"images", "rootdir"}, (guest.vmid, key)
            assert storage.serves(guest.node), (guest.vmid, key)
            rows = wire.data(f"/nodes/{guest.node}/storage/{storage.name}/content?vmid={guest.vmid}")
            assert f"{storage.name}:{found.group(2)}" in {row["volid"] for row in rows}


def test_backups_lie_on_storages_that_take_backups(wire: Wire) -> None:
    cluster = wire.simulator.cluster
    for name, backups in cluster.backups.items():
        assert "backup" in cluster.storages[name].content
        assert len({backup.volid for backup in backups}) == len(backups)
        for backup in backups:
            assert cluster.storages[name].shared == (backup.node is None), backup


def test_networks_hold_together(wire: Wire) -> None:
    for node in wire.simulator.cluster.nodes.values():
        rows = {row["iface"]: row for row in wire.data(f"/nodes/{node.name}/network")}
        assert "lo" not in rows
        for row in rows.values():
            for key in ("bridge_ports", "slaves", "ovs_ports", "ovs_bonds"):
                members = (row.get(key) or "").split()
                assert all(member in rows for member in members if member != "none"), row
            raw = row.get("vlan-raw-device")
            assert raw is None or raw in rows
            if "cidr" in row:
                assert row["cidr"] == f"{row['address']}/{row['netmask']}"
            if "cidr6" in row:
                assert row["cidr6"] == f"{row['address6']}/{row['netmask6']}"


def test_agents_tell_of_the_cards_that_the_machine_has(wire: Wire) -> None:
    cluster = wire.simulator.cluster
    for guest in cluster.guests.values():
        if guest.agent is None or not guest.agent.interfaces or guest.pending:
            continue
        cards = set(re.findall(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}", " ".join(guest.config.values()).lower()))
        reported = {row.get("hardware-address", "").lower() for row in guest.agent.interfaces}
        assert cards & reported, guest.vmid
    for guest in cluster.guests.values():
        for interface in guest.interfaces:
            known = interface.name in ("lo", "docker0") or interface.mac.upper() in guest.config["net0"].upper()
            assert known, guest.vmid


def test_jobs_name_what_is_there(wire: Wire) -> None:
    cluster = wire.simulator.cluster
    for row in wire.data("/cluster/replication"):
        assert row["target"] in cluster.nodes
        assert cluster.guests[row["guest"]].node != row["target"]
    for row in wire.data("/cluster/backup"):
        assert "backup" in cluster.storages[row["storage"]].content
        assert row.get("pool") in {None, *cluster.pools}
        assert row.get("node") in {None, *cluster.nodes}
    for pool in cluster.pools.values():
        assert pool.guests <= cluster.guests.keys()
    by_node = {name: {row["id"] for row in wire.data(f"/nodes/{name}/replication")} for name in cluster.nodes}
    for job in cluster.replication.values():
        assert [name for name, ids in by_node.items() if job.id in ids] == [cluster.guests[job.guest].node]


def test_tasks_are_unique_and_decode(wire: Wire) -> None:
    seen: Counter[str] = Counter()
    for name in wire.simulator.cluster.nodes:
        rows = wire.data(f"/nodes/{name}/tasks?source=all&limit=5000")
        for row in rows:
            seen[row["upid"]] += 1
            user = f"{row['user']}!{row['tokenid']}" if "tokenid" in row else row["user"]
            numbers = ":".join(f"{row[key]:08X}" for key in ("pid", "pstart", "starttime"))
            assert row["upid"] == f"UPID:{name}:{numbers}:{row['type']}:{row['id']}:{user}:"
            assert ("endtime" in row) == (row["status"] != "RUNNING")
    assert set(seen.values()) <= {1}


def _addresses(cluster: Cluster) -> Iterator[str]:
    for node in cluster.nodes.values():
        yield from filter(None, [node.ip, *(row.get(key) for row in node.network for key in ("cidr", "cidr6"))])
    for guest in cluster.guests.values():
        for value in guest.config.values():
            yield from re.findall(r"(?:ip|gw|ip6|gw6)=([0-9a-f]*[.:][0-9a-f.:]+(?:/\d+)?)", value)
        yield from (address for interface in guest.interfaces for address in interface.addresses)
        for row in guest.agent.interfaces if guest.agent else []:
            yield from (found["ip-address"].split("%")[0] for found in row.get("ip-addresses", []))


def test_nobodys_addresses_and_cards_are_used(wire: Wire) -> None:
    cluster = wire.simulator.cluster
    for text in _addresses(cluster):
        address = ip_interface(text)
        if address.is_loopback or address.is_link_local:
            continue
        ranges = [*DOCUMENTATION, BENCHMARK] if cluster.name == "made" else DOCUMENTATION
        assert any(address.version == net.version and address.ip in net for net in ranges), text
    for guest in cluster.guests.values():
        for mac in re.findall(r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}", " ".join(guest.config.values())):
            assert mac.upper().startswith("BC:24:11"), mac


def test_identities_of_machines(wire: Wire) -> None:
    """Machines have a UUID as real ones do, and only the pair that is meant to shares one."""
    configs = [guest.config for guest in wire.simulator.cluster.guests.values() if guest.kind == "qemu"]
    uuids = Counter(config["smbios1"] for config in configs if "smbios1" in config)
    assert uuids
    assert sum(count > 1 for count in uuids.values()) == (1 if len(configs) > 20 else 0)
