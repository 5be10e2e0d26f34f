"""What people made or changed in NetBox stays theirs, in every kind of run. On the real NetBox."""

from __future__ import annotations

import random
from typing import Any

import pytest

from proxbox_dagster_tests.support.synced import VMS, Synced, errors

CLUSTERS = ("small",)
MEMORY = "proxbox_last_written"


def warnings(result: dict[str, Any]) -> list[str]:
    return [line for found in result["endpoints"].values() for line in found["warnings"]]


def edit(lab: Synced, path: str, row_id: int, **values: Any) -> None:
    """What a person does in NetBox."""
    client = lab.client()
    client.update(path, [{"id": row_id, **values}])
    client.close()


def made(lab: Synced, path: str, **values: Any) -> int:
    client = lab.client()
    [row] = client.create(path, [values])
    client.close()
    return int(row["id"])


# -- 36: edits ----------------------------------------------------------------------------------------------------


def test_scenario_36_a_persons_edits_survive_every_kind_of_run(lab: Synced) -> None:
    cluster = lab.clusters["small"]
    vm, device = lab.vm(100), lab.one("dcim/devices", name="pve1")
    site = made(lab, "dcim/sites", name="Amsterdam", slug="amsterdam")
    edit(lab, "virtualization/clusters", lab.one("virtualization/clusters")["id"], scope_type=None, scope_id=None)
    role = made(lab, "dcim/device-roles", name="Database", slug="database", vm_role=True)
    tenant = made(lab, "tenancy/tenants", name="Web team", slug="web-team")
    platform = made(lab, "dcim/platforms", name="Hardened Linux", slug="hardened-linux")
    tag = made(lab, "extras/tags", name="theirs", slug="theirs")
    nic = lab.one("virtualization/interfaces", virtual_machine_id=vm["id"], name="net0")["id"]
    address = made(
        lab,
        "ipam/ip-addresses",
        address="203.0.113.77/24",
        assigned_object_type="virtualization.vminterface",
        assigned_object_id=nic,
    )
    tags = [{"slug": item["slug"]} for item in vm["tags"] if item["slug"] != "web"] + [{"id": tag}]
    edits: dict[str, Any] = {
        "name": "web-frontend",
        "role": role,
        "site": site,
        "tenant": tenant,
        "platform": platform,
        "description": "Do not touch before Monday",
        "comments": "the web team's",
        "primary_ip4": address,
        "tags": tags,
    }
    of_device = {
        "name": "rack7-u12",
        "site": site,
        "status": "staged",
        "tenant": tenant,
        "description": "next to the door",
    }
    edit(lab, "dcim/devices", device["id"], **of_device)  # first: a machine is where its node is
    edit(lab, VMS, vm["id"], **edits)
    # NetBox would take no change of an interface any more whose VLAN is of the site that its machine has left.
    lab.run()
    assert {entry.model for entry in lab.written()} <= {"ipam.vlan", "dcim.interface", "virtualization.vminterface"}
    before = (lab.vm(100), lab.one("dcim/devices", id=device["id"]))

    kinds: list[dict[str, Any]] = [
        {},
        {"stages": ("virtual_machines",)},
        {"vmids": (100,)},
        {"stages": ("virtual_machines", "vm_interfaces", "vm_ip_addresses")},
        {"stages": ("devices", "node_interfaces")},
    ]
    for order in kinds:
        result = lab.run(**order)
        assert lab.written() == [], order
        if "virtual_machines" in order.get("stages", ("virtual_machines",)):
            said = "\n".join(warnings(result))
            for field in ("name", "role", "platform", "description", "comments"):
                assert f"{field} was changed by hand and is kept" in said, (order, field)
    assert (lab.vm(100), lab.one("dcim/devices", id=device["id"])) == before

    # The source changes the same fields: still kept, and told with both values.
    cluster.rename("qemu", 100, "web02")
    cluster.set_config("qemu", 100, "description", "Moved to the new stack")
    result = lab.run(vmids=(100,))
    assert {entry.model for entry in lab.written()} == {"netbox_proxbox.proxboxvirtualmachinesyncstate"}
    said = "\n".join(warnings(result))
    assert "name was changed by hand and is kept: NetBox has web-frontend, Proxmox web02" in said
    assert "NetBox has Do not touch before Monday, Proxmox Moved to the new stack" in said
    [report] = [report for (_, name), report in lab.reports().items() if name == "virtual_machines"]
    assert {(item.field, item.netbox, item.proxmox) for item in report.conflicts} >= {("name", "web-frontend", "web02")}

    # A person takes the edit back, to our value of then or to that of now: both let ours in again.
    edit(lab, VMS, vm["id"], name="web01", description="Moved to the new stack", comments="", role=vm["role"]["id"])
    lab.run()
    assert (lab.vm(100)["name"], lab.vm(100)["tenant"]["slug"]) == ("web02", "web-team")
    cluster.rename("qemu", 100, "web01")
    cluster.set_config("qemu", 100, "description", "Web server\n\nasked for by the web team")
    lab.run()
    row = lab.vm(100)
    assert (row["name"], row["description"]) == ("web01", "Web server")
    assert row["primary_ip4"]["address"] == "203.0.113.77/24"
    assert "web" not in {item["slug"] for item in row["tags"]}, "what a person took off stays off"
    assert "theirs" in {item["slug"] for item in row["tags"]}
    lab.run()
    assert lab.written() == []


