"""Staged removal, its brake, and what is let go of. On the real NetBox; the numbers are the scenarios'."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from proxbox_dagster import run as runs
from proxbox_dagster import stages
from proxbox_dagster.assembly import build_definitions
from proxbox_dagster.cli import app
from proxbox_dagster.demo.proxmox import Cluster
from proxbox_dagster.jobs import FULL_UPDATE
from proxbox_dagster.settings import load_settings
from proxbox_dagster_tests.support.synced import VMS, Synced, X, errors, synced

CLUSTERS = ("small",)
START = datetime(2026, 5, 1, 12, tzinfo=UTC)
DISKS = "virtualization/virtual-disks"
GUESTS = ("virtual_machines",)


class Clock:
    """The clock of marks and grace periods."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = START
        monkeypatch.setattr(runs, "now", lambda: self.now)

    def pass_days(self, days: float) -> None:
        self.now += timedelta(days=days)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def counted(lab: Synced, object_class: str) -> tuple[int, int]:
    """Marked and deleted of a class in the last run."""
    report = lab.reports()["small", object_class]
    return report.marked, report.deleted


def children(lab: Synced, row_id: int) -> dict[str, set[int]]:
    core = (DISKS, "virtualization/interfaces", "ipam/ip-addresses")
    found = {path: {row["id"] for row in lab.rows(path, virtual_machine_id=row_id)} for path in core}
    for path in (f"{X}snapshots", f"{X}backups"):
        found[path] = {row["id"] for row in lab.rows(path) if row["virtual_machine"]["id"] == row_id}
    return found


def slugs(row: dict[str, Any]) -> set[str]:
    return {tag["slug"] for tag in row["tags"]}


# -- a guest that is really gone ----------------------------------------------------------------------------------


def test_scenario_17_a_deleted_guest_is_marked_and_comes_back_without_loss(lab: Synced, clock: Clock) -> None:
    cluster, before = lab.clusters["small"], lab.vm(100)
    under = children(lab, before["id"])
    assert all(under.values())
    guest = cluster.delete_guest("qemu", 100)
    lab.run()
    assert counted(lab, "virtual_machines") == (1, 0)
    row = lab.vm(100)
    assert (row["id"], row["status"]["value"]) == (before["id"], "decommissioning")
    assert slugs(row) == slugs(before) | {"proxbox-missing"}
    assert row["custom_fields"]["proxbox_missing"] == {
        "since": "2026-05-01T12:00:00+00:00",
        "confirmed": 1,
        "status": "active",
    }
    assert children(lab, row["id"]) == under
    for _ in range(2):  # by default nothing more happens, however long it takes
        clock.pass_days(100)
        lab.run()
        assert lab.written() == []
    cluster.add_guest(guest)
    cluster.set_pool(100, "front")
    lab.run()
    row = lab.vm(100)
    assert (row["id"], row["status"]["value"], slugs(row)) == (before["id"], "active", slugs(before))
    assert row["custom_fields"]["proxbox_missing"] is None
    assert children(lab, row["id"]) == under
    lab.run()
    assert lab.written() == []


def test_scenario_17_it_is_deleted_after_the_grace_period_and_enough_complete_reads(lab: Synced, clock: Clock) -> None:
    cluster, simulator = lab.clusters["small"], lab.simulators["small"]
    lab.change(removal={"classes": {"virtual_machines": "delete"}, "grace_days": 5, "confirmations": 3})
    row_id = lab.vm(102)["id"]

    def confirmed() -> int:
        return int(lab.vm(102)["custom_fields"]["proxbox_missing"]["confirmed"])

    cluster.delete_guest("qemu", 102)
    lab.run()
    assert confirmed() == 1
    clock.pass_days(6)
    lab.run(stages=GUESTS)
    assert (confirmed(), counted(lab, "virtual_machines")) == (2, (0, 0))
    simulator.faults.add(r"^/cluster/resources", status=500)  # a read that failed
    assert not lab.watched(stages=GUESTS)["ok"]
    simulator.faults.clear()
    cluster.node_offline("pve3")  # and two that were not complete
    lab.run(stages=GUESTS)
    cluster.node_online("pve3")
    cluster.quorum_lost()
    lab.watched(stages=GUESTS)
    cluster.quorum_restored()
    assert confirmed() == 2, "neither counts"
    lab.run(stages=GUESTS)
    assert confirmed() == 3
    clock.now = START + timedelta(days=4)
    lab.run(stages=GUESTS)
    assert lab.written() == [], "three reads agree, the grace period is not over"
    clock.pass_days(2)
    # What a person made under it keeps the guest, whatever the clock says.
    client = lab.client()
    [disk] = client.create(DISKS, [{"virtual_machine": row_id, "name": "theirs", "size": 1}])
    lab.run(stages=GUESTS)
    assert counted(lab, "virtual_machines") == (0, 0)
    assert any(
        "'theirs' under it, which is not ours" in line for line in lab.reports()["small", "virtual_machines"].kept
    )
    client.delete(DISKS, [disk["id"]])
    [entry] = client.create(
        "extras/journal-entries",
        [{"assigned_object_type": "virtualization.virtualmachine", "assigned_object_id": row_id, "comments": "do not"}],
    )
    lab.run(stages=GUESTS)
    assert counted(lab, "virtual_machines") == (0, 0)
    client.delete("extras/journal-entries", [entry["id"]])
    client.update(VMS, [{"id": row_id, "tags": [{"slug": slug} for slug in {*slugs(lab.vm(102)), "proxbox-keep"}]}])
    lab.run(stages=GUESTS)
    assert counted(lab, "virtual_machines") == (0, 0)
    client.update(VMS, [{"id": row_id, "tags": [{"slug": slug} for slug in slugs(lab.vm(102)) - {"proxbox-keep"}]}])
    client.close()
    lab.run(dry_run=True, stages=GUESTS)
    assert [change for change in lab.changes() if change[2] == "delete"] == [
        ("virtual_machines", f"image (id {row_id})", "delete", "—")
    ]
    lab.run()
    assert counted(lab, "virtual_machines") == (0, 1)
    assert lab.rows(VMS, id=row_id) == []
    lab.run()
    assert lab.written() == []


