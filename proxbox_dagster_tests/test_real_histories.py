"""Property, on the real NetBox with all twelve stages: disturbed histories end as undisturbed ones.

The invariant is that of test_histories.py. Both histories see the same changes at the same points, and at each point
one clean run; in the disturbed one, a run that is killed, cut off or fed garbage looks before it. After each clean run
NetBox must show the same, ids and times aside, and what people have put into it is what it was, to the byte.

In each history a number is given to another guest, a node is replaced, and a guest goes to the other cluster and one
from there comes: each leaves at one point and arrives at the next, where the cluster that it comes to is the disturbed
one. The second cluster is looked at only where a guest arrives there.

Derandomized: histories number 0 to PROXBOX_HISTORIES - 1 (1 unless set); the number is the seed.
"""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Callable
from typing import Any

import pytest

from proxbox_dagster.demo.proxmox import Cluster, Guest
from proxbox_dagster.netbox.client import NetBoxClient
from proxbox_dagster_tests.support.dump import Dump, difference
from proxbox_dagster_tests.support.guests import new_guest
from proxbox_dagster_tests.support.history import History, Kill, history_lab, killed, prepare
from proxbox_dagster_tests.support.synced import VMS, errors

HISTORIES = int(os.environ.get("PROXBOX_HISTORIES", "1"))
POINTS = 3
CLUSTERS = ("small", "twin")

Draw = random.Random

lab = history_lab


# -- changes at the source ----------------------------------------------------------------------------------------


def some(cluster: Cluster, draw: Draw, kind: str | None = None) -> Guest:
    guests = [guest for guest in cluster.guests.values() if kind in (None, guest.kind)]
    return draw.choice(sorted(guests, key=lambda guest: guest.vmid))


def _rename(cluster: Cluster, draw: Draw) -> None:
    guest = some(cluster, draw)
    cluster.rename(guest.kind, guest.vmid, f"renamed{draw.randrange(1000)}")


def _migrate(cluster: Cluster, draw: Draw) -> None:
    guest = some(cluster, draw)
    cluster.migrate(guest.kind, guest.vmid, draw.choice(sorted(cluster.nodes)))


def _switch(cluster: Cluster, draw: Draw) -> None:
    guest = some(cluster, draw)
    (cluster.stop if guest.status == "running" else cluster.start)(guest.kind, guest.vmid)


def _delete(cluster: Cluster, draw: Draw) -> None:
    if len(cluster.guests) > 2:
        guest = some(cluster, draw)
        cluster.delete_guest(guest.kind, guest.vmid)


def _add(cluster: Cluster, draw: Draw) -> None:
    vmid = 300 + draw.randrange(50)
    if vmid not in cluster.guests:
        mac = f"BC:24:11:77:{vmid % 256:02X}:01"
        config = {"memory": "512", "net0": f"virtio={mac},bridge=vmbr0,tag={draw.choice([10, 70])}", "ostype": "l26"}
        config["scsi0"] = f"ceph:vm-{vmid}-disk-0,size={draw.choice([4, 8])}G"
        config["smbios1"] = f"uuid=5a000000-0000-4000-8000-{vmid:012}"
        cluster.add_guest(kind="qemu", vmid=vmid, node="pve1", name=f"new{vmid}", status="running", config=config)


def _disk(cluster: Cluster, draw: Draw) -> None:
    guest, number = some(cluster, draw, "qemu"), draw.randrange(1, 4)
    there = f"scsi{number}" in guest.config
    value = None if there else f"ceph:vm-{guest.vmid}-disk-{number},size={draw.randrange(1, 9)}G"
    cluster.set_config("qemu", guest.vmid, f"scsi{number}", value)


def _card(cluster: Cluster, draw: Draw) -> None:
    guest, number = some(cluster, draw, "qemu"), draw.randrange(1, 4)
    there = f"net{number}" in guest.config
    mac = f"BC:24:11:78:{guest.vmid % 256:02X}:{number:02X}"
    value = None if there else f"virtio={mac},bridge=vmbr0,tag={draw.choice([10, 20, 80])}"
    cluster.set_config("qemu", guest.vmid, f"net{number}", value)


def _address(cluster: Cluster, draw: Draw) -> None:
    for guest in sorted(cluster.guests.values(), key=lambda guest: guest.vmid):
        if guest.agent is not None and draw.random() < 0.7:
            text = f"198.51.100.{guest.vmid % 100 + draw.choice([100, 110])}"
            guest.agent.interfaces[-1]["ip-addresses"] = [
                {"ip-address": text, "ip-address-type": "ipv4", "prefix": draw.choice([24, 26])}
            ]


def _snapshot(cluster: Cluster, draw: Draw) -> None:
    guest = some(cluster, draw)
    if guest.snapshots and draw.random() < 0.5:
        cluster.remove_snapshot(guest.kind, guest.vmid, draw.choice(sorted(guest.snapshots)))
    else:
        cluster.add_snapshot(guest.kind, guest.vmid, f"snap{draw.randrange(1000)}")


