"""Clusters of any size, the same for the same arguments."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Mapping
from typing import Any

from .cluster import Cluster
from .job_changes import make_backup, sort_tasks
from .loader import agent_row, interface_row, load_cluster
from .names import APPLICATIONS, SYSTEMS, TAGS
from .state import (
    GIB,
    Agent,
    ContainerInterface,
    Guest,
    Node,
    Pool,
    ReplicationJob,
    Snapshot,
    Task,
)

ODD_FROM = 60
"""From this many guests on, every odd kind of the description ``odd`` is among them."""
_BLOCKS = 8
_DAY = 86_400


def make_cluster(
    name: str = "big", nodes: int = 3, guests: int = 60, seed: int = 1, *, flavour: str = "9.1", odd: bool = True
) -> Cluster:
    """A cluster of ``nodes`` nodes (pve1, pve2, ...) and ``guests`` guests; of one node, a stand-alone host.

    From ODD_FROM guests on the first ones are those of the description ``odd`` (``odd=False``: none), with their
    backups, tasks and jobs; all nodes are online. The others are ordinary, with agents, snapshots, backups and tasks.
    Clusters whose seeds differ modulo 8 share no MAC address and no IP address; addresses are those kept for
    benchmarks (198.18.0.0/15) and documentation. Raises ValueError for less than one node.
    """
    if nodes < 1 or guests < 0:
        raise ValueError("a cluster has at least one node, and no negative number of guests")
    pattern = load_cluster("odd")
    cluster = Cluster(name, flavour, standalone=nodes == 1)
    cluster.now = pattern.now
    cluster.options = copy.deepcopy(pattern.options)
    cluster.storages = copy.deepcopy(pattern.storages)
    maker = _Maker(cluster, seed)
    for number in range(1, nodes + 1):
        maker.add_node(number)
    restricted = cluster.storages["only-pve2"]
    restricted.nodes = [maker.node_named("pve2")]
    cluster.storages["old-san"].nodes = sorted({maker.node_named("pve1"), maker.node_named("pve2")})
    cluster.storages["win-share"].unreachable = set(cluster.nodes)
    if odd and guests >= ODD_FROM:
        maker.add_odd(pattern)
    while len(cluster.guests) < guests:
        maker.add_ordinary()
    maker.add_jobs()
    for tasks in cluster.tasks.values():
        sort_tasks(tasks)
    return cluster


class _Maker:
    """Fills a cluster; draws every choice from one generator, so that equal seeds make equal clusters."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.cluster = cluster
        self.random = random.Random(f"{cluster.name}/{seed}")
        self.block = seed % _BLOCKS
        self.seed = seed
        self.next_vmid = 2000
        self.addresses = 0
        self.cards = 0x10_00_00
        self.task_number = self.block * 100_000

    def node_named(self, name: str) -> str:
        """The node that stands for ``name`` of the pattern: in a smaller cluster one stands for several."""
        number = (int(name.removeprefix("pve")) - 1) % len(self.cluster.nodes)
        return list(self.cluster.nodes)[number]

    def add_node(self, number: int) -> None:
        """Two ports in a bond, a VLAN-aware bridge with both families, a VLAN for storage."""
        cluster, host = self.cluster, 10 + number % 240
        rows: list[dict[str, Any]] = [
            {"iface": "eno1", "type": "eth"},
            {"iface": "eno2", "type": "eth"},
            {"iface": "bond0", "type": "bond", "slaves": "eno1 eno2", "bond_mode": "802.3ad"},
            {
                "iface": "vmbr0",
                "type": "bridge",
                "bridge_ports": "bond0",
                "bridge_vlan_aware": 1,
                "bridge_vids": "2-4094",
                "cidr": f"198.19.{self.block * 32}.{host}/19",
                "gateway": f"198.19.{self.block * 32}.1",
                "cidr6": f"2001:db8:{0xF000 + self.block:x}::{number:x}/64",
                "comments": "management and guests\n",
            },
            {"iface": "vmbr0.20", "type": "vlan", "vlan-id": "20", "vlan-raw-device": "vmbr0"},
            {"iface": "vmbr1", "type": "bridge", "bridge_ports": ""},
        ]
        node = Node(
            f"pve{number}",
            0 if cluster.standalone else number,
            ip=f"198.19.{self.block * 32}.{host}",
            version=cluster.flavour.version,
            repoid=cluster.flavour.repoid,
            cpus=64,
            memory=512 * GIB,
            started=cluster.now - number * 30 * _DAY,
            fingerprint=":".join(f"{self.random.randrange(256):02X}" for _ in range(32)),
            network=[interface_row(row, priority) for priority, row in enumerate(rows, start=3)],
        )
        cluster.nodes[node.name] = node

    # the odd ones

    def add_odd(self, pattern: Cluster) -> None:
        """The guests of the pattern with all that belongs to them; what names a node names one of this cluster."""
        cluster = self.cluster
        for original in pattern.guests.values():
            guest = self._moved(original)
            guest.node = self.node_named(original.node)
            cluster.guests[guest.vmid] = guest
        cluster.pools = copy.deepcopy(pattern.pools)
        cluster.index_pools()
        cluster.ha_resources = copy.deepcopy(pattern.ha_resources)
        cluster.backup_jobs = copy.deepcopy(pattern.backup_jobs)
        for storage, backups in pattern.backups.items():
            for backup in copy.deepcopy(backups):
                backup.node = self.node_named(backup.node) if backup.node else None
                cluster.backups.setdefault(storage, []).append(backup)
        for task in copy.deepcopy(list(pattern.all_tasks())):
            self.task_number += 1
            task.node, task.pid = self.node_named(task.node), 1_000_000 + self.task_number
            cluster.tasks.setdefault(task.node, []).append(task)
        for job in copy.deepcopy(list(pattern.replication.values())):
            job.target = self.node_named(job.target)
            job.source = self.node_named(job.source) if job.source else None
            if job.target != cluster.guests[job.guest].node:
                cluster.replication[job.id] = job

    def _moved(self, original: Guest) -> Guest:
        """A copy whose MAC addresses, IP addresses and UUIDs are this cluster's own."""
        guest = copy.deepcopy(original)
        guest.config = {key: self._own(value) for key, value in guest.config.items()}
        guest.pending = {key: self._own(value) for key, value in guest.pending.items()}
        for snapshot in guest.snapshots.values():
            snapshot.config = {key: self._own(value) for key, value in snapshot.config.items()}
        if guest.agent is not None:
            guest.agent.interfaces = self._own(guest.agent.interfaces)
        for interface in guest.interfaces:
            interface.mac, interface.addresses = self._own(interface.mac), self._own(interface.addresses)
        return guest

    def _own(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._own(item) for item in value]
        if isinstance(value, Mapping):
            return {key: self._own(item) for key, item in value.items()}
        if not isinstance(value, str):
            return value
        value = re.sub(r"(?i)(bc:24:11:)0([cd])(?=:)", self._own_mac, value)
        value = value.replace("198.51.100.", f"198.18.{self.block * 32 + 31}.")
        value = value.replace("2001:db8:1:", f"2001:db8:{0xE000 + self.block:x}:")
        return value.replace("11111111-0000", f"11111111-{self.seed % 0x10000:04x}")

    def _own_mac(self, found: re.Match[str]) -> str:
        octet = f"{self.block * 32 + int(found.group(2), 16):02X}"
        return found.group(1) + (octet.lower() if found.group(2).islower() else octet)

    # the ordinary ones

    def add_ordinary(self) -> None:
        """One machine or container with all that belongs to it."""
        vmid, draw = self.next_vmid, self.random
        self.next_vmid += 1
        node = draw.choice(list(self.cluster.nodes))
        name = f"{draw.choice(APPLICATIONS)}-{vmid}"
        guest = self._container(vmid, node, name) if draw.random() < 0.25 else self._machine(vmid, node, name)
        if draw.random() < 0.6:
            guest.config["tags"] = ";".join(sorted(draw.sample(TAGS, draw.randint(1, 3))))
        if draw.random() < 0.3:
            guest.config["description"] = f"{name}, asked for in ticket {draw.randrange(10_000)}"
        guest.config["onboot"] = str(draw.randrange(2))
        self.cluster.guests[vmid] = guest
        self._add_history(guest)

    def _machine(self, vmid: int, node: str, name: str) -> Guest:
        draw = self.random
        running = draw.random() < 0.85
        config = {
            "boot": "order=scsi0",
            "cores": str(draw.choice((1, 2, 4, 8))),
            "sockets": "1",
            "memory": str(draw.choice((1024, 2048, 4096, 8192))),
            "ostype": draw.choice(("l26", "l26", "l26", "win11")),
            "scsihw": "virtio-scsi-single",
            "smbios1": f"uuid={self._uuid()}",
            "vmgenid": self._uuid(),
        }
        for number in range(draw.choice((1, 1, 1, 2, 3))):
            storage = draw.choice(("ceph", "local-lvm"))
            config[f"scsi{number}"] = f"{storage}:vm-{vmid}-disk-{number},size={draw.choice((8, 16, 32, 100))}G"
        rows = []
        for number in range(draw.choice((1, 1, 1, 2))):
            mac, tag = self._mac(), draw.choice(("", ",tag=10", ",tag=20", ",tag=300"))
            config[f"net{number}"] = f"virtio={mac},bridge=vmbr0{tag}"
            rows.append({"name": f"ens{18 + number}", "mac": mac, "addresses": self._addresses()})
        guest = Guest("qemu", vmid, node, name, "running" if running else "stopped", config=config)
        if draw.random() < 0.7:
            config["agent"] = draw.choice(("1", "enabled=1", "1,fstrim_cloned_disks=1"))
            loopback = {"name": "lo", "mac": "00:00:00:00:00:00", "addresses": ["127.0.0.1/8", "::1/128"]}
            guest.agent = Agent(host_name=name, osinfo={"id": "debian", "pretty-name": draw.choice(SYSTEMS)})
            guest.agent.interfaces = [agent_row(row) for row in (loopback, *rows)]
        if running:
            guest.started = self.cluster.now - draw.randrange(60, 100 * _DAY)
        return guest

    def _container(self, vmid: int, node: str, name: str) -> Guest:
        draw = self.random
        mac, addresses, running = self._mac(), self._addresses(), draw.random() < 0.85
        address = "dhcp" if draw.random() < 0.5 else addresses[0]
        config = {
            "arch": "amd64",
            "cores": str(draw.choice((1, 2, 4))),
            "memory": str(draw.choice((256, 512, 1024))),
            "swap": "512",
            "net0": f"name=eth0,bridge=vmbr0,hwaddr={mac},ip={address},type=veth",
            "ostype": draw.choice(("alpine", "debian", "ubuntu")),
            "rootfs": f"local-lvm:vm-{vmid}-disk-0,size={draw.choice((2, 4, 8))}G",
            "unprivileged": "1",
        }
        guest = Guest("lxc", vmid, node, name, "running" if running else "stopped", config=config)
        if running:
            guest.started = self.cluster.now - draw.randrange(60, 100 * _DAY)
            guest.interfaces = [
                ContainerInterface("lo", "00:00:00:00:00:00", ["127.0.0.1/8", "::1/128"]),
                ContainerInterface("eth0", mac.lower(), addresses),
            ]
        return guest

    def _add_history(self, guest: Guest) -> None:
        draw, cluster = self.random, self.cluster
        for number in range(draw.choice((0, 0, 0, 1, 2))):
            taken = Snapshot(f"snap{number}", cluster.now - (9 - number) * _DAY, guest.parent, "by hand")
            taken.config = dict(guest.config)
            guest.snapshots[taken.name], guest.parent = taken, taken.name
        for number in range(draw.choice((0, 1, 2))):
            moment = cluster.now - (number + 1) * _DAY + guest.vmid % 3600
            target = cluster.storages[draw.choice(("nas", "pbs"))]
            backup = make_backup(target, guest.vmid, moment, kind=guest.kind, size=draw.randrange(1, 100) * GIB)
            cluster.backups.setdefault(target.name, []).append(backup)
        prefix = "qm" if guest.kind == "qemu" else "vz"
        for kind in draw.sample(("start", "shutdown", "snapshot"), draw.choice((1, 1, 2))):
            self._add_task(guest, prefix + kind)

    def _add_task(self, guest: Guest, kind: str) -> None:
        draw = self.random
        self.task_number += 1
        start = self.cluster.now - draw.randrange(60, 30 * _DAY)
        status = "OK" if draw.random() < 0.95 else "got timeout"
        task = Task(guest.node, kind, str(guest.vmid), "root@pam", start, start + draw.randrange(1, 60), status)
        task.pid, task.pstart = 1_000_000 + self.task_number, 50_000_000 + self.task_number
        self.cluster.tasks.setdefault(guest.node, []).append(task)

    def add_jobs(self) -> None:
        """A pool, a backup job and a few replication jobs of the ordinary guests."""
        cluster = self.cluster
        ordinary = [guest for guest in cluster.guests.values() if 2000 <= guest.vmid < self.next_vmid]
        cluster.pools["everyday"] = Pool("everyday", "", {guest.vmid for guest in ordinary[::3]})
        cluster.index_pools()
        cluster.set_backup_job("backup-everyday", schedule="23:00", storage="pbs", pool="everyday", enabled=1)
        if not cluster.standalone:
            names = list(cluster.nodes)
            for guest in ordinary[::20]:
                target = names[(names.index(guest.node) + 1) % len(names)]
                job = ReplicationJob(guest.vmid, 0, target, "*/15", last_sync=cluster.now - 300)
                cluster.replication[job.id] = job

    # identities

    def _uuid(self) -> str:
        bits = f"{self.random.getrandbits(128):032x}"
        return f"{bits[:8]}-{bits[8:12]}-4{bits[13:16]}-8{bits[17:20]}-{bits[20:]}"

    def _mac(self) -> str:
        self.cards += 1
        number = self.block * 0x20_00_00 + self.cards
        return f"BC:24:11:{number >> 16 & 255:02X}:{number >> 8 & 255:02X}:{number & 255:02X}"

    def _addresses(self) -> list[str]:
        """One IPv4 address of this cluster's block (15,240 different ones), and often one of IPv6."""
        self.addresses += 1
        number, place = self.addresses, self.addresses // 254
        third, fourth = self.block * 32 + 1 + place % 30, number % 254 + 1
        found = [f"198.{18 + place // 30 % 2}.{third}.{fourth}/19"]
        if self.random.random() < 0.4:
            found.append(f"2001:db8:{0xF000 + self.block:x}:1::{number:x}/64")
        return found