# -- the brake ----------------------------------------------------------------------------------------------------


def thin_out(cluster: Cluster) -> None:
    """Everything goes that is a list under a guest."""
    cluster.backups.clear()
    for guest in cluster.guests.values():
        guest.snapshots.clear()
        for key in [key for key in guest.config if key.startswith(("scsi", "net", "rootfs"))]:
            guest.config.pop(key)


@pytest.mark.parametrize(
    ("stage", "object_class"),
    [
        ("virtual-disks", "virtual_disks"),
        ("backups", "backups"),
        ("snapshots", "snapshots"),
        ("vm-interfaces", "vm_interfaces"),
    ],
)
def test_scenario_16_too_many_removals_of_a_class_are_blocked_until_one_run_says_so(
    stage: str, object_class: str, lab: Synced
) -> None:
    lab.change(brake={"percent": 10, "objects": 25, "minimum": 0})
    thin_out(lab.clusters["small"])
    order = ["sync", "--stage", stage, "--json"]
    lab.log.forget()
    stopped = CliRunner().invoke(app, order)
    assert stopped.exit_code == 1
    [line] = [line for line in json.loads(stopped.stdout)["endpoints"]["small"]["errors"] if "brake" in line]
    assert f"{object_class} would be removed (100 %), more than the brake allows (10 % or 25)" in line
    assert "run once with override_brake (proxbox-dagster sync --override-brake)" in line
    assert [entry for entry in lab.written() if entry.action == "delete"] == []
    let_go = CliRunner().invoke(app, [*order, "--override-brake"])
    assert let_go.exit_code == 0, let_go.output
    [found] = [
        found
        for found in json.loads(let_go.stdout)["endpoints"]["small"]["stages"]
        if found["object_class"] == object_class
    ]
    assert found["deleted"] > 1


def test_scenario_19_a_card_whose_address_people_wrote_about_stays(lab: Synced) -> None:
    """NetBox deletes a card's addresses with it, and with them what hangs on them."""
    card = lab.one("virtualization/interfaces", virtual_machine_id=lab.vm(100)["id"], name="net0")
    address = lab.one("ipam/ip-addresses", address="198.51.100.10/26")
    client = lab.client()
    about = {"assigned_object_type": "ipam.ipaddress", "assigned_object_id": address["id"], "comments": "the shop's"}
    [note] = client.create("extras/journal-entries", [about])
    lab.clusters["small"].set_config("qemu", 100, "net0", None)
    result = lab.run()
    said = [line for line in result["endpoints"]["small"]["warnings"] if line.startswith("vm_interfaces: kept: net0")]
    assert "NetBox has journal-entries" in said[0]
    assert lab.one("extras/journal-entries", id=note["id"])["comments"] == "the shop's"
    assert lab.one("virtualization/interfaces", id=card["id"])["name"] == "net0"
    client.delete("extras/journal-entries", [note["id"]])
    client.close()
    lab.run()
    assert lab.rows("virtualization/interfaces", id=card["id"]) == []


