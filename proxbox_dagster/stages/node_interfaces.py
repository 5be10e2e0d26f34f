"""Stage 8, the mapping: the network configuration of nodes to interfaces, VLANs and addresses of devices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from proxbox_dagster.facts import UNOBSERVED, GapKind
from proxbox_dagster.netbox.spec import Coverage, Desired, ObjectClass, Ref, Row
from proxbox_dagster.stages import node_interfaces_specs as specs
from proxbox_dagster.stages.common import device_ref, owned, site_under
from proxbox_dagster.stages.devices_specs import DEVICE
from proxbox_dagster.stages.guest_nics import AddressRules
from proxbox_dagster.stages.network_specs import NODE_INTERFACE, SHARED_REMEDY, address_ref, interface_ref, mac_ref
from proxbox_dagster.stages.node_addresses import NodeAddress, addresses_of, primaries
from proxbox_dagster.stages.node_topology import Topology, comment_of, mac_of, netbox_type, topology_of
from proxbox_dagster.stages.stage import Inputs, Stage, StageContext
from proxbox_dagster.stages.vlans import desired_vlans

_USED = (
    "type",
    "bridge_ports",
    "bridge_vlan_aware",
    "bridge_vids",
    "slaves",
    "vlan-id",
    "vlan-raw-device",
    "ovs_bridge",
    "ovs_ports",
    "ovs_bonds",
    "ovs_tag",
    "ovs_options",
)
"""Columns without which nobody knows what an interface is part of."""

_MTU = range(1, 65537)
"""What NetBox takes."""


def build(inputs: Inputs, context: StageContext) -> list[Desired]:
    """Desired rows of stage 8 from ``node_networks`` and ``cluster_status``, in the order in which they are written."""
    view = _View(inputs, context)
    interfaces = _interfaces(view)
    addresses, chosen = _addresses(view)
    return [
        desired_vlans(
            specs.NODE_VLANS,
            ((view.sites[name], vlans) for name, node in view.nodes.items() for vlans in node.vlans.values()),
        ),
        interfaces,
        _mac_addresses(view),
        _primary_macs(view),
        addresses,
        _primary_addresses(view, chosen),
    ]


class _View:
    """The nodes whose networks were read: each with its topology."""

    def __init__(self, inputs: Inputs, context: StageContext) -> None:
        self.context = context
        self.read = inputs["node_networks"]
        self.status = inputs["cluster_status"]
        by_node: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in self.read.rows:
            if context.scope.node(row["node"]):
                by_node[row["node"]].append(row)
        self.rows = {node: by_node[node] for node in sorted(by_node)}
        self.sites = {node: site_under(context, self.status, device_ref(context, node)) for node in self.rows}
        self.unread = {
            (node, row["iface"])
            for node, rows in self.rows.items()
            for row in rows
            if any(row[name] is UNOBSERVED for name in _USED)
        }
        self.nodes: dict[str, Topology] = {node: topology_of(rows) for node, rows in self.rows.items()}
        self.complete = [node for node in self.nodes if self.read.gap("node", node) is None]

    def covered(self, object_class: ObjectClass) -> Desired:
        """A class under interfaces: what is under those that were seen, on nodes that were read to the end.

        What is under an interface that is gone stays with it: the interface is marked, and taken away whole.
        """
        parents = frozenset(
            interface_ref(self.context, node, name) for node in self.complete for name in self.nodes[node].rows
        )
        return Desired(object_class, coverage=Coverage(parents=parents, reason=_ONLY_COMPLETE))


_ONLY_COMPLETE = "only nodes whose whole network configuration was read are covered"


def _interfaces(view: _View) -> Desired:
    context = view.context
    parents: frozenset[Ref] = frozenset(device_ref(context, node) for node in view.complete)
    hole = view.read.gap("all")
    reason = hole.reason if hole else _ONLY_COMPLETE
    coverage = Coverage(parents=parents, reason=reason, gap=hole is not None and hole.kind is not GapKind.OUT_OF_SCOPE)
    desired = Desired(specs.INTERFACES, coverage=coverage)
    _account(view, desired)
    for node, topology in view.nodes.items():
        for name, row in topology.rows.items():
            label = f"{node} {name}"
            if (node, name) in view.unread:
                reason = "its configuration cannot be read: " + _gap_reason(view, node)
                desired.fail(label, reason, interface_ref(context, node, name).key)
                continue
            values = _interface(view, node, name, row)
            desired.rows.append(Row(owned(context, values), label, context.link(f"node/{node}")))
    return desired


def _account(view: _View, desired: Desired) -> None:
    """Put down which nodes were not read, and why."""
    for gap in view.read.gaps:
        if gap.kind is GapKind.OUT_OF_SCOPE:
            continue
        if gap.level != "node":
            desired.notes.append(gap.reason)
        elif gap.is_error:
            desired.fail(f"node {gap.name}", f"not all of its network configuration could be read: {gap.reason}")
        else:
            desired.skip(f"node {gap.name}", gap.reason)


def _gap_reason(view: _View, node: str) -> str:
    gap = view.read.gap("node", node)
    return gap.reason if gap else "Proxmox gave something that is no valid value"


def _interface(view: _View, node: str, name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    context, topology = view.context, view.nodes[node]

    def other(group: Mapping[str, str], none: Any = None) -> Any:
        return interface_ref(context, node, group[name]) if name in group else none

    # A bridge may be hidden from the token, and says itself what its ports are.
    no_bridge = None if node in view.complete else UNOBSERVED

    mtu = row["mtu"]
    return {
        "device": device_ref(context, node),
        "name": name,
        "type": netbox_type(row),
        "enabled": row["active"] if row["active"] is UNOBSERVED else bool(row["active"]),
        "mtu": mtu if mtu is UNOBSERVED or mtu in _MTU else None,
        "parent": other(topology.parent, no_bridge),
        "bridge": other(topology.bridge, no_bridge),
        "lag": other(topology.lag),
        "description": UNOBSERVED if UNOBSERVED in (row["comments"], row["comments6"]) else comment_of(row),
        **topology.vlans[name].fields(view.sites[node]),
    }


def _macs(view: _View) -> list[tuple[str, str, str]]:
    """(node, interface, MAC) of the interfaces whose configuration sets one."""
    return [
        (node, name, mac)
        for node, topology in view.nodes.items()
        for name, row in topology.rows.items()
        if (mac := mac_of(row)) is not None
    ]


def _mac_addresses(view: _View) -> Desired:
    context = view.context
    desired = view.covered(specs.NODE_MAC_ADDRESSES)
    for node, name, mac in _macs(view):
        values = {
            "mac_address": mac,
            "assigned_object_type": NODE_INTERFACE,
            "assigned_object_id": interface_ref(context, node, name),
        }
        desired.rows.append(Row(owned(context, values), f"{mac} of {node} {name}", context.link(f"node/{node}")))
    return desired


def _primary_macs(view: _View) -> Desired:
    context = view.context
    desired = Desired(specs.NODE_PRIMARY_MACS, coverage=Coverage(reason="goes with its interface"))
    for node, name, mac in _macs(view):
        values = {
            "device": device_ref(context, node),
            "name": name,
            "primary_mac_address": mac_ref(mac, NODE_INTERFACE, interface_ref(context, node, name)),
        }
        desired.rows.append(Row(values, f"{node} {name}", context.link(f"node/{node}")))
    return desired


def _addresses(view: _View) -> tuple[Desired, dict[str, list[NodeAddress]]]:
    """The addresses, and by node those that it has alone. One that two nodes have is nobody's until one gives it up."""
    context = view.context
    desired = view.covered(specs.NODE_ADDRESSES)
    if not context.scope.is_full:
        desired.hold = f"it is narrowed to {context.scope}"
    rules = AddressRules(context.addresses)
    desired.notes += rules.problems
    by_host: dict[str, list[NodeAddress]] = defaultdict(list)
    for node, rows in view.rows.items():
        found, problems = addresses_of(rows)
        for iface, reason in problems:
            desired.skip(f"{node} {iface}", f"{reason}; correct it in the node's network configuration")
        for item in found:
            if item.iface in view.nodes[node].rows and not rules.ignores(item.interface.ip):
                by_host[item.host].append(item)
    chosen: dict[str, list[NodeAddress]] = defaultdict(list)
    for host, items in by_host.items():
        nodes = sorted({item.node for item in items})
        if len(nodes) > 1:
            for node in nodes:
                others = ", ".join(name for name in nodes if name != node)
                reason = (
                    f"address conflict: {others} has {host} too; nothing is written until only one of them has it; "
                    f"{SHARED_REMEDY}"
                )
                desired.fail(f"{host} of {node}", reason, address_ref(context, host).key)
            continue
        first = items[0]
        chosen[first.node].append(first)
        values = {
            "host": host,
            "address": str(first.interface),
            "status": "active",
            "assigned_object_type": NODE_INTERFACE,
            "assigned_object_id": interface_ref(context, first.node, first.iface),
        }
        link = context.link(f"node/{first.node}")
        desired.rows.append(Row(owned(context, values), f"{host} of {first.node} {first.iface}", link))
    return desired, chosen


