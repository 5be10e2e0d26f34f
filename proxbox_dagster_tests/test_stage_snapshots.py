"""Stage 7: snapshots of guests."""

from __future__ import annotations

from typing import Any

import pytest

from proxbox_dagster.facts import UNOBSERVED, Gap, GapKind
from proxbox_dagster.netbox.spec import Desired, Outcome
from proxbox_dagster.stages.snapshots import SNAPSHOT, STAGE
from proxbox_dagster_tests.support.guest_data import (
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

TIME = 1_735_689_600


def snapshot(name: str = "before", vmid: int = 100, kind: str = "qemu", **row: Any) -> dict[str, Any]:
    return {"node": "pve1", "type": kind, "vmid": vmid, "name": name, "snaptime": TIME, **row}


def of(*rows: dict[str, Any], gaps: tuple[Gap, ...] = (), configs: Any = None) -> Desired:
    read = [config(100, scsi0="ceph:vm-100-disk-0,size=1G"), config(101, "lxc", rootfs="nas:101/vm-101-disk-0.raw")]
    return built(
        STAGE,
        guests=fetched("guests", [guest(100), guest(101, "lxc", node="pve2")]),
        guest_configs=configs or fetched("guest_configs", read),
        guest_snapshots=fetched("guest_snapshots", rows, gaps),
    )["snapshots"]


def test_a_snapshot_field_by_field() -> None:
    values = of(snapshot(description="two\nlines\n", parent="first", vmstate=True)).rows[0].values
    assert values == {
        "cf.proxmox_endpoint": ENDPOINT,
        "tags": {"proxbox"},
        "virtual_machine": vm(100),
        "name": "before",
        "vmid": 100,
        "node": "pve1",
        "subtype": "qemu",
        "status": "active",
        "description": "two\nlines\n",
        "snaptime": TIME,
        "parent": "first",
        "proxmox_storage": storage("ceph"),
    }
    assert set(values) == set(SNAPSHOT.by_name)


def test_a_snapshot_of_a_container_and_the_first_of_a_chain() -> None:
    values = one(of(snapshot("s1", 101, "lxc", snaptime=0)), name="s1")
    assert (values["subtype"], values["node"], values["snaptime"], values["parent"]) == ("lxc", "pve2", None, None)
    assert values["virtual_machine"] == vm(101, "lxc")


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({"scsi0": "ceph:vm-100-disk-0,size=1G", "virtio1": "ceph:vm-100-disk-1,size=1G"}, storage("ceph")),
        ({"scsi0": "ceph:vm-100-disk-0,size=1G", "efidisk0": "nas:100/vm-100-disk-0.qcow2,size=528K"}, None),
        ({"scsi0": "ceph:vm-100-disk-0", "ide2": "local:iso/debian.iso,media=cdrom"}, storage("ceph")),
        ({"scsi0": "/dev/sdb,size=1G"}, None),
        ({}, None),
    ],
)
def test_the_storage_is_that_of_all_disks(entries: dict[str, Any], expected: Any) -> None:
    made = of(snapshot(), configs=fetched("guest_configs", [config(100, **entries)]))
    assert made.rows[0].values["proxmox_storage"] == expected


def test_without_the_configuration_the_storage_is_not_touched() -> None:
    configs = fetched("guest_configs", [], [gap("guest", "qemu/100", GapKind.FAILED)])
    made = of(snapshot(), configs=configs)
    assert made.rows[0].values["proxmox_storage"] is UNOBSERVED
    assert made.coverage.parents == {vm(100), vm(101, "lxc")}, "the list itself was read"


def test_guests_whose_list_was_not_read_are_told_and_not_covered() -> None:
    made = of(
        snapshot(),
        gaps=(gap("guest", "qemu/100", GapKind.FAILED), gap("node", "pve2", GapKind.OFFLINE, "node pve2 is offline")),
    )
    assert made.coverage.parents == set()
    assert skip_of(made, "qemu/100").outcome is Outcome.FAILED
    assert skip_of(made, "node pve2 is offline").outcome is Outcome.SKIPPED


def test_one_odd_entry_does_not_hold_up_the_others() -> None:
    made = of(snapshot(snaptime=UNOBSERVED), gaps=(gap("guest", "qemu/100", GapKind.UNREADABLE, "snaptime: odd"),))
    assert made.rows[0].values["snaptime"] is UNOBSERVED
    assert skip_of(made, "snaptime: odd").outcome is Outcome.SKIPPED
    assert vm(100) not in made.coverage.parents


def test_a_guest_without_snapshots_is_covered_so_that_its_last_one_can_go() -> None:
    made = of()
    assert made.coverage.parents == {vm(100), vm(101, "lxc")}
    assert not made.rows
    assert not made.skips


@pytest.mark.parametrize(("state", "word"), [("prepare", "making"), ("delete", "deleting")])
def test_work_that_was_broken_off_is_told_with_the_remedy(state: str, word: str) -> None:
    made = of(snapshot("half", snapstate=state), snapshot("half", 101, "lxc", snapstate=state))
    assert len(made.rows) == 2, "it is in Proxmox's list, and so it is in NetBox"
    assert any(f"{word} snapshot half" in note and "qm delsnapshot 100 half --force" in note for note in made.notes)
    assert any("pct unlock 101" in note for note in made.notes)


def test_a_clash_of_the_plugins_key_is_left_to_planner_and_writer() -> None:
    assert SNAPSHOT.clash_field == "node"
    assert SNAPSHOT.identity == ("virtual_machine", "name")


def test_the_order_of_rows_makes_no_difference() -> None:
    rows = [snapshot(name) for name in ("a", "b", "c")] + [snapshot("a", 101, "lxc")]
    assert told(of(*rows).rows) == told(of(*reversed(rows)).rows)