def test_scenario_16_a_list_that_turns_over_is_not_braked(lab: Synced) -> None:
    """Each night a backup of every guest comes and one goes: that is no loss."""
    cluster = lab.clusters["small"]
    lab.change(brake={"percent": 10, "objects": 25, "minimum": 0})
    config = cluster.guest(100).config
    for old, new in (("scsi0", "virtio0"), ("scsi1", "virtio1")):
        config[new] = config.pop(old)
    lab.run(stages=("virtual_disks",))
    assert counted(lab, "virtual_disks") == (0, 2)


def test_scenario_16_guests_and_the_deletion_of_marked_ones_are_braked_too(lab: Synced, clock: Clock) -> None:
    """The brake holds when rows are marked, and again when the marked ones would be deleted."""
    cluster = lab.clusters["small"]
    lab.change(removal={"default": "delete", "grace_days": 1, "confirmations": 1}, brake={"minimum": 1})
    for kind, vmid in (("qemu", 101), ("qemu", 102)):
        cluster.delete_guest(kind, vmid)
    result = lab.watched(stages=("virtual_machines",))
    assert "2 of 4 virtual_machines would be removed (50 %)" in " ".join(errors(result))
    assert lab.written() == []
    lab.run(stages=("virtual_machines",), override_brake=True)
    assert counted(lab, "virtual_machines") == (2, 0)
    clock.pass_days(2)
    result = lab.watched(stages=("virtual_machines",))
    assert "2 of 4 virtual_machines would be removed (50 %)" in " ".join(errors(result))
    assert lab.written() == []
    lab.run(stages=("virtual_machines",), override_brake=True)
    assert counted(lab, "virtual_machines") == (0, 2)


# -- what is let go of --------------------------------------------------------------------------------------------


def test_scenario_21_what_leaves_the_settings_or_the_scope_is_kept_and_purge_finds_it(lab: Synced) -> None:
    addresses = {row["address"] for row in lab.rows("ipam/ip-addresses")}
    assert "2001:db8:5a::10/64" in addresses
    lab.change(addresses={"ignore_networks": ["2001:db8:5a::10/128"]})
    lab.run()
    assert lab.written() == []
    [told] = [line for report in lab.reports().values() for line in report.notes if "2001:db8:5a::10" in line]
    assert "the settings leave 2001:db8:5a::10 out (addresses.ignore_networks)" in told
    assert {row["address"] for row in lab.rows("ipam/ip-addresses")} == addresses
    for scope in ({"nodes": ["pve2"]}, {"storages": ["nas"]}, {"vmids": [101]}):
        if "nodes" in scope:
            lab.clusters["small"].delete_guest("qemu", 102)
        narrowed(lab, **scope)
        assert [entry for entry in lab.written() if "cf.proxbox_missing" in entry.fields] == [], scope
        assert [entry for entry in lab.written() if entry.action == "delete"] == [], scope


