"""What NetBox should hold of a simulated cluster in stages 1 to 3: nodes, storages, guests and what they refer to.

Made from the cluster's own records (:mod:`proxbox_dagster.demo.proxmox.state`) and tables written by hand, with none
of the project's parsers or mappings: two derivations of one truth. Rows are by natural key, with NetBox's fields as
plain values: choices by value, other rows by slug, name, model or address, tags as sorted slugs. A field that is not
in a row is expected to be empty.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from proxbox_dagster.demo.proxmox import Cluster, Guest, ProxmoxSimulator
from proxbox_dagster.demo.proxmox.state import MIB

Rows = dict[Any, dict[str, Any]]

STATUS = {"running": "active", "stopped": "offline", "paused": "paused", "suspended": "paused", "prelaunch": "paused"}
SYSTEMS = {
    "l24": "Linux (kernel 2.4)", "l26": "Linux (kernel 2.6 or newer)", "solaris": "Solaris", "other": "Other",
    "wxp": "Windows XP", "w2k8": "Windows Server 2008", "win8": "Windows 8", "win10": "Windows 10",
    "win11": "Windows 11", "alpine": "Alpine Linux", "archlinux": "Arch Linux", "centos": "CentOS",
    "debian": "Debian", "devuan": "Devuan", "fedora": "Fedora", "gentoo": "Gentoo", "nixos": "NixOS",
    "opensuse": "openSUSE", "ubuntu": "Ubuntu", "unmanaged": "Unmanaged",
}  # fmt: skip
ODD_SLUGS = {"x.y+z_1-2": "x-y-plus-z_1-2"}
"""Slugs of tags that are more than their name in lower case."""

OWNERSHIP_TAGS = {
    "proxbox": ("Proxbox", "ff5722"),
    "proxbox-keep": ("Proxbox: keep", "4caf50"),
    "proxbox-missing": ("Proxbox: missing", "d32f2f"),
    "proxbox-discovered-qemu": ("Proxbox: Discovered QEMU", "2196f3"),
    "proxbox-discovered-lxc": ("Proxbox: Discovered LXC", "00bcd4"),
    "proxbox-template": ("Proxbox: Template", "607d8b"),
    "proxbox-discovered-cluster": ("Proxbox: Discovered cluster", "4caf50"),
    "proxbox-discovered-node": ("Proxbox: Discovered node", "9c27b0"),
}
MACHINE_TYPES = {"qemu": "qemu-virtual-machine", "lxc": "lxc-container"}
ROLES = {"qemu": "virtual-machine-qemu", "lxc": "container-lxc"}


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def tag_slug(name: str) -> str:
    return ODD_SLUGS.get(name, name.lower())


def tags_of(guest: Guest) -> list[str]:
    """The tags as they are spelled; of two spellings of one tag the first."""
    found: dict[str, str] = {}
    for name in re.split(r"[;, ]+", guest.config.get("tags", "")):
        if name:
            found.setdefault(tag_slug(name), name)
    return [found[key] for key in sorted(found)]


def browser_color(tag: str) -> str:
    """Proxmox's JavaScript for a tag without a colour of its own: a signed 32-bit hash, 30 % white mixed in."""
    number = 0
    for letter in tag + "prox":
        number = ord(letter) + ((number << 5) - number)
        number = (number + 2**31) % 2**32 - 2**31
    mixed = [(number >> shift & 255) * 0.7 + 255 * (1 - 0.7) for shift in (0, 8, 16)]
    return "".join(f"{int(value + 0.5):02x}" for value in mixed)