def _primary_addresses(view: _View, chosen: Mapping[str, list[NodeAddress]]) -> Desired:
    context = view.context
    desired = Desired(specs.NODE_PRIMARY_ADDRESSES, coverage=Coverage(reason="goes with its device"))
    cluster = {row["name"]: row["ip"] for row in view.status.rows if row["type"] == "node"}
    for node in view.nodes:
        best = primaries(chosen.get(node, ()), cluster.get(node))
        if best:
            identity: dict[str, Any] = dict(zip(DEVICE.identity, device_ref(context, node).key, strict=True))
            found = {f"primary_ip{family}": address_ref(context, item.host) for family, item in best.items()}
            # A cluster that has lost the address of a node for a while is no reason to prefer another one.
            known = cluster.get(node) is not None or len(cluster) == 1
            values, initial = ({**identity, **found}, {}) if known else (identity, found)
            desired.rows.append(Row(values, node, context.link(f"node/{node}"), initial))
    return desired


STAGE = Stage(
    number=8,
    name="node_interfaces",
    group="networking",
    title="Node interfaces",
    description="Bridges, bonds, VLANs and cards of the nodes (Linux and Open vSwitch), with their addresses.",
    sources=("node_networks", "cluster_status"),
    object_classes=(
        specs.NODE_VLANS,
        specs.INTERFACES,
        specs.NODE_MAC_ADDRESSES,
        specs.NODE_PRIMARY_MACS,
        specs.NODE_ADDRESSES,
        specs.NODE_PRIMARY_ADDRESSES,
    ),
    upstream=("devices",),
    build=build,
)
