"""Stages 1 to 3 on a real NetBox: it holds what the simulated clusters are, field by field, and nothing more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from proxbox_dagster.demo.proxmox import load_cluster
from proxbox_dagster_tests.support.changelog import ChangeLog
from proxbox_dagster_tests.support.expect_guest_data import Expectation
from proxbox_dagster_tests.support.expect_inventory import OWNERSHIP_TAGS, Inventory, Rows
from proxbox_dagster_tests.support.lab import Lab

X = "plugins/proxbox/"
ENDPOINTS = ("odd", "lab", "ams1")
STAGES = ("devices", "storage", "virtual_machines")

NETBOX_OWN = frozenset({"id", "url", "display", "display_url", "created", "last_updated", "_depth", "data_type"})
"""Fields that NetBox fills by itself in every table, beside its counts of related rows."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "dcim/device-types": {"u_height": 1.0, "is_full_depth": True},
    "extras/tags": {"weight": 1000},
    "extras/custom-fields": {"search_weight": 1000, "nulls_first": True, "weight": 100, "status": "active"},
    f"{X}endpoints/proxmox": {
        "enabled": True,
        "ssh_credential_source": "dedicated",
        "ssh_port": 22,
        "ssh_auth_method": "key",
        "service_monitoring_interval_minutes": 5,
        "access_methods": "api",
    },
}
"""What NetBox and the plugin put into fields that nobody gave."""

COMPUTED = {
    "virtualization/clusters": {"scope_id", "allocated_vcpus", "allocated_memory", "allocated_disk"},
    "extras/tags": {"tagged_items"},
}
"""Fields that follow from other rows."""