@dataclass
class Inventory:
    """``endpoint`` is the name in the settings; ``simulator`` serves the cluster."""

    endpoint: str
    simulator: ProxmoxSimulator

    @property
    def cluster(self) -> Cluster:
        return self.simulator.cluster

    @property
    def name(self) -> str:
        """Of the cluster; a stand-alone host has none, and is called like its node."""
        return next(iter(self.cluster.nodes)) if self.cluster.standalone else self.cluster.name

    @property
    def mode(self) -> str:
        return "standalone" if self.cluster.standalone else "cluster"

    @property
    def site(self) -> str:
        return f"proxmox-default-site-{slug(self.name)}"

    def link(self, place: str) -> str:
        return f"{self.simulator.url}/#v1:0:={place}"

    @staticmethod
    def _tags(*more: str) -> list[str]:
        return sorted({"proxbox", *more})

    # -- stage 1

    def sites(self) -> Rows:
        title = f"Proxmox Default Site - {self.name}"
        return {self.site: {"name": title, "slug": self.site, "status": "active", "tags": ["proxbox"]}}

    def clusters(self) -> Rows:
        kind = "Proxmox standalone host." if self.cluster.standalone else "Proxmox cluster."
        row = {
            "name": self.name,
            "type": self.mode,
            "status": "active",
            "scope_type": "dcim.site",
            "scope": self.site,
            "description": kind,
            "tags": self._tags("proxbox-discovered-cluster"),
            "cf.proxmox_endpoint": self.endpoint,
        }
        return {self.name: row}

    def platforms_of_nodes(self) -> Rows:
        return {
            slug(name): {"name": name, "slug": slug(name), "manufacturer": None, "tags": ["proxbox"]}
            for name in (f"Proxmox VE {node.release}" for node in self.cluster.nodes.values() if node.online)
        }

    def devices(self) -> Rows:
        return {
            node.name: {
                "name": node.name,
                "device_type": "proxmox-generic-device",
                "role": "proxmox-node",
                "platform": slug(f"Proxmox VE {node.release}") if node.online else None,
                "site": self.site,
                "cluster": self.name,
                "status": "active" if node.online else "offline",
                "description": f"Proxmox Node {node.name}",
                "tags": self._tags("proxbox-discovered-node"),
                "cf.proxmox_endpoint": self.endpoint,
                "cf.proxmox_node_name": node.name,
            }
            for node in self.cluster.nodes.values()
        }

    def endpoints(self) -> Rows:
        node = next(node for node in self.cluster.nodes.values() if node.online)
        row = {
            "name": self.endpoint,
            "ip_address": "127.0.0.1/32",
            "port": self.simulator.port,
            "mode": self.mode,
            "version": node.version,
            "repoid": node.repoid,
            "username": self.simulator.user,
            "token_name": self.simulator.token_name,
            "verify_ssl": True,
            "site": self.site,
            "tags": ["proxbox"],
        }
        return {self.endpoint: row}

    def proxmox_clusters(self) -> Rows:
        alone = self.cluster.standalone
        row = {
            "endpoint": self.endpoint,
            "name": self.name,
            "netbox_cluster": self.name,
            "cluster_id": None if alone else "cluster",
            "mode": self.mode,
            "nodes_count": len(self.cluster.nodes),
            "quorate": True,
            "version": None if alone else self.cluster.config_version,
            "tags": ["proxbox"],
            "cf.proxmox_endpoint": self.endpoint,
        }
        return {self.name: row}

    def proxmox_nodes(self) -> Rows:
        """The plugin wants an address; Proxmox tells none of a node that never was up."""
        return {
            node.name: {
                "endpoint": self.endpoint,
                "name": node.name,
                "ip_address": node.ip,
                "proxmox_cluster": self.name,
                "netbox_device": node.name,
                "node_id": 0 if self.cluster.standalone else node.nodeid,
                "online": node.online,
                "max_cpu": node.cpus if node.broadcasting else None,
                "max_memory": node.memory if node.broadcasting else None,
                "ssl_fingerprint": node.fingerprint,
                "support_level": node.level or None,
                "tags": ["proxbox"],
                "cf.proxmox_endpoint": self.endpoint,
            }
            for node in self.cluster.nodes.values()
            if node.ip
        }

    def cluster_sync_states(self) -> Rows:
        row = {
            "cluster": self.name,
            "proxmox_cluster": self.name,
            "proxmox_cluster_name": self.name,
            "proxmox_cluster_status": "quorate",
            "tags": ["proxbox"],
            "cf.proxmox_endpoint": self.endpoint,
        }
        return {self.name: row}

    def device_sync_states(self) -> Rows:
        return {
            node.name: {
                "device": node.name,
                "endpoint": self.endpoint,
                "proxmox_node": node.name if node.ip else None,
                "proxmox_node_name": node.name,
                "proxmox_cluster": self.name,
                "proxmox_cluster_name": self.name,
                "proxmox_link": self.link(f"node/{node.name}"),
                "proxmox_os": f"Proxmox VE {node.version}" if node.online else None,
                "tags": ["proxbox"],
                "cf.proxmox_endpoint": self.endpoint,
            }
            for node in self.cluster.nodes.values()
        }

    # -- stage 2

    def storages(self) -> Rows:
        texts = "path server username export share pool monhost namespace datastore is_mountpoint preallocation port"
        rows: Rows = {}
        for storage in self.cluster.storages.values():
            options = storage.options
            content = ",".join(sorted(storage.content)) or "none"
            raw = {key: _number(value) for key, value in options.items()}
            if "prune-backups" in raw:
                raw["prune-backups"] = {
                    key: _number(value) for key, value in (part.split("=") for part in raw["prune-backups"].split(","))
                }
            raw |= {"storage": storage.name, "type": storage.type, "content": content}
            raw |= {"shared": 1} if storage.shared else {}
            raw |= {"nodes": ",".join(sorted(storage.nodes))} if storage.nodes else {}
            raw |= {"disable": 1} if storage.disable else {}
            rows[storage.name] = {
                "cluster": self.name,
                "name": storage.name,
                "storage_type": storage.type,
                "content": content,
                "nodes": ",".join(sorted(storage.nodes)) or None,
                "shared": storage.shared,
                "enabled": not storage.disable,
                "prune_backups": options.get("prune-backups"),
                "max_protected_backups": options.get("max-protected-backups"),
                "raw_config": raw,
                "tags": ["proxbox"],
                "cf.proxmox_endpoint": self.endpoint,
                **{name: options.get(name) for name in texts.split()},
            }
        return rows

    # -- stage 3

    def _guests(self) -> list[Guest]:
        """Those whose name can be had: their node is up, or was until a moment ago."""
        nodes = self.cluster.nodes
        found = [guest for guest in self.cluster.guests.values() if nodes[guest.node].broadcasting]
        return sorted(found, key=lambda guest: guest.vmid)

    def colors(self) -> dict[str, tuple[str, str]]:
        """Slug of each tag of this cluster's guests to its spelling and colour."""
        style = self.cluster.options.get("tag-style") or {}
        mapped = dict(entry.split(":")[:2] for entry in style.get("color-map", "").split(";") if entry)
        spelled: dict[str, set[str]] = {}
        for guest in self.cluster.guests.values():
            for name in re.split(r"[;, ]+", guest.config.get("tags", "")):
                if name:
                    spelled.setdefault(tag_slug(name), set()).add(name)
        found = {}
        for key, names in spelled.items():
            name = min(names, key=lambda name: (name not in mapped, name))
            found[key] = (name, mapped.get(name, browser_color(name)))
        return found

    def platforms_of_guests(self) -> Rows:
        names = {SYSTEMS.get(guest.config.get("ostype", "")) for guest in self._guests()} - {None}
        return {slug(str(name)): {"name": name, "slug": slug(str(name)), "tags": ["proxbox"]} for name in names}

    def _names(self) -> dict[int, str]:
        """NetBox takes a name once in a cluster, whatever its case."""
        seen: Counter[str] = Counter()
        names = {}
        for guest in self._guests():
            name = (guest.name or f"vm-{guest.vmid}")[:64]
            seen[name.lower()] += 1
            number = seen[name.lower()]
            names[guest.vmid] = name if number == 1 else f"{name} ({number})"
        return names

    def _cpus(self, guest: Guest) -> float:
        config = guest.config
        if guest.kind == "qemu":
            return float(config.get("vcpus") or int(config.get("sockets", 1)) * int(config.get("cores", 1)))
        return float(config.get("cores") or config.get("cpulimit") or self.cluster.nodes[guest.node].cpus)

    def virtual_machines(self, disks: dict[int, int]) -> Rows:
        """``disks``: VMID to the size in MiB of all its disks."""
        names, rows = self._names(), {}
        for guest in self._guests():
            config = guest.config
            note = config.get("description", "").strip()
            first = next((line.strip() for line in note.splitlines() if line.strip()), "")
            uuid = re.search(r"uuid=([^,]+)", config.get("smbios1", ""))
            system = SYSTEMS.get(config.get("ostype", ""))
            rows[guest.kind, guest.vmid] = {
                "name": names[guest.vmid],
                "status": "active" if guest.fresh else STATUS[guest.status],
                "start_on_boot": "on" if config.get("onboot") == "1" else "off",
                "cluster": self.name,
                "site": self.site,
                "device": guest.node,
                "role": ROLES[guest.kind],
                "virtual_machine_type": MACHINE_TYPES[guest.kind],
                "platform": slug(system) if system else None,
                "vcpus": None if guest.fresh else self._cpus(guest),
                "memory": None if guest.fresh else _memory(guest) // MIB,
                "disk": disks.get(guest.vmid) or None,
                "serial": uuid[1].upper() if uuid else None,
                "description": (first if len(first) <= 200 else first[:199] + "…") or None,
                "comments": note if note != first or len(first) > 200 else None,
                "tags": self._tags(
                    f"proxbox-discovered-{guest.kind}",
                    *(["proxbox-template"] if guest.template else []),
                    *map(tag_slug, tags_of(guest)),
                ),
                "cf.proxmox_endpoint": self.endpoint,
                "cf.proxmox_vm_type": guest.kind,
                "cf.proxmox_vm_id": guest.vmid,
            }
        return rows

    def vm_sync_states(self) -> Rows:
        names, rows = self._names(), {}
        for guest in self._guests():
            config = guest.config
            agent = config.get("agent", "0").split(",")
            rows[guest.kind, guest.vmid] = {
                "virtual_machine": names[guest.vmid],
                "endpoint": self.endpoint,
                "proxmox_node": guest.node,
                "proxmox_node_name": guest.node,
                "proxmox_cluster": self.name,
                "proxmox_cluster_name": self.name,
                "proxmox_vm_id": guest.vmid,
                "proxmox_vm_type": guest.kind,
                "proxmox_vm_name": guest.name or f"vm-{guest.vmid}",
                "proxmox_status": None if guest.fresh else guest.status,
                "proxmox_start_at_boot": config.get("onboot") == "1",
                "proxmox_unprivileged_container": config.get("unprivileged") == "1",
                "proxmox_qemu_agent": "1" in agent or "enabled=1" in agent,
                "proxmox_search_domain": config.get("searchdomain"),
                "proxmox_os": config.get("ostype"),
                "proxmox_cpu_type": config["cpu"].split(",")[0] if "cpu" in config else None,
                "proxmox_tags": ";".join(tags_of(guest)) or None,
                "proxmox_link": self.link(f"{guest.kind}/{guest.vmid}"),
                "tags": ["proxbox"],
                "cf.proxmox_endpoint": self.endpoint,
            }
        return rows


def _memory(guest: Guest) -> int:
    return int(guest.config.get("memory", "512").removeprefix("current=")) * MIB


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isdigit() else value
