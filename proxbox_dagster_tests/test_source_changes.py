"""A change of each kind at the source arrives as exactly the writes that it needs: NetBox's change log is the witness.

Changes that have nothing to do with one another share a run. Each run goes on where the one before ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from proxbox_dagster.demo.proxmox import Cluster
from proxbox_dagster.demo.proxmox.loader import agent_row, interface_row
from proxbox_dagster_tests.support.held import untruths
from proxbox_dagster_tests.support.synced import Synced, X, lend

CLUSTERS = ("small",)
MAC = "BC:24:11:5A:{:02X}:{:02X}"
CARD = f"virtio={MAC.format(1, 0x11)},bridge=vmbr0"

Write = tuple[str, str, str, frozenset[str]]
Change = tuple[Callable[[Cluster], Any], set[Write]]


def made(model: str, label: str) -> Write:
    return (model, "create", label, frozenset())


def gone(model: str, label: str) -> Write:
    return (model, "delete", label, frozenset())


def updated(model: str, label: str, *fields: str) -> Write:
    return (model, "update", label, frozenset(fields))


def config(vmid: int, key: str, value: Any, kind: str = "qemu") -> Callable[[Cluster], None]:
    return lambda cluster: cluster.set_config(kind, vmid, key, value)


@pytest.fixture
def lab(shared: Synced, request: pytest.FixtureRequest) -> Iterator[Synced]:
    yield from lend(shared, request)


def assert_exactly(lab: Synced, *changes: Change) -> None:
    """One run after all of these changes writes what each of them needs, and nothing besides."""
    for change, _ in changes:
        change(lab.clusters["small"])
    lab.run()
    assert lab.log.writes() == set().union(*(writes for _, writes in changes))
    assert untruths(lab, "small") == {}


def running_task(cluster: Cluster) -> str:
    return next(task.upid for task in cluster.all_tasks() if task.end is None)


def move_address(cluster: Cluster) -> None:
    """The primary address of db01 goes to web01, which has one already; db01 gets another."""
    web, db = cluster.guests[100].agent, cluster.guests[101].agent
    assert web is not None
    assert db is not None
    addresses = ["198.51.100.10/26", "198.51.100.11/26", "2001:db8:5a::10/64"]
    web.interfaces[1] = agent_row({"name": "eth0", "mac": MAC.format(1, 0), "addresses": addresses})
    db.interfaces[0] = agent_row({"name": "ens18", "mac": MAC.format(1, 0x10), "addresses": ["198.51.100.12/26"]})


def bond_the_bridge(cluster: Cluster) -> None:
    """On pve2 the bridge's port becomes a bond of two cards."""
    network = cluster.nodes["pve2"].network
    network.append(interface_row({"iface": "eno2", "type": "eth"}, 8))
    network.append(interface_row({"iface": "bond0", "type": "bond", "slaves": "eno1 eno2"}, 9))
    next(row for row in network if row["iface"] == "vmbr0")["bridge_ports"] = "bond0"


def test_what_appears(lab: Synced) -> None:
    client = lab.client()
    client.create("extras/tags", [{"name": "theirs", "slug": "of-people"}])
    client.close()
    assert_exactly(
        lab,
        (
            config(102, "scsi1", "ceph:vm-102-disk-1,size=5G"),
            {made("virtualdisk", "scsi1"), made("proxboxvirtualdisksyncstate", "scsi1 Proxbox sync state")},
        ),
        (
            config(101, "net1", f"{CARD},tag=30"),
            {
                made("vminterface", "net1"),
                made("macaddress", MAC.format(1, 0x11)),
                updated("vminterface", "net1", "primary_mac_address"),
                made("proxboxvminterfacesyncstate", "net1 Proxbox sync state"),
            },
        ),
        (
            lambda cluster: cluster.add_snapshot("qemu", 100, "third", description="by hand"),
            {made("vmsnapshot", "web01 - third")},
        ),
        (
            lambda cluster: cluster.add_backup("nas", 101, 1_768_200_000),
            {made("vmbackup", "db01 - 2026-01-12 06:40:00+00:00")},
        ),
        (
            lambda cluster: cluster.set_replication(100, 0, "pve2", schedule="*/30"),
            {made("replication", "web01 - 100-0")},
        ),
        (lambda cluster: cluster.add_task("pve1", "qmstart", 101), {made("vmtaskhistory", "db01 - QEMU 101 - Start")}),
        (
            config(101, "tags", "db;fresh;theirs"),
            {
                made("tag", "fresh"),
                made("tag", "theirs@small"),  # the name is taken by a tag of people's; its slug is another one
                updated("virtualmachine", "db01", "tags"),
                updated("proxboxvirtualmachinesyncstate", "db01 Proxbox sync state", "proxmox_tags"),
            },
        ),
        (bond_the_bridge, {made("interface", "bond0"), made("interface", "eno2"),
                           updated("interface", "eno1", "bridge", "lag")}),
    )  # fmt: skip