@pytest.fixture(scope="module")
def lab(netbox_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    netbox_server.reset()
    clusters = {name: load_cluster(name) for name in ENDPOINTS}
    with pytest.MonkeyPatch.context() as patch:
        lab = Lab(netbox_server, tmp_path_factory.mktemp("inventory"), patch, **clusters)
        with lab:
            lab.good_sync(stages=STAGES)
            yield lab


def plain(value: Any) -> Any:
    """Choices by value, other rows by what names them, nothing as ``None``."""
    if isinstance(value, dict):
        for key in ("value", "slug", "model", "address", "name"):
            if key in value:
                return value[key]
        return value or None
    if isinstance(value, list):
        return sorted(map(plain, value)) or None
    return None if value is False or value == "" else value


def flat(path: str, row: dict[str, Any]) -> dict[str, Any]:
    found = {name: value if name == "raw_config" else plain(value) for name, value in row.items()}
    custom = found.pop("custom_fields", None) or {}
    found |= {f"cf.{name}": plain(value) for name, value in custom.items() if name != "proxbox_last_written"}
    left_out = NETBOX_OWN | COMPUTED.get(path, set())
    return {
        name: value
        for name, value in found.items()
        if name not in left_out and not (name.endswith("_count") and name != "nodes_count")
    }


def differences(path: str, rows: list[dict[str, Any]], key: Any, wanted: Rows) -> dict[Any, Any]:
    """By row what differs, fields as (NetBox, wanted); also fields that should be empty, rows too many or missing."""
    held = {key(row): flat(path, row) for row in rows}
    assert len(held) == len(rows)
    found: dict[Any, Any] = dict.fromkeys(wanted.keys() - held.keys(), "missing")
    found |= {name: ("too many", held[name]) for name in held.keys() - wanted.keys()}
    for name in held.keys() & wanted.keys():
        expected = {field: None if value is False else value for field, value in wanted[name].items()}
        expected = {**DEFAULTS.get(path, {}), **expected}
        fields = held[name].keys() | expected.keys()
        wrong = {f: (held[name].get(f), expected.get(f)) for f in fields if held[name].get(f) != expected.get(f)}
        found |= {name: wrong} if wrong else {}
    return found


def by(field: str) -> Any:
    return lambda row: row[field]


def inventories(lab: Lab) -> list[Inventory]:
    return [Inventory(name, simulator) for name, simulator in lab.simulators.items()]


# -- what endpoints share -----------------------------------------------------------------------------------------


def test_shared_objects_are_made_once(lab: Lab) -> None:
    tagged = {"tags": ["proxbox"]}
    kinds = {
        name.lower(): {"name": name, "slug": name.lower(), "description": f"Proxmox {name.lower()} mode", **tagged}
        for name in ("Cluster", "Standalone")
    }
    assert differences("", lab.rows("virtualization/cluster-types"), by("slug"), kinds) == {}
    maker = {"proxmox": {"name": "Proxmox", "slug": "proxmox", **tagged}}
    assert differences("", lab.rows("dcim/manufacturers"), by("slug"), maker) == {}
    model = {"model": "Proxmox Generic Device", "slug": "proxmox-generic-device", "manufacturer": "proxmox", **tagged}
    path = "dcim/device-types"
    assert differences(path, lab.rows(path), by("slug"), {"proxmox-generic-device": model}) == {}
    types = {
        "qemu-virtual-machine": {"name": "QEMU Virtual Machine", "slug": "qemu-virtual-machine", **tagged},
        "lxc-container": {"name": "LXC Container", "slug": "lxc-container", **tagged},
    }
    assert differences("", lab.rows("virtualization/virtual-machine-types"), by("slug"), types) == {}


def test_the_plugins_own_roles_are_used_and_not_changed(lab: Lab) -> None:
    """netbox-proxbox brings the two roles of guests along; they have no tag of ours and keep the plugin's colours."""
    roles = {
        "proxmox-node": {"name": "Proxmox Node", "slug": "proxmox-node", "color": "00bcd4", "tags": ["proxbox"]},
        "virtual-machine-qemu": {
            "name": "Virtual Machine (QEMU)",
            "slug": "virtual-machine-qemu",
            "color": "9c27b0",
            "vm_role": True,
        },
        "container-lxc": {"name": "Container (LXC)", "slug": "container-lxc", "color": "00bcd4", "vm_role": True},
    }
    assert differences("", lab.rows("dcim/device-roles"), by("slug"), roles) == {}


def test_platforms_are_those_of_nodes_and_guests(lab: Lab) -> None:
    wanted: Rows = {}
    for inventory in inventories(lab):
        wanted |= inventory.platforms_of_nodes() | inventory.platforms_of_guests()
    assert {"proxmox-ve-9-1", "proxmox-ve-8-4"} <= wanted.keys()
    assert differences("", lab.rows("dcim/platforms"), by("slug"), wanted) == {}


def test_tags_have_the_colours_that_proxmox_shows(lab: Lab) -> None:
    """A tag that two clusters have is coloured as in the one that brought it."""
    wanted: Rows = {}
    for inventory in inventories(lab):
        for slug, (name, color) in inventory.colors().items():
            text = f"Proxmox tag, coloured as in {inventory.endpoint}"
            wanted.setdefault(slug, {"name": name, "slug": slug, "color": color, "description": text})
    assert wanted["prod"]["color"] == "ff0000", "odd came first, and says so in its options"
    held = lab.rows("extras/tags")
    ours = [row for row in held if row["slug"] in OWNERSHIP_TAGS]
    assert {row["slug"]: (row["name"], row["color"]) for row in ours} == OWNERSHIP_TAGS
    assert all(row["description"] for row in ours)
    assert differences("extras/tags", [row for row in held if row not in ours], by("slug"), wanted) == {}


def test_custom_fields_are_on_the_models_that_need_them(lab: Lab) -> None:
    core = "virtualization.cluster dcim.device virtualization.virtualmachine virtualization.virtualdisk dcim.interface"
    core += " virtualization.vminterface dcim.macaddress ipam.ipaddress"
    plugin = "proxmoxcluster proxmoxnode proxmoxstorage proxboxclustersyncstate proxboxdevicesyncstate"
    plugin += " proxboxvirtualmachinesyncstate proxboxvirtualdisksyncstate proxboxvminterfacesyncstate"
    plugin += " vmtaskhistory vmbackup vmsnapshot replication backuproutine"
    everything = sorted([*core.split(), *(f"netbox_proxbox.{name}" for name in plugin.split())])
    machines, devices = ["virtualization.virtualmachine"], ["dcim.device"]
    fixed = {"group_name": "Proxmox", "filter_logic": "exact"}
    seen, hidden = {"ui_visible": "if-set", "ui_editable": "no"}, {"ui_visible": "hidden", "ui_editable": "hidden"}
    wanted: Rows = {
        "proxmox_endpoint": {"type": "text", "label": "Proxmox endpoint", "object_types": everything, **seen},
        "proxbox_last_written": {"type": "json", "label": "Last written", "object_types": everything, **hidden},
        "proxbox_missing": {"type": "json", "label": "Missing", "object_types": everything, **hidden},
        "proxmox_node_name": {"type": "text", "label": "Proxmox node", "object_types": devices, **seen},
        "proxmox_vm_id": {"type": "integer", "label": "VM ID", "object_types": machines, **seen},
        "proxmox_vm_type": {"type": "text", "label": "VM Type", "object_types": machines, **seen},
    }
    held = [row for row in lab.rows("extras/custom-fields") if row["group_name"] == "Proxmox"]
    texts = {row["name"]: row["description"] for row in held}
    assert all(texts.values())
    wanted = {name: {"name": name, "description": texts.get(name), **fixed, **row} for name, row in wanted.items()}
    assert differences("extras/custom-fields", held, by("name"), wanted) == {}


# -- what is an endpoint's own ------------------------------------------------------------------------------------


def test_sites(lab: Lab) -> None:
    wanted = {key: row for inventory in inventories(lab) for key, row in inventory.sites().items()}
    assert differences("", lab.rows("dcim/sites"), by("slug"), wanted) == {}


def test_the_plugins_endpoints(lab: Lab) -> None:
    wanted = {key: row for inventory in inventories(lab) for key, row in inventory.endpoints().items()}
    path = f"{X}endpoints/proxmox"
    assert differences(path, lab.rows(path), by("name"), wanted) == {}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_netbox_holds_the_cluster_and_its_nodes(endpoint: str, lab: Lab) -> None:
    inventory = Inventory(endpoint, lab.simulators[endpoint])
    for path, key, wanted in (
        ("virtualization/clusters", by("name"), inventory.clusters()),
        ("dcim/devices", by("name"), inventory.devices()),
        (f"{X}proxmox-clusters", by("name"), inventory.proxmox_clusters()),
        (f"{X}proxmox-nodes", by("name"), inventory.proxmox_nodes()),
    ):
        rows = lab.rows(path, cf_proxmox_endpoint=endpoint)
        assert differences(path, rows, key, wanted) == {}, path


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_netbox_holds_the_sync_states_of_cluster_and_nodes(endpoint: str, lab: Lab) -> None:
    inventory = Inventory(endpoint, lab.simulators[endpoint])
    ids = {
        "proxmox_endpoint_raw_id": lab.rows(f"{X}endpoints/proxmox", name=endpoint)[0]["id"],
        "proxmox_cluster_raw_id": lab.rows(f"{X}proxmox-clusters", cf_proxmox_endpoint=endpoint)[0]["id"],
    }
    for name, raw_id, wanted in (
        ("cluster", "proxmox_cluster_raw_id", inventory.cluster_sync_states()),
        ("device", "proxmox_endpoint_raw_id", inventory.device_sync_states()),
    ):
        path = f"{X}sync-state/{name}s"
        rows = lab.rows(path, cf_proxmox_endpoint=endpoint)
        expected = {key: {**row, raw_id: ids[raw_id]} for key, row in wanted.items()}
        assert differences(path, rows, lambda row, name=name: row[name]["name"], expected) == {}, path


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_netbox_holds_the_storages(endpoint: str, lab: Lab) -> None:
    wanted = Inventory(endpoint, lab.simulators[endpoint]).storages()
    assert differences("", lab.rows(f"{X}storage", cf_proxmox_endpoint=endpoint), by("name"), wanted) == {}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_netbox_holds_the_guests(endpoint: str, lab: Lab) -> None:
    inventory = Inventory(endpoint, lab.simulators[endpoint])
    sizes: dict[int, int] = {}
    for ((_, vmid), _), disk in Expectation(lab.clusters[endpoint], lambda *_: True).disks().items():
        sizes[vmid] = sizes.get(vmid, 0) + disk["size"]

    def guest(row: dict[str, Any]) -> tuple[str, int]:
        return row["custom_fields"]["proxmox_vm_type"], row["custom_fields"]["proxmox_vm_id"]

    rows = lab.rows("virtualization/virtual-machines", cf_proxmox_endpoint=endpoint)
    assert differences("", rows, guest, inventory.virtual_machines(sizes)) == {}
    ids = {row["id"]: guest(row) for row in rows}
    raw_id = lab.rows(f"{X}endpoints/proxmox", name=endpoint)[0]["id"]
    wanted = {key: {**row, "proxmox_endpoint_raw_id": raw_id} for key, row in inventory.vm_sync_states().items()}
    states = lab.rows(f"{X}sync-state/virtual-machines", cf_proxmox_endpoint=endpoint)
    assert differences("", states, lambda row: ids[row["virtual_machine"]["id"]], wanted) == {}


def test_scenario_1_clusters_that_disagree_about_a_tag_do_not_take_turns(lab: Lab) -> None:
    """The tag ``prod`` is red in odd, and another red in ams1: whoever runs last must not recolour it."""
    log = ChangeLog(lab.netbox)
    for order in (ENDPOINTS, ENDPOINTS[::-1]):
        lab.good_sync(stages=STAGES, endpoints=order)
        assert log.entries() == []


def test_a_tags_colour_follows_the_cluster_that_brought_it(lab: Lab) -> None:
    log = ChangeLog(lab.netbox)
    options = lab.clusters["ams1"].options
    style = dict(options["tag-style"])
    options["tag-style"] = {**style, "color-map": "prod:0000ff;web:123456"}
    try:
        lab.good_sync(stages=STAGES, endpoints=("ams1",))
        changed = {(entry.label, *entry.fields.items()) for entry in log.entries() if entry.model == "extras.tag"}
        assert ("web", ("color", ("1976d2", "123456"))) in changed
        assert not any(label == "prod" for label, *_ in changed)
    finally:
        options["tag-style"] = style
        lab.sync(stages=STAGES, endpoints=("ams1",))