def sites_of_vlans(lab: Synced) -> dict[str, set[str]]:
    """The sites of the VLANs under each device and virtual machine of ours."""
    sites = {row["id"]: row["site"]["slug"] for row in lab.rows("ipam/vlans")}
    found: dict[str, set[str]] = {}
    for path, machine in (("dcim/interfaces", "device"), ("virtualization/interfaces", "virtual_machine")):
        for row in lab.rows(path, cf_proxmox_endpoint="small"):
            vlans = [*row["tagged_vlans"], *([row["untagged_vlan"]] if row["untagged_vlan"] else [])]
            found.setdefault(row[machine]["name"], set()).update(sites[vlan["id"]] for vlan in vlans)
    return {name: slugs for name, slugs in found.items() if slugs}


def test_a_cluster_that_people_moved_to_another_site_is_synced_there_under_any_name(lab: Synced) -> None:
    cluster = lab.clusters["small"]
    row = lab.one("virtualization/clusters")
    site = made(lab, "dcim/sites", name="Rotterdam", slug="rotterdam")
    sites = len(lab.rows("dcim/sites"))
    edit(lab, "virtualization/clusters", row["id"], scope_type=None, scope_id=None)
    for device in lab.rows("dcim/devices", cf_proxmox_endpoint="small"):
        edit(lab, "dcim/devices", device["id"], site=site)
    edit(lab, "virtualization/clusters", row["id"], scope_type="dcim.site", scope_id=site)
    cluster.name = "big"  # or a stand-alone host that has joined one
    cluster.set_config("qemu", 101, "net0", "e1000=BC:24:11:5A:01:10,bridge=vmbr0,tag=77")
    lab.run()
    assert lab.one("virtualization/clusters", id=row["id"])["name"] == "big"
    assert set().union(*sites_of_vlans(lab).values()) == {"rotterdam"}
    assert sites_of_vlans(lab).keys() == {"pve1", "web01", "db01"}
    assert len(lab.rows("dcim/sites")) == sites, "no site is made for the new name"
    lab.run()
    assert lab.written() == []

    # A cluster over two sites: what is under a node or guest goes with it.
    home = row["scope"]["id"]
    edit(lab, "virtualization/clusters", row["id"], scope_type=None, scope_id=None)
    edit(lab, "dcim/devices", lab.one("dcim/devices", name="pve2")["id"], site=home)
    edit(lab, VMS, lab.vm(102)["id"], site=home)
    edit(lab, VMS, lab.vm(200, "lxc")["id"], site=home)
    cluster.migrate("qemu", 100, "pve2")
    lab.run()
    assert lab.vm(100)["site"]["id"] == home
    cluster.set_config("qemu", 100, "net0", "virtio=BC:24:11:5A:01:00,bridge=vmbr0,tag=12")
    lab.run()
    found = sites_of_vlans(lab)
    assert (found["pve1"], found["db01"]) == ({"rotterdam"}, {"rotterdam"})
    assert found["web01"] == {row["scope"]["slug"]}
    lab.run()
    assert lab.written() == []


