"""Stages 4 to 7, 11 and 12 over a NetBox: a second run, changes at the source, what was not observed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from proxbox_dagster import stages
from proxbox_dagster.facts import Fetched, GapKind
from proxbox_dagster.netbox.changes import Rules
from proxbox_dagster.netbox.removal import RemovalRules
from proxbox_dagster.netbox.spec import Desired
from proxbox_dagster_tests.support.guest_data import CONTEXT, ENDPOINT, config, fetched, gap, guest
from proxbox_dagster_tests.support.memory_netbox import MemoryNetBox, failures
from proxbox_dagster_tests.support.sources import shuffled

NAMES = ("virtual_disks", "task_history", "backups", "snapshots", "replications", "backup_routines")
STAGES = [stages.BY_NAME[name] for name in NAMES]
ANYWAY = Rules(removal=RemovalRules(override=True))
"""One of three rows gone would trip the brake."""

VMA = "nas:backup/vzdump-qemu-100-2024_01_31-02_00_00.vma.zst"
PBS = "pbs:backup/ct/101/2024-01-31T02:00:00Z"


def cluster() -> dict[str, Fetched]:
    """A VM and a container, with something of everything."""
    return {
        "guests": fetched("guests", [guest(100, pool="web"), guest(101, "lxc", node="pve2")]),
        "guest_configs": fetched(
            "guest_configs",
            [
                config(100, scsi0="ceph:vm-100-disk-0,size=8G", scsi1="nas:100/vm-100-disk-1.qcow2,size=1G"),
                config(101, "lxc", node="pve2", rootfs="ceph:vm-101-disk-0,size=2G"),
            ],
        ),
        "node_tasks": fetched(
            "node_tasks",
            [
                {
                    "upid": f"UPID:pve1:0000000{n}:00000001:6955B900:qmstart:100:root@pam:",
                    "id": "100",
                    "running": n == 2,
                }
                | ({} if n == 2 else {"endtime": 1_767_225_700, "status": "OK"})
                for n in range(3)
            ],
        ),
        "storage": fetched(
            "storage",
            [{"storage": name, "type": "nfs", "content": "images,backup"} for name in ("ceph", "nas", "pbs")],
        ),
        "storage_content": fetched(
            "storage_content",
            [
                {"storage": "nas", "volid": VMA, "vmid": 100, "ctime": 1_706_666_400, "protected": True, "size": 5},
                {"storage": "pbs", "volid": PBS, "vmid": 101, "format": "pbs-ct", "verification": {"state": "ok"}},
            ],
        ),
        "guest_snapshots": fetched(
            "guest_snapshots",
            [
                {"node": "pve1", "type": "qemu", "vmid": 100, "name": "a", "snaptime": 1_700_000_000},
                {"node": "pve1", "type": "qemu", "vmid": 100, "name": "b", "parent": "a", "description": " x \r\n"},
                {"node": "pve2", "type": "lxc", "vmid": 101, "name": "a", "snaptime": 0},
            ],
        ),
        "replication_jobs": fetched(
            "replication_jobs",
            [{"id": "100-0", "guest": 100, "jobnum": 0, "target": "pve2", "rate": 1.5, "raw": {"guest": "100"}}],
        ),
        "backup_jobs": fetched(
            "backup_jobs",
            [{"id": "j1", "all": True, "storage": "nas", "next-run": 1_768_705_200, "raw": {"all": 1}}],
        ),
    }


class House:
    """A NetBox that has what the other stages make, and runs of these stages over it."""

    def __init__(self) -> None:
        self.specs = stages.specs()
        self.netbox = MemoryNetBox()
        seed = self.netbox.seed
        self.vms = {
            vmid: seed(
                "virtualization/virtual-machines",
                cf_proxmox_endpoint=ENDPOINT,
                cf_proxmox_vm_type=kind,
                cf_proxmox_vm_id=vmid,
                name=f"g{vmid}",
            )
            for vmid, kind in ((100, "qemu"), (101, "lxc"))
        }
        seed("plugins/proxbox/endpoints/proxmox", name=ENDPOINT)
        for name in ("pve1", "pve2"):
            seed("plugins/proxbox/proxmox-nodes", cf_proxmox_endpoint=ENDPOINT, name=name)
        self.storages = {
            name: seed("plugins/proxbox/storage", cf_proxmox_endpoint=ENDPOINT, name=name)
            for name in ("ceph", "nas", "pbs")
        }

    def run(self, reads: Mapping[str, Fetched], rules: Rules | None = None) -> list[tuple[str, str, int]]:
        """One run; its writes as (kind, path, number of rows)."""
        classes: list[Desired] = []
        for stage in STAGES:
            classes += stage.build({name: reads[name] for name in stage.sources}, CONTEXT)
        done = self.netbox.apply(classes, self.specs, rules or Rules())
        assert not [line for line in failures(done) if "did not answer" not in line]
        return [(kind, path, len(rows)) for kind, path, rows in self.netbox.writes]


def changed(reads: dict[str, Fetched], source: str, keep: Keep, gaps: Any = ()) -> dict[str, Fetched]:
    """The reads with only the rows of ``source`` that ``keep`` gives back (as they were, or changed)."""
    rows = [row for before in reads[source].rows if (row := keep(dict(before))) is not None]
    return {**reads, source: fetched(source, rows, gaps)}


def test_a_second_run_writes_nothing_in_any_order() -> None:
    house = House()
    assert {kind for kind, _, _ in house.run(cluster())} == {"create"}
    for seed in range(4):
        assert house.run(shuffled(cluster(), seed)) == []


def test_what_netbox_holds_after_the_first_run() -> None:
    house = House()
    house.run(cluster())
    row = house.netbox.row
    disk = row("virtualization/virtual-disks", name="scsi1")
    state = row("plugins/proxbox/sync-state/virtual-disks", virtual_disk=disk["id"])
    assert (disk["virtual_machine"], disk["size"]) == (house.vms[100], 1024)
    assert state["proxbox_storage"] == state["proxbox_storage_raw_id"] == house.storages["nas"]
    backup = row("plugins/proxbox/backups", volume_id=VMA)
    assert (backup["proxmox_storage"], backup["creation_time"]) == (house.storages["nas"], "2024-01-31T02:00:00Z")
    snapshot = row("plugins/proxbox/snapshots", name="b")
    assert (snapshot["parent"], snapshot["description"], snapshot.get("proxmox_storage")) == ("a", "x", None)
    assert row("plugins/proxbox/snapshots", subtype="lxc")["proxmox_storage"] == house.storages["ceph"]
    assert row("plugins/proxbox/backup-routines", job_id="j1")["selection"] == [100, 101]


Keep = Callable[[dict[str, Any]], dict[str, Any] | None]


def configured(vmid: int, **entries: str) -> Keep:
    """The configuration of one guest, replaced."""
    return lambda row: row | {"config": entries} if row["vmid"] == vmid else row


def without(column: str, value: str) -> Keep:
    return lambda row: None if row[column] == value else row


def with_(**cells: Any) -> Keep:
    return lambda row: row | cells


DISKS = "virtualization/virtual-disks"
STATES = "plugins/proxbox/sync-state/virtual-disks"
X = "plugins/proxbox/"
SCSI1 = "nas:100/vm-100-disk-1.qcow2,size=1G"


@pytest.mark.parametrize(
    ("source", "keep", "writes"),
    [
        (
            "guest_configs",
            configured(100, scsi0="ceph:vm-100-disk-0,size=9G", scsi1=SCSI1),
            [("update", DISKS, 1)],
        ),
        (
            "guest_configs",
            configured(100, scsi0="nas:100/vm-100-disk-0.raw,size=8G", scsi1=SCSI1),
            [("update", DISKS, 1), ("update", STATES, 1), ("update", f"{X}snapshots", 2)],
        ),
        (
            "guest_configs",
            configured(
                100, scsi0="ceph:vm-100-disk-0,size=8G", scsi1=SCSI1, efidisk0="nas:100/vm-100-disk-2.raw,size=528K"
            ),
            [("create", DISKS, 1), ("create", STATES, 1)],
        ),
        ("guest_configs", configured(101), [("delete", DISKS, 1), ("update", f"{X}snapshots", 1)]),
        (
            "node_tasks",
            lambda row: row | {"running": False, "endtime": row["endtime"] or 1_767_225_800, "status": "OK"},
            [("update", f"{X}task-history", 1)],
        ),
        ("node_tasks", lambda row: None, []),
        ("storage_content", without("volid", VMA), [("delete", f"{X}backups", 1)]),
        ("storage_content", with_(verification={"state": "failed"}), [("update", f"{X}backups", 2)]),
        ("guest_snapshots", without("name", "b"), [("delete", f"{X}snapshots", 1)]),
        ("replication_jobs", with_(disable=True), [("update", f"{X}replications", 1)]),
        ("replication_jobs", lambda row: None, [("update", f"{X}replications", 1)]),
        ("backup_jobs", with_(exclude="101"), [("update", f"{X}backup-routines", 1)]),
        ("backup_jobs", with_(**{"next-run": 1_768_791_600}), [("update", f"{X}backup-routines", 1)]),
        ("backup_jobs", lambda row: None, [("update", f"{X}backup-routines", 1)]),
    ],
)
def test_a_change_at_the_source_is_the_writes_that_it_needs(source: str, keep: Keep, writes: list[Any]) -> None:
    house = House()
    house.run(cluster())
    after = changed(cluster(), source, keep)
    assert house.run(after, ANYWAY) == writes
    assert house.run(after, ANYWAY) == []


def test_a_job_that_is_gone_turns_stale_and_active_again() -> None:
    house = House()
    house.run(cluster())
    house.run(changed(cluster(), "replication_jobs", lambda row: None))
    row = house.netbox.rows("plugins/proxbox/replications")[0]
    assert row["status"] == "stale"
    house.run(cluster())
    row = house.netbox.rows("plugins/proxbox/replications")[0]
    assert (row["status"], row["custom_fields"]["proxbox_missing"]) == ("active", None)


@pytest.mark.parametrize(
    ("source", "gaps"),
    [
        ("storage_content", [gap("storage", "nas", GapKind.FAILED), gap("storage", "pbs", GapKind.FAILED)]),
        ("storage_content", [gap("guest", name, GapKind.PERMISSION) for name in ("qemu/100", "lxc/101")]),
        ("guest_snapshots", [gap("all", "", GapKind.OFFLINE)]),
        ("guest_configs", [gap("guest", "qemu/100", GapKind.FAILED), gap("guest", "lxc/101", GapKind.OFFLINE)]),
        ("node_tasks", [gap("node", "pve1", GapKind.FAILED)]),
        ("replication_jobs", [gap("all", "", GapKind.PERMISSION)]),
        ("backup_jobs", [gap("all", "", GapKind.FAILED)]),
    ],
)
def test_what_was_not_observed_is_neither_removed_nor_changed(source: str, gaps: list[Any]) -> None:
    house = House()
    house.run(cluster())
    assert house.run(changed(cluster(), source, lambda row: None, gaps), ANYWAY) == []


def test_backups_of_a_guest_that_is_out_of_the_list_stay() -> None:
    """A guest on which the token has no privilege at all vanishes from every list, without a word."""
    house = House()
    house.run(cluster())
    reads = changed(cluster(), "guests", lambda row: row if row["vmid"] == 101 else None)
    reads = changed(reads, "storage_content", lambda row: row if row["vmid"] == 101 else None)
    writes = [write for write in house.run(reads, ANYWAY) if write[0] == "delete"]
    assert writes == []
    assert len(house.netbox.rows("plugins/proxbox/backups")) == 2