def _backup(cluster: Cluster, draw: Draw) -> None:
    if cluster.backups.get("nas") and draw.random() < 0.5:
        cluster.prune_backup(cluster.backups["nas"][0].volid)
    else:
        cluster.add_backup("nas", some(cluster, draw).vmid, cluster.now - draw.randrange(100_000))


def _jobs(cluster: Cluster, draw: Draw) -> None:
    if "backup-db" in cluster.backup_jobs and draw.random() < 0.4:
        cluster.remove_backup_job("backup-db")
    else:
        cluster.set_backup_job("backup-db", schedule=draw.choice(["01:00", "sat 02:00"]), storage="nas", vmid="101")


def _node(cluster: Cluster, draw: Draw) -> None:
    node = cluster.nodes["pve2"]
    (cluster.node_offline if node.online else cluster.node_online)("pve2")


def _sight(cluster: Cluster, draw: Draw) -> None:
    if draw.random() < 0.5:
        cluster.revoke("VM.Audit", f"/vms/{some(cluster, draw).vmid}")
    else:
        cluster.grant_all()


def _other_order(cluster: Cluster, draw: Draw) -> None:
    cluster.shuffle(draw.randrange(100))
    cluster.churn()


def _reuse(cluster: Cluster, draw: Draw) -> None:
    """A guest is deleted and its number given to another one, of this kind or the other."""
    guest, number = some(cluster, draw), draw.randrange(256)
    cluster.delete_guest(guest.kind, guest.vmid)
    kind = draw.choice(["qemu", "lxc"])
    cluster.add_guest(new_guest(kind, guest.vmid, draw.choice([guest.name, f"other{number}"]), number))


def _replace(cluster: Cluster, draw: Draw) -> None:
    """A node is replaced by other hardware, under its name or, where little is on it, under another one."""
    name = draw.choice(sorted(cluster.nodes))
    with cluster.lock:
        if name in ("pve1", "pve2") or draw.random() < 0.3:
            cluster.nodes[name].memory *= 2
            cluster.nodes[name].cpus += 8
            return
        fresh = cluster.nodes.pop(name)
        fresh.name = "pve4" if name == "pve3" else "pve3"
        fresh.ip = f"192.0.2.{draw.randrange(20, 30)}"
        cluster.nodes[fresh.name] = fresh
        for guest in list(cluster.guests_on(name)):
            guest.node = fresh.name


CHANGES: tuple[Callable[[Cluster, Draw], None], ...] = (
    _rename, _migrate, _switch, _delete, _add, _disk, _card, _address, _snapshot, _backup, _jobs, _node, _sight,
    _other_order, _reuse, _replace,
)  # fmt: skip
CERTAIN = ((), (_reuse,), (_replace,))
"""What happens at a point whatever is drawn."""


class Source:
    """The clusters from the first run on; ``away`` has the guest that has left one and not arrived in the other."""

    def __init__(self, lab: History, seed: int) -> None:
        self.clusters, self.seed = lab.clusters, seed
        self.away: tuple[str, Guest] | None = None

    def change(self, point: int) -> tuple[str, ...]:
        """The clusters that the runs of this point look at, in their order."""
        draw = Draw(f"{self.seed}/{point}")
        looked_at = self._arrive(draw)
        steps = [*draw.sample(CHANGES, 5 if point else 1), *CERTAIN[point]]
        draw.shuffle(steps)
        for step in steps:
            step(self.clusters["small"], draw)
        if point < POINTS - 1:
            self._leave(looked_at[-1], draw)
        return looked_at

    def _leave(self, name: str, draw: Draw) -> None:
        guest = some(self.clusters[name], draw)
        self.away = name, self.clusters[name].delete_guest(guest.kind, guest.vmid)

    def _arrive(self, draw: Draw) -> tuple[str, ...]:
        if self.away is None:
            return ("small",)
        origin, left = self.away
        self.away = None
        name, storage = ("twin", "nas") if origin == "small" else ("small", "ceph")
        guest = copy.deepcopy(left)
        guest.vmid, guest.node, guest.snapshots, guest.parent = 400 + draw.randrange(50), "pve1", {}, None
        for key, value in guest.config.items():
            if key.startswith(("scsi", "rootfs")):
                guest.config[key] = f"{storage}:{value.partition(':')[2]}"
        self.clusters[name].add_guest(guest)
        return ("small", "twin") if name == "twin" else ("small",)


# -- what people have in NetBox -----------------------------------------------------------------------------------