# -- the memory of what we last wrote -----------------------------------------------------------------------------


DAMAGE = {
    ("qemu", 100): "{}",
    ("qemu", 101): '{"name": 7, "description": ["x"], "tags": "y"}',
    ("qemu", 102): '"text"',
    ("lxc", 200): "[1, 2]",
}


@pytest.mark.parametrize("damage", [DAMAGE, dict.fromkeys(DAMAGE, "null")], ids=["of each kind", "gone"])
def test_a_damaged_memory_overwrites_nothing_and_is_made_good(damage: dict[tuple[Any, int], str], lab: Synced) -> None:
    cluster = lab.clusters["small"]
    before = {(kind, vmid): lab.vm(vmid, kind) for kind, vmid in damage}
    for (kind, vmid), memory in damage.items():
        row = before[kind, vmid]
        edit(lab, VMS, row["id"], description="by hand")
        lab.netbox.sql(
            "update virtualization_virtualmachine set custom_field_data ="
            " jsonb_set(custom_field_data, '{proxbox_last_written}', %s::jsonb) where id = %s",
            memory,
            row["id"],
        )
        cluster.set_config(kind, vmid, "description", "from the source")
        tags = cluster.guest(vmid).config.get("tags")
        cluster.set_config(kind, vmid, "tags", f"{tags};new" if tags else "new")
    lab.run(stages=("virtual_machines",))
    for (kind, vmid), was in before.items():
        row = lab.vm(vmid, kind)
        assert row["description"] == "by hand"
        assert {item["slug"] for item in row["tags"]} >= {item["slug"] for item in was["tags"]}
        assert row["custom_fields"][MEMORY]["name"] == was["name"], "what both sides say alike is remembered again"
    lab.run(stages=("virtual_machines",))
    assert lab.written() == []


# -- what is not ours ---------------------------------------------------------------------------------------------


def test_scenario_19_nothing_foreign_is_changed_whatever_stands_in_netbox(lab: Synced) -> None:
    """Objects that look like ours in every way but one, in every place where ours go; then guests go and come."""
    planted = plant(lab, random.Random(19))
    before = {(path, row_id): lab.rows(path, id=row_id) for path, row_id in planted}
    assert all(before.values())
    cluster = lab.clusters["small"]
    guest = cluster.delete_guest("qemu", 102)
    cluster.set_config("qemu", 100, "scsi1", None)
    cluster.set_config("qemu", 100, "net1", None)
    cluster.remove_snapshot("qemu", 100, "after")
    lab.settings["removal"] = {"default": "delete", "grace_days": 0, "confirmations": 1}
    lab.save()
    lab.sync(override_brake=True)
    lab.sync(override_brake=True)
    cluster.add_guest(guest)
    lab.sync(override_brake=True)
    assert {(path, row_id): lab.rows(path, id=row_id) for path, row_id in planted} == before
    foreign = {(path, row_id) for path, row_id in planted}
    touched = {(entry.model, entry.object_id) for entry in lab.written() if entry.message}
    models = {VMS: "virtualization.virtualmachine", "dcim/devices": "dcim.device"}
    assert not {(models[path], row_id) for path, row_id in foreign if path in models} & touched


