"""Stage 6: backups on every storage."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proxbox_dagster.facts import UNOBSERVED, Gap, GapKind
from proxbox_dagster.netbox.spec import Desired, Outcome
from proxbox_dagster.scope import Scope
from proxbox_dagster.stages.backups import BACKUP, PROTECTED, STAGE
from proxbox_dagster.stages.stage import StageContext
from proxbox_dagster_tests.support.guest_data import (
    CONTEXT,
    ENDPOINT,
    built,
    fetched,
    gap,
    guest,
    one,
    skip_of,
    storage,
    told,
    vm,
)

TIME = 1_706_666_400  # 2024-01-31T02:00:00Z
VMA = "nas:backup/vzdump-qemu-100-2024_01_31-02_00_00.vma.zst"
TAR = "nas:backup/vzdump-lxc-101-2024_01_31-02_00_00.tar.zst"
PBS = "pbs:backup/vm/100/2024-01-31T02:00:00Z"
GUESTS = [guest(100), guest(101, "lxc")]
STORAGES = [
    {"storage": "nas", "type": "nfs", "content": "images, backup", "shared": True},
    {"storage": "pbs", "type": "pbs", "content": "backup", "shared": True},
    {"storage": "local", "type": "dir", "content": "iso,backup"},
    {"storage": "ceph", "type": "rbd", "content": "images"},
    {"storage": "off", "type": "dir", "content": "backup", "disable": True},
]


def backup(volid: str = VMA, **row: Any) -> dict[str, Any]:
    """A row of ``storage_content``."""
    base = {"storage": volid.partition(":")[0], "content": "backup", "ctime": TIME, "size": 1000}
    return {"volid": volid, "vmid": 100, "subtype": "qemu", "format": "vma.zst", **base, **row}


def of(*rows: dict[str, Any], gaps: tuple[Gap, ...] = (), context: StageContext = CONTEXT, **sources: Any) -> Desired:
    sources.setdefault("guests", fetched("guests", GUESTS))
    sources.setdefault("storage", fetched("storage", STORAGES))
    return built(STAGE, context, storage_content=fetched("storage_content", rows, gaps), **sources)["backups"]


def test_a_backup_field_by_field() -> None:
    values = (
        of(
            backup(
                PBS,
                format="pbs-vm",
                notes=" before the upgrade\n",
                protected=True,
                encrypted="ab:cd",
                used=900,
                verification={"state": "ok", "upid": "UPID:pbs:1"},
            )
        )
        .rows[0]
        .values
    )
    assert values == {
        "cf.proxmox_endpoint": ENDPOINT,
        "tags": {"proxbox"},
        "virtual_machine": vm(100),
        "volume_id": PBS,
        "storage": "pbs",
        "proxmox_storage": storage("pbs"),
        "subtype": "qemu",
        "format": "pbs-vm",
        "creation_time": TIME,
        "size": 1000,
        "used": 900,
        "notes": f"before the upgrade\n{PROTECTED}",
        "vmid": 100,
        "encrypted": "ab:cd",
        "verification_state": "ok",
        "verification_upid": "UPID:pbs:1",
    }
    assert set(values) == set(BACKUP.by_name)


def test_what_is_known_to_be_absent_is_cleared() -> None:
    values = of(backup()).rows[0].values
    assert [values[name] for name in ("used", "notes", "encrypted", "verification_state", "verification_upid")] == [
        None
    ] * 5


@pytest.mark.parametrize(
    ("suffix", "choice"),
    [
        ("vma.zst", "zst"),
        ("vma", "undefined"),
        ("vma.gz", "undefined"),
        ("vma.lzo", "undefined"),
        ("tar.zst", "tzst"),
        ("tar.gz", "tgz"),
        ("tgz", "tgz"),
        ("tar.bz2", "tbz"),
        ("tar", "tar"),
        ("tar.lzo", "undefined"),
    ],
)
def test_formats(suffix: str, choice: str) -> None:
    kind, vmid = ("lxc", 101) if suffix.startswith("t") else ("qemu", 100)
    volid = f"local:backup/vzdump-{kind}-{vmid}-2024_01_31-02_00_00.{suffix}"
    for told_format in (suffix, None):
        values = of(backup(volid, vmid=vmid, subtype=None, format=told_format)).rows[0].values
        assert (values["format"], values["subtype"]) == (choice, kind)


def test_pbs_formats_and_its_unknown_size() -> None:
    made = of(
        backup(PBS, format="pbs-vm", size=1),
        backup("pbs:backup/ct/101/2024-01-31T02:00:00Z", format="pbs-ct", vmid=101, subtype=None, ctime=None),
    )
    assert one(made, volume_id=PBS)["size"] is None
    container = one(made, vmid=101)
    assert (container["format"], container["subtype"]) == ("pbs-ct", "lxc")
    assert container["creation_time"].timestamp() == TIME, "the time of a PBS snapshot is in its name, in UTC"


def test_the_time_in_the_name_of_a_vzdump_file_is_local_and_so_no_source() -> None:
    assert of(backup(ctime=None)).rows[0].values["creation_time"] is None


def test_a_backup_of_a_guest_that_is_gone_is_skipped_and_its_row_stays() -> None:
    made = of(backup("nas:backup/vzdump-qemu-777-2024_01_31-02_00_00.vma.zst", vmid=777))
    skip = skip_of(made, "guest qemu/777 is not in the cluster any more")
    assert skip.outcome is Outcome.SKIPPED
    assert skip.key == (vm(777), "nas:backup/vzdump-qemu-777-2024_01_31-02_00_00.vma.zst")
    assert not made.rows


def test_a_backup_does_not_attach_to_a_guest_of_the_other_type() -> None:
    volid = "nas:backup/vzdump-qemu-101-2024_01_31-02_00_00.vma.zst"
    made = of(backup(volid, vmid=101))
    skip = skip_of(made, "now belongs to g101 (lxc/101)")
    assert skip.key == (vm(101), volid)
    assert not made.rows


def test_openvz_backups_are_of_containers() -> None:
    volid = "nas:backup/vzdump-openvz-101-2012_01_31-02_00_00.tgz"
    assert one(of(backup(volid, vmid=101, subtype="openvz")), subtype="lxc")["virtual_machine"] == vm(101, "lxc")


def test_files_that_proxmox_did_not_name() -> None:
    made = of(
        backup("nas:backup/my-own-copy.tar.zst", vmid=None, subtype=None, format="tar.zst"),
        backup("nas:backup/of-hundred.img", vmid=100, subtype=None, format="raw"),
    )
    assert skip_of(made, "my-own-copy").key is None
    known = one(made, vmid=100)
    assert (known["virtual_machine"], known["subtype"], known["format"]) == (vm(100), "undefined", "raw")


def test_equal_names_on_two_nodes_make_one_row_whatever_the_order() -> None:
    rows = [
        backup("local:backup/vzdump-qemu-100-2024_01_31-02_00_00.vma.zst", node=node, size=size)
        for node, size in (("pve2", 2), ("pve1", 1))
    ]
    for given in (rows, rows[::-1]):
        made = of(*given)
        assert [row.values["size"] for row in made.rows] == [1]
        assert "node pve2" in skip_of(made, "of the same name").reason


def test_each_storage_is_covered_by_itself() -> None:
    made = of(backup(), gaps=(gap("storage", "nas", GapKind.FAILED, "storage nas is active on no node"),))
    assert made.coverage.parents == {storage("pbs"), storage("local")}, "neither the failed nor the switched-off one"
    assert not made.coverage.everything
    assert BACKUP.parent == "proxmox_storage"
    assert skip_of(made, "active on no node").outcome is Outcome.FAILED
    assert len(made.rows) == 1, "what was read arrives all the same"


def test_one_node_that_fails_leaves_its_local_storage_uncovered() -> None:
    gaps = (gap("storage", "pve2/local", GapKind.FAILED), gap("storage", "local", GapKind.FAILED))
    made = of(gaps=gaps)
    assert made.coverage.parents == {storage("pbs"), storage("nas")}
    assert len(made.skips) == 1, "told once"


def test_a_storage_that_is_off_is_no_failure() -> None:
    made = of(gaps=(gap("storage", "off", GapKind.OFFLINE, "storage off is switched off"),))
    assert skip_of(made, "switched off").outcome is Outcome.SKIPPED


def test_only_backups_of_guests_in_sight_are_covered() -> None:
    hidden = (
        gap("guest", "qemu/100", GapKind.PERMISSION, "the token lacks VM.Backup on /vms/100"),
        gap("guest", "lxc/100", GapKind.PERMISSION, "the token lacks VM.Backup on /vms/100"),
    )
    made = of(gaps=hidden)
    assert dict(made.coverage.within)["virtual_machine"] == {vm(101, "lxc")}
    assert skip_of(made, "VM.Backup").outcome is Outcome.FAILED


def test_a_narrowed_run_covers_no_more_than_it_read() -> None:
    vmids = replace(CONTEXT, scope=Scope(vmids=frozenset({100})))
    made = of(backup(), context=vmids)
    assert not made.coverage.parents
    assert len(made.rows) == 1

    scope = replace(CONTEXT, scope=Scope(storages=frozenset({"nas"})))
    out = [gap("all", "", GapKind.OUT_OF_SCOPE, "the run is narrowed to storages nas")]
    made = of(
        backup(), backup(TAR, vmid=101, subtype="lxc"), context=scope, guests=fetched("guests", [], out),
        storage=fetched("storage", STORAGES[:1]),
    )  # fmt: skip
    assert {row.values["virtual_machine"] for row in made.rows} == {vm(100), vm(101, "lxc")}, "NetBox knows the guests"
    assert made.coverage.parents == {storage("nas")}


def test_cells_that_could_not_be_read_are_left_alone() -> None:
    values = of(backup(size=UNOBSERVED, notes=UNOBSERVED, encrypted=UNOBSERVED)).rows[0].values
    assert values["size"] is values["notes"] is values["encrypted"] is UNOBSERVED


def test_the_order_of_rows_makes_no_difference() -> None:
    rows = [backup(), backup(PBS, format="pbs-vm"), backup(TAR, vmid=101, subtype="lxc", format="tar.zst")]
    assert told(of(*rows).rows) == told(of(*reversed(rows)).rows)
