"""Stage 9, what is written: interfaces of virtual machines, their primary MACs and sync states, field by field."""

from __future__ import annotations

from dataclasses import replace

from proxbox_dagster.netbox.spec import FieldSpec, Kind, ModelSpec, ObjectClass, Policy, UniqueKey
from proxbox_dagster.stages.common import ENDPOINT, TAGS
from proxbox_dagster.stages.network_specs import INTERFACE_CHILDREN, MAC_ADDRESS, VLAN, VM_INTERFACE
from proxbox_dagster.stages.ownership import CUSTOM_FIELD

_NET = "/nodes/{node}/{type}/{vmid}/config netN"

NIC_FIELD = "cf.proxmox_nic"
"""Proxmox's own key of a card (``net0``): the identity of its interface, so that a new name changes one field."""

VMINTERFACE = ModelSpec(
    name="vm_interfaces",
    path="virtualization/interfaces",
    model=VM_INTERFACE,
    identity=("virtual_machine", NIC_FIELD),
    fields=(
        ENDPOINT,
        FieldSpec("virtual_machine", "—", "the virtual machine", kind=Kind.REF, required=True),
        FieldSpec(NIC_FIELD, _NET, "the key itself: net0", limit=10, required=True),
        FieldSpec(
            "name",
            f"{_NET} (QEMU), its name= (containers)",
            "with the setting addresses.interface_names: agent, the name inside the QEMU guest",
            Policy.MANAGED,
            limit=64,
            required=True,
        ),
        FieldSpec("enabled", f"{_NET} link_down", "its opposite"),
        FieldSpec("mtu", f"{_NET} mtu", "none when it is 1, which means the bridge's"),
        FieldSpec(
            "mode",
            f"{_NET} tag, trunks",
            "tag: access; trunks: tagged, for more than 64 VLANs tagged-all; neither: none",
            limit=50,
        ),
        FieldSpec("untagged_vlan", f"{_NET} tag", "VLAN of the cluster's site; none without a tag", kind=Kind.REF),
        FieldSpec(
            "tagged_vlans",
            f"{_NET} trunks",
            "VLANs of the cluster's site, without the tag; none in mode tagged-all",
            kind=Kind.REFS,
        ),
        FieldSpec(
            "description",
            f"{_NET} model, bridge, trunks",
            "virtio on vmbr0; with the trunks in mode tagged-all",
            Policy.MANAGED,
            limit=200,
        ),
        TAGS,
    ),
    unique=(UniqueKey(("virtual_machine", "name"), "virtual_machine_id"),),
    removal="delete",
    parent="virtual_machine",
    narrow=("virtual_machine_id", "virtual_machines"),
    gives_way="name",
    children=(
        ("ipam/ip-addresses", "vminterface_id"),
        ("dcim/mac-addresses", "vminterface_id"),
        ("virtualization/interfaces", "bridge_id"),
        ("virtualization/interfaces", "parent_id"),
        ("vpn/l2vpn-terminations", "vminterface_id"),
        *INTERFACE_CHILDREN,
    ),
)

_UNTOUCHED = tuple(
    replace(VMINTERFACE.by_name[name], policy=Policy.NEVER)
    for name in (ENDPOINT.name, "virtual_machine", NIC_FIELD, TAGS.name)
)

VM_PRIMARY_MAC = ModelSpec(
    name="vm_primary_macs",
    path=VMINTERFACE.path,
    model=VM_INTERFACE,
    identity=VMINTERFACE.identity,
    fields=(
        *_UNTOUCHED,
        FieldSpec("primary_mac_address", _NET, "the MAC address row of the card", kind=Kind.REF),
    ),
    index="vm_interfaces",
    update_only=True,
    removal="ignore",
)

VM_INTERFACE_SYNC_STATE = ModelSpec(
    name="vm_interface_sync_states",
    path="plugins/proxbox/sync-state/vm-interfaces",
    model="netbox_proxbox.proxboxvminterfacesyncstate",
    identity=("vm_interface",),
    fields=(
        ENDPOINT,
        FieldSpec("vm_interface", "—", "the interface", kind=Kind.REF, required=True),
        FieldSpec(
            "proxbox_bridge",
            f"{_NET} bridge",
            "the interface of that name of the guest's node; none for a VNet, which no node lists",
            kind=Kind.REF,
            hideable="interfaces",
        ),
        FieldSpec(
            "proxbox_bridge_raw_id", f"{_NET} bridge", "id of that interface", kind=Kind.REF, hideable="interfaces"
        ),
        FieldSpec("proxbox_bridge_raw_value", f"{_NET} bridge", limit=255),
        TAGS,
    ),
    plugin=True,
    pages=False,
    unique=(UniqueKey(("vm_interface",), "vm_interface_id"),),
    removal="delete",
    label="proxbox_bridge_raw_value",
    parent="vm_interface",
    narrow=("vm_interface_id", "vm_interfaces"),
)

VM_INTERFACE_CUSTOM_FIELDS = ObjectClass(
    "vm_interface_custom_fields",
    CUSTOM_FIELD,
    "VM interface custom fields",
    "The custom field that keeps Proxmox's key of a network card on its interface.",
    fixed=True,
)
VM_VLANS = ObjectClass("vm_vlans", VLAN, "VM VLANs", "The VLANs of the guests' network cards.")
VM_INTERFACES = ObjectClass("vm_interfaces", VMINTERFACE, "VM interfaces", "The network cards of the guests.")
VM_MAC_ADDRESSES = ObjectClass(
    "vm_mac_addresses",
    MAC_ADDRESS,
    "VM MAC addresses",
    "The MAC addresses of the guests' network cards.",
    only=(("assigned_object_type", VM_INTERFACE),),
)
VM_PRIMARY_MACS = ObjectClass(
    "vm_primary_macs", VM_PRIMARY_MAC, "VM primary MACs", "Which MAC address is each interface's primary one."
)
VM_INTERFACE_SYNC_STATES = ObjectClass(
    "vm_interface_sync_states",
    VM_INTERFACE_SYNC_STATE,
    "VM interface sync states",
    "The plugin's data beside each interface: the bridge that the card is on.",
)
