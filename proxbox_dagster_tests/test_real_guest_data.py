"""Stages 4 to 7, 11 and 12 on a real NetBox: what it holds is what the simulated clusters are, field by field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxbox_dagster.demo.proxmox import load_cluster
from proxbox_dagster_tests.support.expect_guest_data import Expectation, GuestKey, Rows
from proxbox_dagster_tests.support.lab import Lab

X = "plugins/proxbox/"
CLASSES = {"virtual_disks", "disk_sync_states", "task_history", "backups", "snapshots", "replications"}
CLASSES |= {"backup_routines"}


class Held:
    """What NetBox holds of one endpoint, in the terms of :class:`Expectation`."""

    def __init__(self, lab: Lab, endpoint: str) -> None:
        self.lab, self.endpoint = lab, endpoint
        self.guests: dict[int, GuestKey] = {}
        for row in self._rows("virtualization/virtual-machines"):
            custom = row["custom_fields"]
            self.guests[row["id"]] = (custom["proxmox_vm_type"], custom["proxmox_vm_id"])

    def _rows(self, path: str) -> list[dict[str, Any]]:
        return self.lab.rows(path, cf_proxmox_endpoint=self.endpoint)

    def has(self, kind: str, vmid: int) -> bool:
        return (kind, vmid) in self.guests.values()

    def _guest(self, row: dict[str, Any]) -> GuestKey:
        return self.guests[row["virtual_machine"]["id"]]

    def rows(self, path: str, key: Any, expected: Rows) -> Rows:
        """The rows with the fields that are expected; choices as values, references by name."""
        fields = list(next(iter(expected.values()), {}))
        made: Rows = {}
        for row in self._rows(path):
            made[key(row)] = {name: self._guest(row) if name == "guest" else _plain(row[name]) for name in fields}
        return made

    def disks(self) -> Rows:
        storages = {
            row["virtual_disk"]["id"]: (row["proxbox_storage"], row["proxbox_storage_raw_value"])
            for row in self._rows(f"{X}sync-state/virtual-disks")
        }
        made: Rows = {}
        for row in self._rows("virtualization/virtual-disks"):
            storage, name = storages[row["id"]]
            assert (storage or {}).get("name", "") == name
            made[self._guest(row), row["name"]] = {"size": row["size"], "storage": name or None}
        return made


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return value["value"] if "value" in value else value.get("name", value)
    return value or None if isinstance(value, str) else value


def differences(found: Rows, wanted: Rows) -> dict[Any, Any]:
    """By key what differs: fields as (found, wanted), or the whole row on the side that has it."""
    made: dict[Any, Any] = {}
    for key in found.keys() | wanted.keys():
        one, other = found.get(key), wanted.get(key)
        if one is None or other is None:
            made[key] = (one, other)
        elif fields := {name: (one[name], other[name]) for name in other if one[name] != other[name]}:
            made[key] = fields
    return made


def assert_held(lab: Lab, endpoint: str) -> None:
    held = Held(lab, endpoint)
    expected = Expectation(lab.clusters[endpoint], held.has)
    assert held.guests
    assert differences(held.disks(), expected.disks()) == {}
    for path, key, wanted in (
        ("task-history", lambda row: row["upid"], expected.tasks()),
        ("backups", lambda row: row["volume_id"], expected.backups()),
        ("snapshots", lambda row: (held._guest(row), row["name"]), expected.snapshots()),
        ("replications", lambda row: row["replication_id"], expected.replications()),
        ("backup-routines", lambda row: row["job_id"], expected.routines()),
    ):
        assert differences(held.rows(X + path, key, wanted), wanted) == {}, path


@pytest.mark.parametrize("name", ["odd", "ams1"])
def test_netbox_holds_what_the_cluster_is_and_a_second_run_writes_nothing(
    name: str, netbox: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Lab(netbox, tmp_path, monkeypatch, **{name: load_cluster(name)}) as lab:
        first = lab.sync()
        written = {line["object_class"] for line in first["endpoints"][name]["stages"]}
        assert written >= CLASSES, first["endpoints"][name]["errors"]
        assert not [failed for failed in lab.reports().items() if failed[0][1] in CLASSES and failed[1].failed]
        assert_held(lab, name)
        cluster = lab.clusters[name]
        cluster.shuffle(7)
        cluster.respell(3)
        cluster.churn()
        lab.sync()
        assert [change for change in lab.changes() if change[0] in CLASSES] == []