def test_what_changes(lab: Synced) -> None:
    assert_exactly(
        lab,
        (config(101, "scsi0", "local-lvm:vm-101-disk-0,size=80G"), {updated("virtualdisk", "scsi0", "size")}),
        (
            config(102, "scsi1", "local-lvm:vm-102-disk-1,size=5G"),
            {
                updated("virtualdisk", "scsi1", "description"),
                updated(
                    "proxboxvirtualdisksyncstate",
                    "scsi1 Proxbox sync state",
                    "proxbox_storage",
                    "proxbox_storage_raw_id",
                    "proxbox_storage_raw_value",
                ),
            },
        ),
        (
            config(101, "net1", f"{CARD},tag=31"),
            {made("vlan", "VLAN 31 (31)"), updated("vminterface", "net1", "untagged_vlan")},
        ),
        (move_address, {
            made("ipaddress", "198.51.100.12/26"),
            updated("ipaddress", "198.51.100.11/26", "assigned_object_id"),
            updated("virtualmachine", "db01", "primary_ip4"),
        }),
        (
            lambda cluster: cluster.set_replication(100, 0, "pve3", schedule="*/30"),
            {updated("replication", "web01 - 100-0", "proxmox_node", "raw_config", "target")},
        ),
        (
            lambda cluster: cluster.backup_jobs["backup-db"].options.update(enabled=0),
            {updated("backuproutine", "backup-db (small)", "enabled", "next_run", "raw_config")},
        ),
        (
            lambda cluster: cluster.finish_task(running_task(cluster), "got timeout"),
            {updated("vmtaskhistory", "db01 - QEMU 101 - Start", "end_time", "exitstatus", "status", "task_state")},
        ),
        (config(102, "template", 1), {updated("virtualmachine", "image", "tags")}),
        (
            config(101, "tags", "fresh"),
            {updated("proxboxvirtualmachinesyncstate", "db01 Proxbox sync state", "proxmox_tags"),
             updated("virtualmachine", "db01", "tags")},
        ),
        (config(100, "scsi2", "ceph:vm-100-disk-2,size=1G"),
         {made("virtualdisk", "scsi2"), made("proxboxvirtualdisksyncstate", "scsi2 Proxbox sync state")}),
    )  # fmt: skip


def test_what_goes(lab: Synced) -> None:
    assert_exactly(
        lab,
        (config(102, "scsi1", None), {gone("virtualdisk", "scsi1"),
                                      gone("proxboxvirtualdisksyncstate", "scsi1 Proxbox sync state")}),
        (config(101, "net1", CARD), {updated("vminterface", "net1", "mode", "untagged_vlan")}),
        (  # the disk that was added after the snapshot goes with the rollback
            lambda cluster: cluster.rollback("qemu", 100, "third"),
            {gone("virtualdisk", "scsi2"), gone("proxboxvirtualdisksyncstate", "scsi2 Proxbox sync state")},
        ),
        (
            lambda cluster: cluster.remove_snapshot("qemu", 100, "after"),
            {gone("vmsnapshot", "web01 - after"), updated("vmsnapshot", "web01 - third", "parent")},
        ),
        (
            lambda cluster: cluster.prune_backup("nas:backup/vzdump-qemu-101-2026_01_12-06_40_00.vma.zst"),
            {gone("vmbackup", "db01 - 2026-01-12 06:40:00+00:00")},
        ),
    )  # fmt: skip


