"""What NetBox holds of one endpoint, in the terms of the expectations."""

from __future__ import annotations

import ipaddress
from typing import Any

from proxbox_dagster_tests.support.expect_guest_data import Expectation, GuestKey, Rows
from proxbox_dagster_tests.support.expect_networking import NetworkExpectation
from proxbox_dagster_tests.support.lab import Lab

X = "plugins/proxbox/"


class Held:
    """Every row is read through REST as people read it; references are by name, choices by value."""

    def __init__(self, lab: Lab, endpoint: str, *, plugin: bool = True) -> None:
        self.lab, self.endpoint, self.plugin = lab, endpoint, plugin
        self.machines = self.rows("virtualization/virtual-machines")
        self.guests: dict[int, GuestKey] = {
            row["id"]: (row["custom_fields"]["proxmox_vm_type"], row["custom_fields"]["proxmox_vm_id"])
            for row in self.machines
        }
        self.devices = {row["id"]: row for row in self.rows("dcim/devices")}

    def rows(self, path: str) -> list[dict[str, Any]]:
        return self.lab.rows(path, cf_proxmox_endpoint=self.endpoint)

    def has(self, kind: str, vmid: int) -> bool:
        return (kind, vmid) in self.guests.values()

    def guest(self, row: dict[str, Any]) -> GuestKey:
        return self.guests[row["virtual_machine"]["id"]]

    def as_expected(self, path: str, key: Any, expected: Rows) -> Rows:
        """The rows of the plugin with the fields that are expected."""
        fields = list(next(iter(expected.values()), {}))
        made: Rows = {}
        for row in self.rows(X + path):
            made[key(row)] = {name: self.guest(row) if name == "guest" else _plain(row[name]) for name in fields}
        return made

    def disks(self) -> Rows:
        storages = {
            row["virtual_disk"]["id"]: (row["proxbox_storage"], row["proxbox_storage_raw_value"])
            for row in self.states("virtual-disks")
        }
        made: Rows = {}
        for row in self.rows("virtualization/virtual-disks"):
            fields = {"size": row["size"]}
            if self.plugin:
                storage, name = storages[row["id"]]
                assert (storage or {}).get("name", "") == name
                fields["storage"] = name or None
            made[self.guest(row), row["name"]] = fields
        return made

    def states(self, name: str) -> list[dict[str, Any]]:
        """The plugin's rows beside rows of NetBox's own; none without the plugin."""
        return self.rows(f"{X}sync-state/{name}") if self.plugin else []

    def sizes(self) -> dict[GuestKey, int]:
        """Each machine's own size, where it is not empty."""
        return {self.guests[row["id"]]: row["disk"] for row in self.machines if row["disk"]}

    # -- networking ---------------------------------------------------------------------------------------------

    def interfaces(self) -> Rows:
        made: Rows = {}
        for row in self.rows("dcim/interfaces"):
            fields = {name: _plain(row[name]) for name in ("enabled", "type", "mtu", "parent", "bridge", "lag")}
            made[self._node(row), row["name"]] = {**fields, **_shared(row)}
        return made

    def _node(self, row: dict[str, Any]) -> str:
        return str(self.devices[row["device"]["id"]]["custom_fields"]["proxmox_node_name"])

    def cards(self) -> Rows:
        ports = {row["id"]: (self._node(row), row["name"]) for row in self.rows("dcim/interfaces")}
        states = {row["vm_interface"]["id"]: row for row in self.states("vm-interfaces")}
        made: Rows = {}
        for row in self.rows("virtualization/interfaces"):
            fields = {**{name: _plain(row[name]) for name in ("name", "enabled", "mtu")}, **_shared(row)}
            if self.plugin:
                state = states[row["id"]]
                bridge = (state["proxbox_bridge"] or {}).get("id")
                assert bridge == state["proxbox_bridge_raw_id"]
                fields["bridge"] = ports[bridge] if bridge else None
                fields["bridge_name"] = state["proxbox_bridge_raw_value"] or None
            made[self.guest(row), row["custom_fields"]["proxmox_nic"]] = fields
        assert len(states) == (len(made) if self.plugin else 0)
        return made

    def vlans(self) -> set[int]:
        """The VLAN ids of the endpoint's site."""
        (site,) = {row["site"]["id"] for row in self.devices.values()}
        rows = self.lab.rows("ipam/vlans", site_id=site)
        assert all(row["name"] == f"VLAN {row['vid']}" and row["status"]["value"] == "active" for row in rows)
        return {row["vid"] for row in rows}

    def addresses(self, content_type: str) -> Rows:
        """Of nodes (``dcim.interface``) or guests (``virtualization.vminterface``)."""
        own = content_type == "dcim.interface"
        cards = self.rows("dcim/interfaces" if own else "virtualization/interfaces")
        places = {
            row["id"]: (self._node(row), row["name"]) if own else (self.guest(row), row["custom_fields"]["proxmox_nic"])
            for row in cards
        }
        return {
            str(ipaddress.ip_interface(row["address"]).ip): {
                "address": row["address"],
                "at": places[row["assigned_object_id"]],
                "dns_name": row["dns_name"] or None,
            }
            for row in self.rows("ipam/ip-addresses")
            if row["assigned_object_type"] == content_type
        }

    def node_primaries(self) -> Rows:
        return {row["custom_fields"]["proxmox_node_name"]: _primaries(row) for row in self.devices.values()}

    def primaries(self) -> Rows:
        return {self.guests[row["id"]]: _primaries(row) for row in self.machines}


