"""Who is who: numbers that are used again, guests that move, names that are taken. On the real NetBox."""

from __future__ import annotations

import copy
from typing import Any

from proxbox_dagster_tests.support.guests import new_guest
from proxbox_dagster_tests.support.synced import VMS, Synced, X, errors

CLUSTERS = ("small", "twin")
SMALL = ("small",)


def person(lab: Synced, row: dict[str, Any], **fields: Any) -> None:
    """Edit a virtual machine in NetBox as somebody would by hand."""
    client = lab.client()
    client.update(VMS, [{"id": row["id"], **fields}])
    client.close()


def under(lab: Synced, row_id: int) -> dict[str, list[str]]:
    """What NetBox has under a virtual machine, by path."""
    names = {
        "virtualization/virtual-disks": "name",
        "virtualization/interfaces": "name",
        "ipam/ip-addresses": "address",
        f"{X}snapshots": "name",
        f"{X}backups": "volume_id",
        f"{X}task-history": "upid",
    }
    found: dict[str, list[str]] = {}
    for path, name in names.items():
        rows = lab.rows(path, virtual_machine_id=row_id)
        if path.startswith(X):  # the plugin does not know the filter, and NetBox ignores it
            rows = [row for row in rows if row["virtual_machine"]["id"] == row_id]
        found[path] = sorted(row[name] for row in rows)
    return found


def test_a_reused_number_inherits_nothing(lab: Synced) -> None:
    """A machine and a container are deleted, and their numbers given to others between two runs."""
    cluster = lab.clusters["small"]
    old = {vmid: lab.vm(vmid, kind) for vmid, kind in ((100, "qemu"), (200, "lxc"))}
    had = {vmid: under(lab, row["id"]) for vmid, row in old.items()}
    for vmid, row in old.items():
        cluster.delete_guest(row["custom_fields"]["proxmox_vm_type"], vmid)
    cluster.add_guest(new_guest("qemu", 100, "fresh", 1))
    cluster.add_guest(new_guest("lxc", 200, "young", 2))
    lab.run(endpoints=SMALL)
    for vmid, kind, name in ((100, "qemu", "fresh"), (200, "lxc", "young")):
        row = lab.vm(vmid, kind)
        assert row["id"] != old[vmid]["id"]
        assert (row["name"], row["description"], row["primary_ip4"]) == (name, "", None)
        assert {tag["slug"] for tag in row["tags"]} == {"proxbox", f"proxbox-discovered-{kind}"}
        found = under(lab, row["id"])
        assert found["ipam/ip-addresses"] == found[f"{X}snapshots"] == []
        assert len(found["virtualization/virtual-disks"]) == len(found["virtualization/interfaces"]) == 1
        gone = lab.one(VMS, id=old[vmid]["id"])
        assert (gone["name"], gone["status"]["value"]) == (old[vmid]["name"], "decommissioning")
        assert gone["custom_fields"]["proxmox_vm_id"] is None
        assert under(lab, gone["id"]) == had[vmid], "what was the old guest's stays the old guest's"
    lab.run(endpoints=SMALL)
    assert lab.written() == []


def test_a_persons_serial_or_name_is_no_proof_of_another_guest(lab: Synced) -> None:
    row = lab.vm(101)
    person(lab, row, serial="INV-0042", name="billing")
    cluster = lab.clusters["small"]
    cluster.rename("qemu", 101, "db01-renamed")
    lab.run(endpoints=SMALL)
    after = lab.vm(101)
    assert (after["id"], after["serial"], after["name"]) == (row["id"], "INV-0042", "billing")


def test_a_guest_restored_under_another_number_is_new_and_gets_its_name(lab: Synced) -> None:
    """The old row gives the name up once its guest is proved gone, and takes it back with its guest."""
    cluster = lab.clusters["small"]
    old = lab.vm(102)
    guest = cluster.delete_guest("qemu", 102)
    restored = copy.deepcopy(guest)
    restored.vmid = 152
    cluster.add_guest(restored)
    lab.run(endpoints=SMALL)
    new = lab.vm(152)
    assert (new["id"] != old["id"], new["name"], new["serial"]) == (True, old["name"], old["serial"])
    gone = lab.one(VMS, id=old["id"])
    assert (gone["name"], gone["status"]["value"]) == (f"{old['name']} (missing {old['id']})", "decommissioning")
    lab.run(endpoints=SMALL)
    assert lab.written() == []
    cluster.delete_guest("qemu", 152)
    cluster.add_guest(guest)
    lab.run(endpoints=SMALL)
    back = lab.vm(102)
    assert (back["id"], back["name"], back["status"]["value"]) == (old["id"], old["name"], old["status"]["value"])