def put_foreign(lab: History, draw: Draw) -> dict[tuple[str, int], Any]:
    """Objects beside ours, of the same names and numbers, and below ours."""
    client = lab.client()
    try:
        [site] = client.create("dcim/sites", [{"name": "Theirs", "slug": "theirs"}])
        [tag] = client.create("extras/tags", [{"name": "theirs", "slug": "theirs"}])
        names = draw.sample(["web01", "db01", "image", "theirs"], 2)
        machines = client.create(VMS, [{"name": name, "site": site["id"], "tags": [tag["id"]]} for name in names])
        ours = lab.vm(101)["id"]
        parents = [machines[0]["id"], ours]
        cards = client.create("virtualization/interfaces", [{"virtual_machine": it, "name": "wg0"} for it in parents])
        made = [
            ("virtualization_vminterface", cards),
            ("dcim_site", [site]),
            ("extras_tag", [tag]),
            ("virtualization_virtualmachine", machines),
            (
                "virtualization_virtualdisk",
                client.create(
                    "virtualization/virtual-disks",
                    [{"virtual_machine": machines[0]["id"], "name": "scsi0", "size": draw.randrange(1, 9)}],
                ),
            ),
            (
                "ipam_ipaddress",
                client.create(
                    "ipam/ip-addresses",
                    [
                        {
                            "address": f"10.9.0.{number + 1}/24",
                            "assigned_object_type": "virtualization.vminterface",
                            "assigned_object_id": card["id"],
                        }
                        for number, card in enumerate(cards)
                    ],
                ),
            ),
            ("ipam_vlan", client.create("ipam/vlans", [{"name": "theirs", "vid": draw.choice([10, 20])}])),
        ]
    finally:
        client.close()
    return content(lab, {(table, row["id"]) for table, rows in made for row in rows})


def content(lab: History, keys: Any) -> dict[tuple[str, int], Any]:
    """These rows as the database has them."""
    tables = Dump(lab.netbox)
    return {key: next((row for row in tables.table(key[0]) if row["id"] == key[1]), None) for key in sorted(keys)}


# -- disturbances -------------------------------------------------------------------------------------------------


def disturb(lab: History, name: str, draw: Draw) -> str:
    """A run over this cluster that meets trouble; what it was."""
    how = draw.choice(["killed", "killed", "garbage", "out of reach"])
    if how == "killed":
        kill = Kill(draw.randrange(8), draw.random() < 0.5)
        killed(lab, kill, "--endpoint", name, "--override-brake")
        return f"{name} killed {kill}"
    if how == "garbage":
        for _ in range(4):
            fault = draw.choice([{"drop": "after"}, {"drop": "before"}, {"truncate": True}, {"status": 502}])
            lab.proxy.add_fault(after=draw.randrange(60), **fault)
        for _ in range(3):
            kind = draw.choice(["html", "truncate", "drop"])
            lab.simulators[name].faults.add("", kind=kind, count=2, skip=draw.randrange(30))
    else:
        prepare(lab, retry_budget=0.5)
        lab.proxy.add_fault(after=draw.randrange(20, 80), count=None, status=503)
    lab.sync(endpoints=(name,), override_brake=True)
    lab.proxy.clear()
    lab.simulators[name].faults.clear()
    prepare(lab)
    assert all_there(lab), "what Proxmox has was taken for gone"
    return f"{name} {how}"


def all_there(lab: History) -> bool:
    """No guest that a cluster has carries the mark of a missing one."""
    marked = [row["custom_fields"] for row in lab.rows(VMS, tag="proxbox-missing")]
    there = {(name, it.kind, it.vmid) for name, cluster in lab.clusters.items() for it in cluster.guests.values()}
    return not there & {(row["proxmox_endpoint"], row["proxmox_vm_type"], row["proxmox_vm_id"]) for row in marked}


def clean(lab: History, name: str) -> tuple[bool, list[str]]:
    """An undisturbed run over one cluster: whether it was green, and what it complained of."""
    result = lab.sync(endpoints=(name,), override_brake=True)
    return result["ok"], errors(result)


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_scenarios_6_19_39_a_disturbed_history_ends_as_an_undisturbed_one(
    seed: int, lab: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause = NetBoxClient.pause
    monkeypatch.setattr(NetBoxClient, "pause", lambda self, seconds: pause(self, min(seconds, 0.05)))
    lab.rewind()
    put_foreign(lab, Draw(seed))
    source, calm = Source(lab, seed), []
    for point in range(POINTS):
        green = [clean(lab, name)[0] for name in source.change(point)]
        calm.append((green, Dump(lab.netbox).lines()))
    lab.rewind()
    theirs = put_foreign(lab, Draw(seed))
    source, told = Source(lab, seed), [f"history {seed}"]
    for point in range(POINTS):
        *before, last = source.change(point)
        runs = [clean(lab, name) for name in before]
        told.append(disturb(lab, last, Draw(f"{seed}/{point}/disturbed")))
        runs.append(clean(lab, last))
        assert [green for green, _ in runs] == calm[point][0], (told, runs)
        found = difference(calm[point][1], Dump(lab.netbox).lines())
        assert not found, f"{told}\n{found}"
        assert content(lab, theirs) == theirs, told
    lab.watched(override_brake=True)
    assert lab.written() == [], told