def plant(lab: Synced, chance: random.Random) -> list[tuple[str, int]]:
    """Foreign objects: no tag, another endpoint's, no owner; beside ours and under ours."""
    cluster = lab.one("virtualization/clusters")["id"]
    vm, gone = lab.vm(100)["id"], lab.vm(102)["id"]
    nic = lab.one("virtualization/interfaces", virtual_machine_id=vm, name="net1")["id"]
    device = lab.one("dcim/devices", name="pve1")
    port = lab.one("dcim/interfaces", device_id=device["id"], name="vmbr0")["id"]
    address = lab.one("ipam/ip-addresses", address="198.51.100.11/26")["id"]
    marks: list[dict[str, Any]] = [
        {},
        {"tags": [{"slug": "proxbox"}]},
        {"custom_fields": {"proxmox_endpoint": "small"}},
        {"tags": [{"slug": "proxbox"}], "custom_fields": {"proxmox_endpoint": "elsewhere"}},
    ]
    wanted: list[tuple[str, dict[str, Any]]] = []
    for number, mark in enumerate(marks):
        wanted += [
            (VMS, {"name": f"hand-made-{number}", "cluster": cluster, **mark}),
            ("virtualization/virtual-disks", {"virtual_machine": vm, "name": f"hand{number}", "size": 1, **mark}),
            ("virtualization/interfaces", {"virtual_machine": vm, "name": f"hand{number}", **mark}),
            ("dcim/interfaces", {"device": device["id"], "name": f"hand{number}", "type": "virtual", **mark}),
            (
                "ipam/ip-addresses",
                {
                    "address": f"203.0.113.{chance.randrange(16) + 16 * number + 1}/24",
                    "assigned_object_type": "virtualization.vminterface",
                    "assigned_object_id": nic,
                    **mark,
                },
            ),
        ]
    wanted += [
        ("ipam/services", {"name": "https", "ports": [443], "protocol": "tcp", "parent_object_id": gone,
                           "parent_object_type": "virtualization.virtualmachine"}),
        ("ipam/ip-addresses", {"address": "192.0.2.200/24", "nat_inside": address}),
        ("dcim/interfaces", {"device": device["id"], "name": "tap0", "type": "virtual", "bridge": port}),
        ("extras/journal-entries", {"assigned_object_type": "virtualization.vminterface", "assigned_object_id": nic,
                                    "comments": "patched"}),
        ("dcim/console-ports", {"device": device["id"], "name": "ttyS0"}),
    ]  # fmt: skip
    chance.shuffle(wanted)
    return [(path, made(lab, path, **values)) for path, values in wanted]


# -- our marks, removed by an administrator -----------------------------------------------------------------------


def test_a_deleted_ownership_tag_stops_loudly_and_writes_to_nothing_that_had_it(lab: Synced) -> None:
    client = lab.client()
    client.delete("extras/tags", [lab.one("extras/tags", slug="proxbox")["id"]])
    lab.clusters["small"].set_config("qemu", 100, "memory", 1024)
    lab.clusters["small"].set_config("qemu", 100, "scsi1", None)
    lab.settings["on_stage_failure"] = "continue"
    lab.save()
    result = lab.watched()
    assert not result["ok"]
    said = " ".join(errors(result))
    assert "not one of the virtual_machines of this endpoint has the tag 'proxbox' any more" in said
    assert "filter, select all, edit, add tag" in said
    allowed = {"extras.tag"}
    ours = [entry for entry in lab.written() if entry.model not in allowed and entry.message]
    assert ours == []
    # The memory's custom field goes too; both come back with the next full run, and edits stay.
    tag = lab.one("extras/tags", slug="proxbox")["id"]
    for path in (VMS, "virtualization/virtual-disks", "dcim/devices", "virtualization/clusters"):
        rows = lab.rows(path, cf_proxmox_endpoint="small")
        client.update(
            path,
            [{"id": row["id"], "tags": [*({"id": t["id"]} for t in row["tags"]), {"id": tag}]} for row in rows],
        )
    edit(lab, VMS, lab.vm(101)["id"], description="by hand")
    client.delete("extras/custom-fields", [lab.one("extras/custom-fields", name=MEMORY)["id"]])
    client.close()
    lab.watched(stages=("devices", "virtual_machines"))
    row = lab.vm(101)
    assert row["description"] == "by hand"
    assert row["custom_fields"][MEMORY]["name"] == "db01"
    assert lab.vm(100)["memory"] == 1024


