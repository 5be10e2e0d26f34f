"""Idempotency, identity and drift over all twelve stages, on the real NetBox. The numbers are the scenarios'."""

from __future__ import annotations

import re
from typing import Any

import pytest

from proxbox_dagster.stages import STAGES
from proxbox_dagster_tests.support.history import make_changes
from proxbox_dagster_tests.support.synced import VMS, Synced, X, errors

CLUSTERS = ("small", "twin")
SMALL = ("small",)


def last_updated(lab: Synced) -> dict[str, Any]:
    """Table to the newest ``last_updated`` and the number of rows, of all of NetBox and the plugin."""
    tables = lab.netbox.sql(
        "select table_name from information_schema.columns"
        " where column_name = 'last_updated' and table_schema = 'public' order by 1"
    )
    parts = [f"select '{name}', max(last_updated), count(*) from \"{name}\"" for (name,) in tables]
    return {name: (newest, rows) for name, newest, rows in lab.netbox.sql(" union all ".join(parts))}


def assert_nothing_written(lab: Synced) -> None:
    assert lab.written() == []
    assert lab.writing_requests() == []
    assert lab.changes() == []


# -- nothing changed ----------------------------------------------------------------------------------------------


def test_scenarios_1_7_an_empty_netbox_converges_and_the_second_run_writes_nothing(lab: Synced) -> None:
    for name, found in lab.first["endpoints"].items():
        assert {line["stage"] for line in found["stages"]} == {stage.name for stage in STAGES}, name
    created = {line["object_class"] for line in lab.first["endpoints"]["small"]["stages"] if line["created"]}
    assert created >= {"clusters", "devices", "storage", "virtual_machines", "virtual_disks", "task_history"}
    assert created >= {"backups", "snapshots", "interfaces", "node_addresses", "vm_interfaces", "vm_mac_addresses"}
    assert created >= {"vm_addresses", "replications", "backup_routines"}
    before = last_updated(lab)
    assert any(rows for _, rows in before.values())
    second = lab.run()
    assert_nothing_written(lab)
    assert last_updated(lab) == before
    for found in second["endpoints"].values():
        assert {line["stage"] for line in found["stages"]} == {stage.name for stage in STAGES}
        assert all(line["seen"] == line["unchanged"] + line["skipped"] for line in found["stages"])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_scenarios_3_4_volatile_values_and_other_valid_spellings_write_nothing(seed: int, lab: Synced) -> None:
    config = lab.clusters["small"].guest(100).config
    lab.clusters["small"].churn()
    lab.clusters["small"].respell(seed)
    config["agent"] = "1,fstrim_cloned_disks=1" if seed % 2 else "enabled=1"
    config["scsi1"] = config["scsi1"].replace("size=10G", "size=10240M")
    lab.run(endpoints=SMALL)
    assert_nothing_written(lab)
    assert not any(report.failed for report in lab.reports().values())


def values(lab: Synced) -> list[tuple[str, str, str]]:
    """The last run's changes as (field, before, after)."""
    return [(item.field, item.before, item.after) for report in lab.reports().values() for item in report.changes]


# -- one thing changed --------------------------------------------------------------------------------------------


def test_scenarios_5_46_one_field_is_one_patch_of_that_field_named_beforehand(lab: Synced) -> None:
    before = lab.vm(101)
    lab.clusters["small"].set_config("qemu", 101, "memory", 16384)
    lab.run(endpoints=SMALL, dry_run=True)
    planned, named = lab.changes(), values(lab)
    assert lab.written() == []
    assert lab.writing_requests() == []
    assert named == [("memory", "8192", "16384")]
    assert planned == [("virtual_machines", "db01 (qemu/101)", "update", "memory")]
    lab.run(endpoints=SMALL)
    assert (lab.changes(), values(lab)) == (planned, named)
    assert [(entry.object_id, entry.fields) for entry in lab.written()] == [(before["id"], {"memory": (8192, 16384)})]
    patches = [request for request in lab.writing_requests() if request[0] == "PATCH"]
    assert [path for _, path, _ in patches] == [f"/api/{VMS}/"]


