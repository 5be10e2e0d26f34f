"""Stage 8, what is written: interfaces of nodes and the nodes' primary addresses, field by field."""

from __future__ import annotations

from dataclasses import replace

from proxbox_dagster.netbox.spec import FieldSpec, Kind, ModelSpec, ObjectClass, Policy, UniqueKey
from proxbox_dagster.stages.common import ENDPOINT, TAGS
from proxbox_dagster.stages.devices_specs import DEVICE
from proxbox_dagster.stages.network_specs import INTERFACE_CHILDREN, IP_ADDRESS, MAC_ADDRESS, NODE_INTERFACE, VLAN

_NET = "/nodes/{node}/network"

INTERFACE = ModelSpec(
    name="interfaces",
    path="dcim/interfaces",
    model=NODE_INTERFACE,
    identity=("device", "name"),
    fields=(
        ENDPOINT,
        FieldSpec("device", f"{_NET} node", "the node's device", kind=Kind.REF, required=True),
        FieldSpec("name", f"{_NET} iface", "without lo and aliases", limit=64, required=True),
        FieldSpec(
            "type",
            f"{_NET} type",
            "bridge, OVSBridge, vnet: bridge; bond, OVSBond: lag; vlan, OVSIntPort and the like: virtual; else other",
            Policy.MANAGED,
            required=True,
        ),
        FieldSpec("enabled", f"{_NET} active", "false when it is missing"),
        FieldSpec("mtu", f"{_NET} mtu"),
        FieldSpec(
            "parent",
            f"{_NET} vlan-raw-device",
            "else what stands before the dot",
            kind=Kind.REF,
            hideable="interfaces",
        ),
        FieldSpec(
            "bridge",
            f"{_NET} bridge_ports, ovs_ports, ovs_bridge",
            "the bridge it is a port of",
            kind=Kind.REF,
            hideable="interfaces",
        ),
        FieldSpec("lag", f"{_NET} slaves, ovs_bonds", "the bond it is a member of", kind=Kind.REF),
        FieldSpec(
            "mode",
            f"{_NET} type, bridge_vlan_aware, ovs_tag, ovs_options",
            "access for a VLAN and an OVS port with a tag; tagged (more than 64 VLANs: tagged-all) for a VLAN-aware "
            "bridge, an OVS port with trunks, and what has VLANs on top",
            limit=50,
        ),
        FieldSpec("untagged_vlan", f"{_NET} vlan-id, ovs_tag", "VLAN of the cluster's site", kind=Kind.REF),
        FieldSpec(
            "tagged_vlans",
            f"{_NET} bridge_vids, ovs_options trunks, VLANs on top",
            "VLANs of the cluster's site; none in mode tagged-all",
            kind=Kind.REFS,
        ),
        FieldSpec("description", f"{_NET} comments, comments6", "in one line", Policy.MANAGED, limit=200),
        TAGS,
    ),
    unique=(UniqueKey(("device", "name"), "device_id"),),
    removal="mark",
    parent="device",
    children=(
        ("ipam/ip-addresses", "interface_id"),
        ("dcim/mac-addresses", "interface_id"),
        *(("dcim/interfaces", name) for name in ("bridge_id", "lag_id", "parent_id")),
        ("dcim/cables", "interface_id"),
        ("dcim/inventory-items", "component_*"),
        ("circuits/virtual-circuit-terminations", "interface_id"),
        ("vpn/l2vpn-terminations", "interface_id"),
        *INTERFACE_CHILDREN,
    ),
)

NODE_PRIMARY_MAC = ModelSpec(
    name="node_primary_macs",
    path=INTERFACE.path,
    model=NODE_INTERFACE,
    identity=INTERFACE.identity,
    fields=(
        *(replace(INTERFACE.by_name[name], policy=Policy.NEVER) for name in (ENDPOINT.name, "device", "name", "tags")),
        FieldSpec(
            "primary_mac_address", f"{_NET} options hwaddress", "the MAC address row of the interface", kind=Kind.REF
        ),
    ),
    index="interfaces",
    update_only=True,
    removal="ignore",
)

_RULE = (
    "the address in /cluster/status, else that of the interface with the gateway, else one beside the other family's; "
    "kept when a person chose another"
)

NODE_PRIMARY_ADDRESS = ModelSpec(
    name="node_primary_addresses",
    path=DEVICE.path,
    model=DEVICE.model,
    identity=DEVICE.identity,
    fields=(
        *(replace(DEVICE.by_name[name], policy=Policy.NEVER) for name in (*DEVICE.identity, "tags")),
        FieldSpec("primary_ip4", f"{_NET} cidr", _RULE, Policy.MANAGED, Kind.REF),
        FieldSpec("primary_ip6", f"{_NET} cidr6", _RULE, Policy.MANAGED, Kind.REF),
    ),
    index="devices",
    update_only=True,
    removal="ignore",
)

_ONLY_NODES = (("assigned_object_type", NODE_INTERFACE),)

NODE_VLANS = ObjectClass("node_vlans", VLAN, "Node VLANs", "The VLANs of the nodes' interfaces.")
INTERFACES = ObjectClass("interfaces", INTERFACE, "Node interfaces", "The interfaces of the nodes.")
NODE_MAC_ADDRESSES = ObjectClass(
    "node_mac_addresses",
    MAC_ADDRESS,
    "Node MAC addresses",
    "The MAC addresses of the nodes' interfaces, where the configuration sets one.",
    only=_ONLY_NODES,
)
NODE_PRIMARY_MACS = ObjectClass(
    "node_primary_macs", NODE_PRIMARY_MAC, "Node primary MACs", "Which MAC address is each interface's primary one."
)
NODE_ADDRESSES = ObjectClass(
    "node_addresses",
    IP_ADDRESS,
    "Node addresses",
    "The addresses of the nodes' interfaces (cidr, cidr6; an alias's belong to the interface it is an alias of).",
    only=_ONLY_NODES,
)
NODE_PRIMARY_ADDRESSES = ObjectClass(
    "node_primary_addresses",
    NODE_PRIMARY_ADDRESS,
    "Node primary addresses",
    "Which address of each family is each device's primary one.",
)