# -- 28: objects that are there already ---------------------------------------------------------------------------


def test_scenario_28_a_hand_made_object_is_taken_over_by_explicit_rule_only(lab: Synced) -> None:
    lab.start_over()
    lab.run(stages=("devices",))
    node = hand_made_node(lab)
    result = lab.watched(stages=("devices",))
    assert not result["ok"]
    [said] = [line for line in errors(result) if "'PVE3'" in line]
    assert f"NetBox already has devices 'PVE3' (id {node['id']}), which this project did not make" in said
    assert lab.one("dcim/devices", id=node["id"]) == node
    assert {row["name"] for row in lab.rows("dcim/devices", cf_proxmox_endpoint="small")} == {"pve1", "pve2"}
    cluster = lab.one("virtualization/clusters")["id"]
    web = made(lab, VMS, name="WEB01", cluster=cluster, description="the shop", memory=1)
    image = made(lab, VMS, name="image", cluster=cluster)
    order = {"stages": ("virtual_machines",)}

    def seen() -> list[dict[str, Any]]:
        """As the person sees them: making the custom fields gives every row empty ones."""
        return [{**row, "custom_fields": None} for row in lab.rows(VMS, id=[web, image])]

    before = seen()

    result = lab.watched(**order)
    assert not result["ok"]
    [said] = [line for line in errors(result) if "'WEB01'" in line]
    assert f"NetBox already has virtual_machines 'WEB01' (id {web}), which this project did not make" in said
    assert "adopt: by_name" in said
    assert seen() == before
    assert len(lab.rows(VMS, cf_proxmox_endpoint="small")) == 2

    lab.settings["adopt"] = "tagged"
    lab.save()
    edit(lab, VMS, web, tags=[{"slug": "proxbox"}])
    result = lab.watched(**order)
    assert not any("WEB01" in line for line in errors(result))
    row = lab.vm(100)
    assert (row["id"], row["description"], row["memory"]) == (web, "the shop", 4096)
    assert row["name"] == "WEB01", "a name that a person gave it stays"
    assert any("description was changed by hand and is kept" in line for line in warnings(result))
    assert [row for row in seen() if row["id"] == image] == [row for row in before if row["id"] == image]

    lab.settings["adopt"] = "by_name"
    lab.save()
    lab.run(**order)
    assert lab.vm(102)["id"] == image
    order = {"stages": ("devices", "virtual_machines")}
    lab.run(**order)
    adopted = lab.one("dcim/devices", cf_proxmox_endpoint="small", cf_proxmox_node_name="pve3")
    assert (adopted["id"], adopted["name"], adopted["serial"]) == (node["id"], "PVE3", "INV-3")
    assert adopted["device_type"]["id"] == node["device_type"]["id"]
    lab.run(**order)
    assert lab.written() == []


def hand_made_node(lab: Synced) -> dict[str, Any]:
    """The node pve3 as if a person had made it: of its own hardware, with nothing of ours on it."""
    maker = made(lab, "dcim/manufacturers", name="Theirs", slug="theirs")
    kind = made(lab, "dcim/device-types", manufacturer=maker, model="R740", slug="r740")
    node = lab.one("dcim/devices", name="pve3")
    nothing = dict.fromkeys(node["custom_fields"])
    theirs = {"name": "PVE3", "device_type": kind, "serial": "INV-3", "tags": [], "custom_fields": nothing}
    edit(lab, "dcim/devices", node["id"], **theirs)
    return lab.one("dcim/devices", id=node["id"])