def narrowed(lab: Synced, **scope: Any) -> None:
    """A run of the whole job, narrowed as in the launchpad."""
    definitions = build_definitions(load_settings())
    lab.log.forget()
    with dg.DagsterInstance.ephemeral() as instance:
        definitions.resolve_job_def(FULL_UPDATE).execute_in_process(
            instance=instance,
            partition_key="small",
            run_config={
                "resources": {"proxbox": {"config": scope}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            raise_on_error=False,
        )


def test_a_run_narrowed_to_a_guest_that_is_not_there_says_so_and_removes_nothing(lab: Synced) -> None:
    lab.clusters["small"].delete_guest("qemu", 102)
    result = lab.watched(vmids=(102,))
    assert not result["ok"]
    assert "endpoint small has no guest of that number" in " ".join(errors(result))
    assert lab.written() == []


# -- every class --------------------------------------------------------------------------------------------------

SOURCE = ("guests", "pools", "storages", "pool_by_guest", "nodes", "backups", "backup_jobs", "replication")
"""What goes and comes back of a cluster."""

REMOVABLE = {
    item.name: item.spec
    for item in stages.object_classes()
    if item.spec.removable and item.name != "vm_interface_sync_states"  # goes with its interface, by NetBox's own doing
}


HARDWARE = "\thwaddress BC:24:11:5A:0F:01"
"""How a node's configuration sets the MAC address of an interface."""


def take_apart(cluster: Cluster) -> None:
    """Something of every class that can go goes."""
    del cluster.nodes["pve3"]
    del cluster.storages["local-lvm"]
    vlan = next(item for item in cluster.nodes["pve1"].network if item["iface"] == "vmbr0.20")
    cluster.nodes["pve1"].network.remove(vlan)
    cluster.nodes["pve1"].network[1].pop("options")
    for key in ("cidr", "address", "netmask"):
        cluster.nodes["pve2"].network[1].pop(key, None)
    cluster.delete_guest("qemu", 102)
    cluster.set_config("qemu", 100, "scsi1", None)
    cluster.set_config("qemu", 100, "net1", "virtio=BC:24:11:5A:01:0F,bridge=vmbr0,trunks=20;30")
    cluster.set_config("qemu", 101, "net1", None)
    cluster.guest(100).agent.interfaces[1]["ip-addresses"].pop()
    cluster.remove_snapshot("qemu", 100, "after")
    cluster.backups["nas"].pop(0)
    cluster.remove_replication("101-0")
    cluster.remove_backup_job("backup-db")


def ids(lab: Synced) -> dict[str, set[int]]:
    """The rows of each class that can be removed."""
    return {
        name: {row["id"] for row in lab.rows(spec.path, cf_proxmox_endpoint="small")}
        for name, spec in REMOVABLE.items()
    }


def lacking(lab: Synced, before: dict[str, set[int]]) -> set[str]:
    """The classes of which a row is not there any more."""
    return {name for name, now in ids(lab).items() if before[name] - now}


def status(row: dict[str, Any]) -> str | None:
    found = row.get("status")
    return found["value"] if isinstance(found, dict) else found


def told(lab: Synced, what: str) -> set[str]:
    """The classes of which the last run marked, or deleted, something."""
    return {name for (_, name), report in lab.reports().items() if getattr(report, what)}


def test_scenario_17_every_class_is_ignored_marked_cleared_and_deleted(lab: Synced, clock: Clock) -> None:
    cluster = lab.clusters["small"]
    cluster.set_config("qemu", 101, "net1", "virtio=BC:24:11:5A:01:1F,bridge=vmbr0")
    cluster.nodes["pve1"].network[1]["options"] = f"{HARDWARE}\n"
    lab.run(override_brake=True)
    before, whole = ids(lab), copy.deepcopy({name: getattr(cluster, name) for name in SOURCE})
    take_apart(cluster)

    lab.change(removal={"default": "ignore"})
    lab.run(dry_run=True)
    assert told(lab, "marked") | told(lab, "deleted") == set()

    lab.change(removal={"classes": dict.fromkeys(REMOVABLE, "mark")})
    lab.run(override_brake=True)
    assert (told(lab, "marked"), told(lab, "deleted")) == (set(REMOVABLE), set())
    assert lacking(lab, before) == set()
    for name, spec in REMOVABLE.items():
        marked = lab.rows(spec.path, cf_proxmox_endpoint="small", tag="proxbox-missing")
        assert marked, name
        for row in marked:
            assert row["custom_fields"]["proxbox_missing"]["since"] == START.isoformat(), name
            assert spec.missing_status in (None, status(row)), name

    vars(cluster).update(copy.deepcopy(whole))
    lab.run(override_brake=True)
    assert lacking(lab, before) == set()
    for name, spec in REMOVABLE.items():
        for row in lab.rows(spec.path, id=sorted(before[name])):
            assert "proxbox-missing" not in slugs(row), name
            assert row["custom_fields"]["proxbox_missing"] is None, name
            assert spec.missing_status is None or status(row) != spec.missing_status, name

    take_apart(cluster)
    lab.change(removal={"default": "delete", "grace_days": 2, "confirmations": 1})
    lab.run(override_brake=True)
    at_once = {name for name, spec in REMOVABLE.items() if spec.removal == "delete"}
    assert (told(lab, "marked"), told(lab, "deleted")) == (set(REMOVABLE) - at_once, at_once)
    clock.pass_days(3)
    lab.run(override_brake=True)
    assert told(lab, "deleted") >= set(REMOVABLE) - at_once
    assert lacking(lab, before) == set(REMOVABLE)


def test_scenarios_21_52_purge_works_for_an_endpoint_that_left_the_settings(
    netbox_server: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with synced(netbox_server, tmp_path_factory.mktemp("purge"), "small", "twin") as lab:
        lab.change(endpoints=[item for item in lab.settings["endpoints"] if item["name"] == "small"])
        ours = {row["id"] for row in lab.rows(VMS, cf_proxmox_endpoint="small")}
        lab.run()
        assert lab.written() == []
        nobody = CliRunner().invoke(app, ["purge", "--endpoint", "nobody"])
        assert "nothing in NetBox belongs to endpoint nobody" in " ".join(nobody.output.split())
        listed = CliRunner().invoke(app, ["purge", "--endpoint", "twin"])
        assert listed.exit_code == 0, listed.output
        assert "db01" in listed.output
        assert lab.written() == []
        done = CliRunner().invoke(app, ["purge", "--endpoint", "twin", "--yes"])
        assert done.exit_code == 0, done.output
        assert lab.rows(VMS, cf_proxmox_endpoint="twin") == []
        assert {row["id"] for row in lab.rows(VMS)} == ours
        lab.run()
        assert lab.written() == []
