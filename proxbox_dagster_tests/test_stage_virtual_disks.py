"""Stage 4: which entries of a configuration are disks, and what NetBox holds of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proxbox_dagster.facts import GapKind
from proxbox_dagster.netbox.spec import Desired, Outcome, Ref
from proxbox_dagster.stages.guests import MAX_DISK_MIB
from proxbox_dagster.stages.virtual_disks import STAGE
from proxbox_dagster_tests.support.guest_data import (
    CONTEXT,
    ENDPOINT,
    built,
    config,
    fetched,
    gap,
    guest,
    one,
    skip_of,
    storage,
    told,
    vm,
)


def of(kind: str = "qemu", **entries: Any) -> dict[str, Desired]:
    return built(
        STAGE,
        guests=fetched("guests", [guest(100, kind)]),
        guest_configs=fetched("guest_configs", [config(100, kind, **entries)]),
    )


def sizes(kind: str = "qemu", **entries: Any) -> dict[str, int]:
    return {row.values["name"]: row.values["size"] for row in of(kind, **entries)["virtual_disks"].rows}


def test_disks_of_every_bus() -> None:
    assert sizes(
        ide0="local-lvm:vm-100-disk-0,size=1G",
        sata5="nas:100/vm-100-disk-0.qcow2,size=104858K",
        scsi30="local-zfs:vm-100-disk-0,size=33G,ssd=1",
        virtio15="nas:100/vm-100-disk-1.raw,size=8G",
        efidisk0="local-lvm:vm-100-disk-1,efitype=4m,size=528K",
        tpmstate0="local-lvm:vm-100-disk-2,size=4M,version=v2.0",
        scsi1="ceph:vm-100-disk-3,size=2T",
        scsi2="ceph:vm-100-disk-4,size=1073741824",
    ) == {
        "ide0": 1024,
        "sata5": 103,
        "scsi30": 33 * 1024,
        "virtio15": 8192,
        "efidisk0": 1,
        "tpmstate0": 4,
        "scsi1": 2 * 1024 * 1024,
        "scsi2": 1024,
    }


def test_root_and_mount_points_of_a_container() -> None:
    made = of(
        "lxc",
        rootfs="local-zfs:subvol-100-disk-0,acl=1,size=8G",
        mp1="local-zfs:subvol-100-disk-1,mp=/srv,backup=1,size=1T",
        mp0="/mnt/pve/nas/data,mp=/data",
    )["virtual_disks"]
    assert {row.values["name"]: row.values["size"] for row in made.rows} == {"rootfs": 8192, "mp1": 1024 * 1024}
    assert one(made, name="mp1")["description"] == "Storage: local-zfs | Format: subvol | Mounted at: /srv"
    bind = skip_of(made, "mp0 is a bind mount")
    assert (bind.outcome, bind.key) == (Outcome.SKIPPED, None)


def test_what_is_no_disk_is_not_even_mentioned() -> None:
    made = of(
        ide0="cdrom,media=cdrom",
        ide2="local:iso/debian.iso,media=cdrom,size=4985424K",
        sata0="none,media=cdrom",
        sata1="cdrom",
        ide3="local-lvm:vm-100-cloudinit,media=cdrom,size=4M",
        unused0="local-lvm:vm-100-disk-9",
        scsihw="virtio-scsi-pci",
    )
    assert not made["virtual_disks"].rows
    assert not made["virtual_disks"].skips
    assert not made["disk_sync_states"].rows


def test_passed_through_disks_count_when_their_size_is_told() -> None:
    made = of(
        scsi1="/dev/disk/by-id/ata-EXAMPLE,size=11718885888K",
        scsi2="/dev/disk/by-id/nvme-EXAMPLE",
        sata0="/mnt/images/file.raw,size=20G",
    )
    rows = made["virtual_disks"]
    assert one(rows, name="scsi1")["size"] == 11444225
    assert one(rows, name="scsi1")["description"] == "Passed through: /dev/disk/by-id/ata-EXAMPLE"
    assert one(rows, name="sata0")["size"] == 20 * 1024
    assert skip_of(rows, "scsi2").key == (vm(100), "scsi2"), "what NetBox has of it stays"
    state = one(made["disk_sync_states"], virtual_disk=Ref("virtual_disks", (vm(100), "scsi1")))
    assert (state["proxbox_storage"], state["proxbox_storage_raw_id"], state["proxbox_storage_raw_value"]) == (
        None,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("kind", "entry", "remedy"),
    [
        ("qemu", {"scsi0": "nas:100/vm-100-disk-0.qcow2"}, "qm disk rescan --vmid 100"),
        ("lxc", {"rootfs": "nas:100/vm-100-disk-0.raw"}, "pct rescan --vmid 100"),
        ("lxc", {"rootfs": "local:100/subvol-100-disk-0.subvol,size=0T"}, "has no limit"),
        ("qemu", {"scsi0": f"ceph:vm-100-disk-0,size={MAX_DISK_MIB + 1}M"}, f"at most {MAX_DISK_MIB}"),
        ("qemu", {"scsi0": "ceph:vm-100-disk-0,size=big"}, "cannot be read"),
        ("qemu", {"scsi0": "ceph:vm-100-disk-0,size=1G,size=2G"}, "stands twice"),
        ("qemu", {"scsi0": ["odd"]}, "cannot be read"),
    ],
)
def test_a_disk_that_cannot_be_written_is_skipped_and_stays(kind: str, entry: dict[str, Any], remedy: str) -> None:
    made = of(kind, **entry)
    skip = skip_of(made["virtual_disks"], remedy)
    assert skip.outcome is Outcome.SKIPPED
    assert skip.key == (vm(100, kind), next(iter(entry)))
    assert not made["virtual_disks"].rows
    assert not made["disk_sync_states"].rows


def test_the_storage_of_a_disk() -> None:
    made = of(
        scsi0="ceph:base-9000-disk-0/vm-100-disk-0,size=10G",
        ide0="nas:9000/base-9000-disk-0.qcow2/100/vm-100-disk-0.qcow2,size=4G",
    )
    state = one(made["disk_sync_states"], virtual_disk=Ref("virtual_disks", (vm(100), "scsi0")))
    assert state["proxbox_storage"] == state["proxbox_storage_raw_id"] == storage("ceph")
    assert state["proxbox_storage_raw_value"] == "ceph"
    disk = one(made["virtual_disks"], name="scsi0")
    assert disk["description"] == "Storage: ceph | Linked clone of: base-9000-disk-0"
    assert one(made["virtual_disks"], name="ide0")["description"] == (
        "Storage: nas | Format: qcow2 | Linked clone of: base-9000-disk-0.qcow2"
    )
    assert (disk["virtual_machine"], disk["cf.proxmox_endpoint"], disk["tags"]) == (vm(100), ENDPOINT, {"proxbox"})


def test_equal_spellings_make_equal_rows() -> None:
    plain = of(scsi0="local-lvm:vm-100-disk-0,size=10G,ssd=1")
    for other in (
        "file=local-lvm:vm-100-disk-0,size=10G,ssd=1",
        "local-lvm:vm-100-disk-0,ssd=1,size=10240M",
        "ssd=1,size=10485760K,file=local-lvm:vm-100-disk-0",
    ):
        respelled = of(scsi0=other)
        assert {name: told(made.rows) for name, made in respelled.items()} == {
            name: told(made.rows) for name, made in plain.items()
        }


def test_guests_that_were_not_read_are_told_and_not_covered() -> None:
    made = built(
        STAGE,
        guests=fetched("guests", [guest(100), guest(101), guest(102, node="pve2"), guest(103)]),
        guest_configs=fetched(
            "guest_configs",
            [config(100, scsi0="ceph:vm-100-disk-0,size=1G")],
            [
                gap("guest", "qemu/101", GapKind.FAILED),
                gap("node", "pve2", GapKind.OFFLINE, "node pve2 is offline"),
                gap("guest", "qemu/103", GapKind.PERMISSION, "the token lacks VM.Audit"),
            ],
        ),
    )["virtual_disks"]
    assert made.coverage.parents == {vm(100)}
    assert not made.coverage.everything
    assert skip_of(made, "g101").outcome is Outcome.FAILED
    assert skip_of(made, "g102").outcome is Outcome.SKIPPED
    assert skip_of(made, "VM.Audit").outcome is Outcome.FAILED


def test_a_guest_without_disks_is_covered_so_that_its_last_disk_can_go() -> None:
    made = of(boot="order=net0")["virtual_disks"]
    assert made.coverage.parents == {vm(100)}
    assert not made.skips


def test_without_the_plugin_only_the_disks_are_written() -> None:
    made = built(
        STAGE,
        replace(CONTEXT, plugin=False),
        guests=fetched("guests", [guest(100)]),
        guest_configs=fetched("guest_configs", [config(100, scsi0="ceph:vm-100-disk-0,size=1G")]),
    )
    assert list(made) == ["virtual_disks"]