def test_scenario_22_rename_keeps_the_row(lab: Synced) -> None:
    before = lab.vm(102)
    lab.clusters["small"].rename("qemu", 102, "golden-image")
    lab.run(endpoints=SMALL)
    after = lab.vm(102)
    assert (after["id"], after["name"]) == (before["id"], "golden-image")
    assert [(entry.action, entry.fields) for entry in lab.written()] == [
        ("update", {"name": ("image", "golden-image")}),
        ("update", {"proxmox_vm_name": ("image", "golden-image")}),
    ]
    assert sum(path == f"/api/{VMS}/" for method, path, _ in lab.writing_requests() if method == "PATCH") == 1


def test_scenario_23_migration_keeps_the_row(lab: Synced) -> None:
    before, nics = lab.vm(100), lab.rows("virtualization/interfaces", virtual_machine_id=lab.vm(100)["id"])
    lab.clusters["small"].migrate("qemu", 100, "pve2")
    lab.run(endpoints=SMALL)
    after = lab.vm(100)
    assert after["id"] == before["id"]
    assert (before["device"]["name"], after["device"]["name"]) == ("pve1", "pve2")
    assert lab.log.writes() == {
        ("virtualmachine", "update", "web01", frozenset({"device"})),
        (
            "proxboxvirtualmachinesyncstate",
            "update",
            "web01 Proxbox sync state",
            frozenset({"proxmox_node", "proxmox_node_name"}),
        ),
        # What lies on the node goes along: the bridge that each card is on, and the node that the plugin wants of a
        # snapshot.
        (
            "proxboxvminterfacesyncstate",
            "update",
            "net0 Proxbox sync state",
            frozenset({"proxbox_bridge", "proxbox_bridge_raw_id"}),
        ),
        (
            "proxboxvminterfacesyncstate",
            "update",
            "net1 Proxbox sync state",
            frozenset({"proxbox_bridge", "proxbox_bridge_raw_id"}),
        ),
        ("vmsnapshot", "update", "web01 - before", frozenset({"node"})),
        ("vmsnapshot", "update", "web01 - after", frozenset({"node"})),
    }
    assert {row["id"] for row in nics} == {
        row["id"] for row in lab.rows("virtualization/interfaces", virtual_machine_id=after["id"])
    }


def test_scenarios_2_25_equal_names_are_separate_records_and_no_order_of_lists_or_endpoints_writes(lab: Synced) -> None:
    machines = {row["id"]: row for row in lab.rows(VMS)}
    found = {
        (
            row["custom_fields"]["proxmox_endpoint"],
            row["custom_fields"]["proxmox_vm_type"],
            row["custom_fields"]["proxmox_vm_id"],
        ): row["name"]
        for row in machines.values()
    }
    assert len(found) == len(machines)
    assert (found["small", "qemu", 100], found["twin", "lxc", 100]) == ("web01", "web01")
    assert found["small", "qemu", 101] == found["twin", "qemu", 101] == "db01"
    assert found["twin", "qemu", 103] == "db01 (2)", "NetBox wants names to differ within a cluster"
    devices = lab.rows("dcim/devices", name="pve1")
    assert {row["custom_fields"]["proxmox_endpoint"] for row in devices} == {"small", "twin"}
    snapshots = lab.rows(f"{X}snapshots", name="before")
    assert {machines[row["virtual_machine"]["id"]]["custom_fields"]["proxmox_endpoint"] for row in snapshots} == {
        "small",
        "twin",
    }
    assert {row["name"] for row in lab.rows(f"{X}storage", name="nas")} == {"nas"}
    assert len(lab.rows(f"{X}storage", name="nas")) == 2
    for seed, order in enumerate((("twin", "small"), ("small", "twin"))):
        for cluster in lab.clusters.values():
            cluster.shuffle(seed)
        lab.run(endpoints=order)
        assert_nothing_written(lab)
    assert {row["id"] for row in lab.rows(VMS)} == set(machines)


# -- what could not be read ---------------------------------------------------------------------------------------


def test_scenario_11_an_offline_node_keeps_its_guests_and_the_others_stay_current(lab: Synced) -> None:
    cluster = lab.clusters["small"]
    assert cluster.guest(102).node == cluster.guest(200).node == "pve2"
    name = cluster.guest(102).name
    cluster.node_offline("pve2")
    cluster.set_config("qemu", 101, "description", "PostgreSQL")
    lab.run(endpoints=SMALL)
    assert lab.log.writes() == {
        ("device", "update", "pve2", frozenset({"status"})),
        ("proxmoxnode", "update", "pve2 (small)", frozenset({"online"})),
        ("virtualmachine", "update", "db01", frozenset({"description"})),
    }
    assert lab.vm(102)["name"] == name
    assert lab.reports()["small", "virtual_machines"].failed == 0
    assert lab.vm(200, "lxc")["primary_ip4"]["address"] == "198.51.100.53/26"
    cluster.node_online("pve2")
    lab.run(endpoints=SMALL)
    assert lab.log.writes() == {
        ("device", "update", "pve2", frozenset({"status"})),
        ("proxmoxnode", "update", "pve2 (small)", frozenset({"online"})),
    }


