"""How the interfaces of one node hang together: bridges, bonds, VLANs, of Linux and of Open vSwitch. Pure rules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from proxbox_dagster.proxmox.parse.net import normalize_mac
from proxbox_dagster.stages.node_addresses import is_alias
from proxbox_dagster.stages.vlans import FIRST, LAST, Dot1q, dot1q, ids_of

TYPES = {
    "bridge": "bridge",
    "OVSBridge": "bridge",
    "vnet": "bridge",
    "bond": "lag",
    "OVSBond": "lag",
    "vlan": "virtual",
    "vxlan": "virtual",
    "dummy": "virtual",
    "fabric": "virtual",
    "OVSIntPort": "virtual",
}
"""Proxmox's type of an interface to NetBox's; others (``eth``, ``OVSPort``) are ``other``: Proxmox tells no speed."""

ALL_VLANS = ((2, LAST),)
"""What a VLAN-aware bridge carries when it says nothing else."""

_HWADDRESS = re.compile(r"\bhwaddress\s+(?:ether\s+)?(\S+)")
_TRUNKS = re.compile(r"(?:^|\s)trunks=([0-9,]+)")
_TAG = re.compile(r"(?:^|\s)tag=([0-9]+)")


@dataclass
class Topology:
    """One node's interfaces by name, without loopback and aliases, and what each is part of.

    ``bridge``, ``lag`` and ``parent`` map an interface to the one it belongs to; all of them are among ``rows``.
    """

    rows: dict[str, Mapping[str, Any]]
    bridge: dict[str, str] = field(default_factory=dict)
    lag: dict[str, str] = field(default_factory=dict)
    parent: dict[str, str] = field(default_factory=dict)
    vlans: dict[str, Dot1q] = field(default_factory=dict)


def topology_of(rows: Iterable[Mapping[str, Any]]) -> Topology:
    """The topology of one node's rows of ``node_networks``."""
    kept = {row["iface"]: row for row in rows if row["iface"] != "lo" and not is_alias(row)}
    found = Topology(dict(sorted(kept.items())))
    for name, row in found.rows.items():
        _join(found.bridge, found.rows, row["bridge_ports"], name)
        _join(found.bridge, found.rows, row["ovs_ports"], name)
        _join(found.lag, found.rows, row["slaves"] or row["ovs_bonds"], name)
    for name, row in found.rows.items():
        if row["ovs_bridge"] in found.rows and row["ovs_bridge"] != name:
            found.bridge[name] = row["ovs_bridge"]
        under = _under(row)
        if under in found.rows and under != name:
            found.parent[name] = under
    # NetBox takes no virtual interface into a LAG.
    found.lag = {name: bond for name, bond in found.lag.items() if netbox_type(found.rows[name]) != "virtual"}
    found.vlans = {name: _vlans(name, row, found) for name, row in found.rows.items()}
    return found


def _join(into: dict[str, str], rows: Mapping[str, Any], members: Any, name: str) -> None:
    """Make ``name`` the group of its members; what is in two groups stays in the first by name."""
    for member in str(members or "").replace(",", " ").split():
        if member in rows and member != name:
            into.setdefault(member, name)


def netbox_type(row: Mapping[str, Any]) -> str:
    """NetBox's type of an interface."""
    return TYPES.get(row["type"], "other")


def _under(row: Mapping[str, Any]) -> str | None:
    """The interface under a VLAN: named, else what stands before the dot."""
    if row["type"] != "vlan":
        return None
    return row["vlan-raw-device"] or row["iface"].rpartition(".")[0] or None


def _tag_of(row: Mapping[str, Any]) -> int | None:
    """The one VLAN of an interface: a VLAN's own, or the tag of an Open vSwitch port."""
    tag = row["ovs_tag"]
    if row["type"] == "vlan":
        digits = re.search(r"(?:\.|^vlan)([0-9]{1,4})$", row["iface"])
        tag = row["vlan-id"] or (int(digits[1]) if digits else None)
    elif tag is None and (match := _TAG.search(row["ovs_options"] or "")):
        tag = int(match[1])
    return tag if tag is not None and FIRST <= tag <= LAST else None


def _vlans(name: str, row: Mapping[str, Any], all_of: Topology) -> Dot1q:
    """A VLAN and an Open vSwitch port with a tag are access. Tagged is what carries VLANs:

    a VLAN-aware bridge those of ``bridge_vids``, an Open vSwitch port its trunks, and any interface those of the
    VLANs on top of it.
    """
    carried = {tag for child, under in all_of.parent.items() if under == name and (tag := _tag_of(all_of.rows[child]))}
    if row["bridge_vlan_aware"]:
        carried |= ids_of(_ranges(row["bridge_vids"]) or ALL_VLANS)
    if match := _TRUNKS.search(row["ovs_options"] or ""):
        carried |= ids_of(_ranges(match[1]))
    return dot1q(_tag_of(row), carried)


def _ranges(text: Any) -> list[tuple[int, int]]:
    """``2-4094`` or ``10 20 30-40``, with any separator; what is no number is left out."""
    pairs = re.findall(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", str(text or ""))
    return [(int(low), int(high or low)) for low, high in pairs]


def mac_of(row: Mapping[str, Any]) -> str | None:
    """The MAC address that the configuration sets (``hwaddress``); Proxmox tells no other."""
    for name in ("options", "options6"):
        lines = row[name] if isinstance(row[name], list) else [row[name]]
        for line in lines:
            if isinstance(line, str) and (match := _HWADDRESS.search(line)) and (mac := normalize_mac(match[1])):
                return mac
    return None


def comment_of(row: Mapping[str, Any]) -> str | None:
    """The comments of both stanzas in one line."""
    lines = [line.strip() for name in ("comments", "comments6") for line in str(row[name] or "").splitlines()]
    return " ".join(dict.fromkeys(line for line in lines if line)) or None