def test_jobs_that_are_gone_are_marked_and_a_disabled_storage_keeps_its_backups(lab: Synced) -> None:
    backups = len(lab.rows(f"{X}backups"))
    cluster = lab.clusters["small"]
    cluster.remove_replication("100-0")
    cluster.remove_backup_job("backup-db")
    cluster.storages["nas"].disable = True
    cluster.set_config("qemu", 101, "net1", None)
    lab.run()
    marks = ("cf.proxbox_missing", "status", "tags")
    assert lab.log.writes() == {
        updated("replication", "web01 - 100-0", *marks),
        updated("backuproutine", "backup-db (small)", *marks),
        updated("proxmoxstorage", "small/nas", "enabled", "raw_config"),
        gone("vminterface", "net1"),
        gone("macaddress", MAC.format(1, 0x11)),
        gone("proxboxvminterfacesyncstate", "net1 Proxbox sync state"),
    }
    assert len(lab.rows(f"{X}backups")) == backups > 0
    assert {lab.one(f"{X}replications", replication_id="100-0")["status"]["value"]} == {"stale"}

    cluster.storages["nas"].disable = False
    cluster.set_replication(100, 0, "pve3", schedule="*/30")
    cluster.set_backup_job("backup-db", schedule="sat 03:00", storage="nas", vmid="101", mode="stop", enabled=0)
    lab.run()
    assert lab.log.writes() == {
        updated("replication", "web01 - 100-0", *marks),
        updated("backuproutine", "backup-db (small)", *marks),
        updated("proxmoxstorage", "small/nas", "enabled", "raw_config"),
    }, "what comes back loses its mark, and nothing else has changed"
    assert untruths(lab, "small") == {}


GARBAGE = (
    "=,=;:",
    "%%%",
    "a=b=c,d",
    "size=,file=",
    "\t",
    "-1",
    "Ω≈ç√",
    "none,none,none",
    "ip=999.999.999.999/99,bridge",
)


def test_scenario_45_a_guest_with_garbage_in_every_key_arrives_and_fails_nothing(lab: Synced) -> None:
    cluster = lab.clusters["small"]
    keys = ("scsi0", "ide1", "sata2", "virtio3", "efidisk0", "tpmstate0", "net0", "net1", "ipconfig0", "agent", "boot",
            "cores", "memory", "ostype", "tags", "description", "smbios1", "vmgenid", "onboot", "searchdomain",
            "unused0", "hostpci0", "lock", "protection", "parent", "cpu")  # fmt: skip
    odd = {key: GARBAGE[number % len(GARBAGE)] for number, key in enumerate(keys)}
    cluster.add_guest(kind="qemu", vmid=666, node="pve1", name="garbage", status="running", config=odd)
    mounts = dict(zip(("rootfs", "mp0", "mp9", "net0", "net3"), GARBAGE, strict=False))
    cluster.add_guest(kind="lxc", vmid=667, node="pve2", name="gar bage", status="running", config=mounts)
    cluster.set_config("qemu", 100, "memory", 5120)
    lab.run()
    touched = {entry.label for entry in lab.written() if entry.model == "virtualization.virtualmachine"}
    assert touched == {"garbage", "gar bage", "web01"}
    skipped = [f"{item.label}: {item.reason}" for report in lab.reports().values() for item in report.skips]
    for key in ("scsi0", "ide1", "sata2", "net0", "net1", "efidisk0"):
        assert any("qemu/666" in line and key in line for line in skipped), (key, skipped)
    for key in ("rootfs", "mp0", "net0"):
        assert any("lxc/667" in line and key in line for line in skipped), (key, skipped)
    lab.run()
    assert lab.written() == []