def test_scenarios_13_48_one_unreadable_guest_is_left_alone_and_the_run_is_not_green(lab: Synced) -> None:
    cluster = lab.clusters["small"]
    cluster.set_config("qemu", 101, "scsi0", "local-lvm:vm-101-disk-0,size=96G")
    cluster.set_config("qemu", 101, "net0", None)
    cluster.set_config("qemu", 100, "cores", 3)
    lab.simulators["small"].faults.add(r"/qemu/101/config", status=500, reason="got no answer")
    result = lab.watched(endpoints=SMALL)
    assert not result["ok"]
    assert {(entry.model, entry.label) for entry in lab.written()} == {("virtualization.virtualmachine", "web01")}
    failed = [item for report in lab.reports().values() for item in report.failures]
    assert failed
    assert all("101" in item.label for item in failed)
    assert any("db01" in line and "got no answer" in line for line in errors(result)), errors(result)
    assert not any(line["marked"] or line["deleted"] for line in result["endpoints"]["small"]["stages"])
    lab.simulators["small"].faults.clear()
    lab.run(endpoints=SMALL)
    assert ("virtualdisk", "update", "scsi0", frozenset({"size"})) in lab.log.writes()
    assert ("vminterface", "delete", "net0", frozenset()) in lab.log.writes()
    assert {entry.label for entry in lab.written() if entry.model == "virtualization.virtualmachine"} <= {"db01"}


@pytest.mark.parametrize(
    ("path", "fault", "expected"),
    [
        ("", {"status": 401}, "token"),
        ("", {"status": 500, "reason": "internal error"}, "500"),
        ("", {"kind": "drop"}, "dropped the connection"),
        ("cluster/resources", {"status": 500, "reason": "internal error"}, "500"),
        ("", {"kind": "tls"}, "certificate"),
    ],
    ids=["unauthorized", "error", "unreachable", "no-list-of-guests", "certificate"],
)
def test_scenario_8_a_cluster_out_of_reach_loses_nothing_and_the_other_completes(
    path: str, fault: dict[str, Any], expected: str, lab: Synced
) -> None:
    for endpoint in lab.settings["endpoints"]:
        endpoint["retry_budget"] = 0.5
    if fault.get("kind") == "tls":
        lab.settings["endpoints"][0]["verify_ssl"] = True
    else:
        lab.simulators["small"].faults.add(path, **fault)
    lab.save()
    twin = lab.clusters["twin"]
    memory = int(twin.guest(101).config["memory"]) + 512
    twin.set_config("qemu", 101, "memory", memory)
    result = lab.watched()
    assert not result["ok"]
    assert not result["endpoints"]["small"]["ok"]
    assert expected in " ".join(result["endpoints"]["small"]["errors"]).lower()
    assert result["endpoints"]["twin"]["ok"]
    assert [entry.fields for entry in lab.written()] == [{"memory": (memory - 512, memory)}]
    assert not any(line["marked"] or line["deleted"] for line in result["endpoints"]["small"]["stages"])


# -- accounting ---------------------------------------------------------------------------------------------------


def test_scenario_48_every_write_tells_its_run(lab: Synced) -> None:
    make_changes(lab)
    lab.run(endpoints=SMALL)
    rows = lab.netbox.sql("select message, request_id, action, object_repr from core_objectchange")
    told = re.compile(r"proxbox run [0-9a-f-]{36}")
    # What NetBox itself does along with a write (a deleted card takes its address along) stands beside it, untold.
    known = {request for message, request, _, _ in rows if told.fullmatch(message)}
    assert [row for row in rows if row[1] not in known] == []
    assert all(told.fullmatch(message) or message == "" for message, _, _, _ in rows)
    first = {f"proxbox run {found['run_id']}" for found in lab.first["endpoints"].values()}
    assert first <= {message for message, _, _, _ in rows}