def test_a_number_that_goes_from_a_machine_to_a_container_is_another_guest(lab: Synced) -> None:
    cluster = lab.clusters["twin"]
    old = lab.vm(103, endpoint="twin")
    cluster.delete_guest("qemu", 103)
    cluster.add_guest(new_guest("lxc", 103, "db01", 3))
    lab.run(endpoints=("twin",))
    new = lab.vm(103, "lxc", endpoint="twin")
    assert new["id"] != old["id"]
    assert lab.vm(103, endpoint="twin")["status"]["value"] == "decommissioning"
    assert new["name"] == old["name"]


def test_a_guest_from_another_cluster_keeps_its_row_and_what_is_under_it(lab: Synced) -> None:
    """Once it is missing there. A copy of it, and two with its uuid, are new ones."""
    small, twin = lab.clusters["small"], lab.clusters["twin"]
    row = lab.vm(101)
    person(lab, row, comments="the accounts of 2025")
    had = under(lab, row["id"])
    moved = small.delete_guest("qemu", 101)
    lab.run(endpoints=SMALL)
    arrived = copy.deepcopy(moved)
    arrived.vmid, arrived.node, arrived.name = 777, "pve1", "db-main"
    arrived.config["scsi0"] = "nas:777/vm-777-disk-0.qcow2,size=64G"
    twin.add_guest(arrived)
    clone = copy.deepcopy(arrived)
    clone.vmid, clone.name, clone.agent = 778, "db-clone", None  # a clone that has not been started
    twin.add_guest(clone)
    [error] = errors(lab.watched(endpoints=("twin",), dry_run=True))
    assert "198.51.100.11" in error, "its address is another guest's, as far as one can know"
    assert "belongs to endpoint small" in error
    creates = {change[1] for change in lab.changes() if change[0] == "virtual_machines" and change[2] == "create"}
    assert creates == {"db-main (qemu/777)", "db-clone (qemu/778)"}, "two with one uuid: nobody knows which it is"
    twin.delete_guest("qemu", 778)
    lab.run(endpoints=("twin",))
    after = lab.vm(777, endpoint="twin")
    assert after["id"] == row["id"]
    assert (after["name"], after["comments"], after["status"]["value"]) == ("db-main", "the accounts of 2025", "active")
    assert after["cluster"]["name"] == "twin"
    assert "proxbox-missing" not in {tag["slug"] for tag in after["tags"]}
    assert after["custom_fields"]["proxbox_missing"] is None
    for path in (
        "virtualization/virtual-disks",
        "virtualization/interfaces",
        "ipam/ip-addresses",
        "dcim/mac-addresses",
    ):
        rows = lab.rows(path, virtual_machine_id=row["id"])
        assert {item["custom_fields"]["proxmox_endpoint"] for item in rows} == {"twin"}, path
    assert under(lab, row["id"])["virtualization/virtual-disks"] == had["virtualization/virtual-disks"]
    assert after["primary_ip4"]["address"] == row["primary_ip4"]["address"]
    lab.run()
    assert lab.written() == []


def test_a_node_that_is_new_under_an_old_name_and_one_that_was_replaced(lab: Synced) -> None:
    cluster = lab.clusters["small"]
    before = {name: lab.one("dcim/devices", name=name, cf_proxmox_endpoint="small") for name in ("pve1", "pve3")}
    with cluster.lock:
        node = cluster.nodes.pop("pve3")
        fresh = copy.deepcopy(node)
        fresh.name, fresh.ip = "pve4", "192.0.2.14"
        cluster.nodes["pve4"] = fresh
        cluster.nodes["pve1"].memory = 128 << 30  # the same name on other hardware
    lab.run(endpoints=SMALL)
    after = {name: lab.one("dcim/devices", name=name, cf_proxmox_endpoint="small") for name in ("pve1", "pve3", "pve4")}
    assert after["pve1"]["id"] == before["pve1"]["id"]
    assert (after["pve3"]["id"], after["pve3"]["status"]["value"]) == (before["pve3"]["id"], "decommissioning")
    assert after["pve4"]["id"] not in {row["id"] for row in before.values()}
    with cluster.lock:
        cluster.nodes.pop("pve4")
        cluster.nodes["pve3"] = node
    lab.run(endpoints=SMALL)
    back = lab.one("dcim/devices", name="pve3", cf_proxmox_endpoint="small")
    assert (back["id"], back["status"]["value"]) == (before["pve3"]["id"], "active")
    assert "proxbox-missing" not in {tag["slug"] for tag in back["tags"]}
