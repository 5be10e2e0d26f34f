"""The addresses of nodes, from their network configuration. Pure rules."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from proxbox_dagster.facts import Fetched

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


@dataclass(frozen=True)
class NodeAddress:
    """One address of a node. ``iface`` is the interface that has it; an alias (``vmbr0:1``) is its parent's."""

    node: str
    iface: str
    interface: Interface
    gateway: bool

    @property
    def host(self) -> str:
        return str(self.interface.ip)


def owner_of(iface: str) -> str:
    """The interface that an alias belongs to; any other name is its own."""
    return iface.partition(":")[0]


def is_alias(row: Mapping[str, Any]) -> bool:
    """True for ``vmbr0:1``: more addresses of vmbr0, no interface of its own."""
    return row["type"] == "alias" or ":" in row["iface"]


def addresses_of(rows: Iterable[Mapping[str, Any]]) -> tuple[list[NodeAddress], list[tuple[str, str]]]:
    """The addresses in rows of ``node_networks``, and (interface, reason) of what cannot be read."""
    found: list[NodeAddress] = []
    problems: list[tuple[str, str]] = []
    for row in sorted(rows, key=lambda row: (row["node"], owner_of(row["iface"]), row["iface"])):
        for suffix in ("", "6"):
            text = row[f"cidr{suffix}"] or _joined(row[f"address{suffix}"], row[f"netmask{suffix}"])
            if not text:
                continue
            try:
                interface = ipaddress.ip_interface(str(text).strip())
            except ValueError:
                problems.append((row["iface"], f"{text!r} is no IP address"))
                continue
            gateway = bool(row[f"gateway{suffix}"])
            found.append(NodeAddress(row["node"], owner_of(row["iface"]), interface, gateway))
    return found, problems


def _joined(address: Any, netmask: Any) -> str | None:
    return f"{address}/{netmask}" if address and netmask else address or None


def node_hosts(networks: Fetched) -> dict[str, str]:
    """The addresses that nodes have, without prefix length, each with what has it."""
    return {item.host: f"node {item.node} ({item.iface})" for item in addresses_of(networks.rows)[0]}


def primaries(addresses: Iterable[NodeAddress], cluster_address: Any) -> dict[int, NodeAddress]:
    """A node's primary address by family: 4 and 6.

    The address by which the cluster knows the node, where it is on an interface; else that of an interface with a
    gateway; else (the other family) one on the same interface.
    """
    own = sorted(addresses, key=lambda item: (item.iface, item.interface.version, item.interface))
    known = _text_address(cluster_address)
    found: dict[int, NodeAddress] = {}
    for item in own:
        if known is not None and item.host == known:
            found.setdefault(item.interface.version, item)
    for item in own:
        if item.gateway:
            found.setdefault(item.interface.version, item)
    beside = {item.iface for item in found.values()}
    for item in own:
        if item.iface in beside:
            found.setdefault(item.interface.version, item)
    return found


def _text_address(value: Any) -> str | None:
    try:
        return str(ipaddress.ip_address(value)) if isinstance(value, str) else None
    except ValueError:
        return None
