"""Stages 4 to 7, 11 and 12: whatever Proxmox says, a stage ends, with every object accounted for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxbox_dagster.facts import UNOBSERVED, Fetched, GapKind
from proxbox_dagster.proxmox.sources import SOURCES
from proxbox_dagster.stages import backup_routines, backups, replications, snapshots, task_history, virtual_disks
from proxbox_dagster.stages.stage import Stage
from proxbox_dagster_tests.support.guest_data import CONTEXT, fetched, gap
from proxbox_dagster_tests.support.sources import shuffled

STAGES: tuple[Stage, ...] = (
    virtual_disks.STAGE,
    task_history.STAGE,
    backups.STAGE,
    snapshots.STAGE,
    replications.STAGE,
    backup_routines.STAGE,
)

# -- whatever Proxmox says ------------------------------------------------------------------------------------------

TEXT = st.text(max_size=12) | st.sampled_from(
    [
        *("OK", "100", "100,101", "qmdestroy", "vzdump", "keep-last=3", "web", "nas"),
        "nas:backup/vzdump-qemu-100-2024_01_31-02_00_00.vma.zst",
        "pbs:backup/ct/101/2024-01-31T02:00:00Z",
        "UPID:pve1:000A1B2C:0123ABCD:65B9A1E0:qmstart:100:root@pam:",
    ]
)
DISKS = st.dictionaries(
    st.sampled_from(["scsi0", "ide2", "rootfs", "mp0", "efidisk0", "unused0", "name", "hostname"]),
    TEXT
    | st.sampled_from(["nas:100/vm-100-disk-0.raw,size=4G", "/dev/sdb,size=1T", "/srv,mp=/srv", "none,media=cdrom"]),
    max_size=4,
)
CELLS: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-1, 2**31) | st.sampled_from([100, 101]),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "bool": st.booleans(),
    "str": TEXT,
    "json": DISKS | TEXT | st.lists(TEXT, max_size=2) | st.integers(),
}
KEYS = {
    "guests": ("node", "type", "vmid"),
    "guest_configs": ("node", "type", "vmid", "config"),
    "guest_snapshots": ("node", "type", "vmid", "name"),
    "storage": ("storage",),
    "node_tasks": ("upid",),
    "storage_content": ("volid",),
    "replication_jobs": ("id",),
    "backup_jobs": ("id",),
}
"""Cells that a fetch never leaves empty."""


def cell(source: str, name: str, kind: str) -> st.SearchStrategy[Any]:
    if name == "type" and source in ("guests", "guest_configs", "guest_snapshots"):
        return st.sampled_from(["qemu", "lxc"])
    if name == "vmid" and source != "storage_content" and kind == "int":
        return st.sampled_from([100, 101, 102])
    if name == "config" or name == "raw":
        return DISKS
    if name in KEYS[source]:
        return CELLS[kind].filter(bool)
    return CELLS[kind] | st.none() | st.just(UNOBSERVED)


def a_read(source: str) -> st.SearchStrategy[Fetched]:
    row = st.fixed_dictionaries(
        {column.name: cell(source, column.name, column.type) for column in SOURCES[source].columns}
    )
    gaps = st.lists(
        st.builds(
            gap,
            st.sampled_from(["all", "guest", "node", "storage"]),
            st.sampled_from(["", "qemu/100", "lxc/101", "pve1", "nas"]),
            st.sampled_from(list(GapKind)),
        ),
        max_size=2,
    )

    def unique(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        names = ("vmid",) if source in ("guests", "guest_configs") else KEYS[source]
        return list({tuple(row[name] for name in names): row for row in rows}.values())

    return st.builds(lambda rows, gaps: fetched(source, unique(rows), gaps), st.lists(row, max_size=3), gaps)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_no_answer_of_proxmox_stops_a_stage(stage: Stage, data: st.DataObject) -> None:
    inputs = {source: data.draw(a_read(source), label=source) for source in stage.sources}
    made = stage.build(inputs, CONTEXT)
    again = stage.build(shuffled(inputs, 1), CONTEXT)
    assert [item.object_class.name for item in made] == [item.name for item in stage.object_classes]
    for desired, other in zip(made, again, strict=True):
        spec = desired.object_class.spec
        keys = [tuple(row.values[name] for name in spec.identity) for row in desired.rows]
        assert len(set(keys)) == len(keys), "no row twice"
        assert not set(keys) & {skip.key for skip in desired.skips}, "what is written is not skipped"
        assert all(set(row.values) <= set(spec.by_name) for row in desired.rows)
        assert all(skip.label and skip.reason for skip in desired.skips)
        assert sorted(map(str, keys)) == sorted(
            str(tuple(row.values[name] for name in spec.identity)) for row in other.rows
        )