def _shared(row: dict[str, Any]) -> dict[str, Any]:
    """What interfaces of nodes and of guests have alike."""
    return {
        "description": row["description"] or None,
        "mac": row["mac_address"],
        "macs": sorted(item["mac_address"] for item in row["mac_addresses"] or ()),
        "mode": _plain(row["mode"]),
        "untagged": (row["untagged_vlan"] or {}).get("vid"),
        "tagged": sorted(vlan["vid"] for vlan in row["tagged_vlans"]),
    }


def _primaries(row: dict[str, Any]) -> dict[str, Any]:
    return {f"ip{family}": (row[f"primary_ip{family}"] or {}).get("address") for family in (4, 6)}


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


def _snapshots_before(lab: Lab, endpoint: str) -> set[tuple[int, str, str]]:
    """(VMID, node, name) of the snapshots of the clusters that are synced before this one."""
    names = list(lab.clusters)
    return {
        (guest.vmid, guest.node, name)
        for earlier in names[: names.index(endpoint)]
        for guest in lab.clusters[earlier].guests.values()
        for name in guest.snapshots
        if lab.clusters[earlier].nodes[guest.node].online
    }


def untruths(lab: Lab, endpoint: str, *, plugin: bool = True) -> dict[str, Any]:
    """By object class what NetBox has otherwise than the cluster is; nothing where all is right."""
    held = Held(lab, endpoint, plugin=plugin)
    assert held.guests
    cluster = lab.clusters[endpoint]
    guest_data, network = Expectation(cluster, held.has), NetworkExpectation(cluster, held.has)
    disks, cards, guests = guest_data.disks(), network.cards(), network.primaries()
    if not plugin:
        for row in [*disks.values(), *cards.values()]:
            for name in ("storage", "bridge", "bridge_name"):
                row.pop(name, None)
    node_primaries = {name: row for name, row in held.node_primaries().items() if name in network.nodes}
    compared: dict[str, tuple[Rows, Rows]] = {
        "disks": (held.disks(), disks),
        "interfaces": (held.interfaces(), network.interfaces()),
        "cards": (held.cards(), cards),
        "node addresses": (held.addresses("dcim.interface"), network.node_addresses()),
        "guest addresses": (held.addresses("virtualization.vminterface"), network.addresses()),
        "node primaries": (node_primaries, network.node_primaries()),
        "guest primaries": ({key: row for key, row in held.primaries().items() if key in guests}, guests),
        **(_of_plugin(lab, held, guest_data) if plugin else {}),
    }
    found = {name: differences(*rows) for name, rows in compared.items()}
    if missing := network.used_vlans() - held.vlans():  # others stay: VLANs are never removed
        found["vlans"] = dict.fromkeys(missing, "missing")
    if held.sizes() != guest_data.sizes():
        found["sizes of machines"] = {"found": held.sizes(), "wanted": guest_data.sizes()}
    return {name: rows for name, rows in found.items() if rows}


def _of_plugin(lab: Lab, held: Held, guest_data: Expectation) -> dict[str, tuple[Rows, Rows]]:
    """The plugin's own models: what it has, and what it should have."""
    snapshots = guest_data.snapshots()
    before = _snapshots_before(lab, held.endpoint)
    for (_, name), row in snapshots.items():
        if (row["vmid"], row["node"], name) in before:
            row["node"] += (
                f"@{held.endpoint}"  # the plugin holds one snapshot of a VMID, node and name, in all clusters
            )
    compared: dict[str, tuple[Rows, Rows]] = {}
    for path, key, wanted in (
        ("task-history", lambda row: row["upid"], guest_data.tasks()),
        ("backups", lambda row: row["volume_id"], guest_data.backups()),
        ("snapshots", lambda row: (held.guest(row), row["name"]), snapshots),
        ("replications", lambda row: row["replication_id"], guest_data.replications()),
        ("backup-routines", lambda row: row["job_id"], guest_data.routines()),
    ):
        compared[path] = (held.as_expected(path, key, wanted), wanted)
    return compared
