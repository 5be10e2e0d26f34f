"""What the three networking stages share: VLANs, MAC and IP addresses, field by field, and how rows name them."""

from __future__ import annotations

from proxbox_dagster.netbox.spec import FieldSpec, Kind, ModelSpec, Ownership, Policy, Ref, UniqueKey
from proxbox_dagster.stages.common import ENDPOINT, TAGS, device_ref
from proxbox_dagster.stages.stage import StageContext

NODE_INTERFACE = "dcim.interface"
"""NetBox's content type of a node's interface."""

VM_INTERFACE = "virtualization.vminterface"
"""NetBox's content type of a virtual machine's interface."""

INTERFACE_CHILDREN = (("ipam/fhrp-group-assignments", "interface_*"), ("vpn/tunnel-terminations", "termination_*"))
"""What people hang on interfaces of either kind; NetBox deletes it along."""

SHARED_REMEDY = "where all of them really use it, leave its network out by the settings' addresses.ignore_networks"
"""What to do about one address that several machines have on purpose: behind NAT, or a gateway on every node."""

VLAN = ModelSpec(
    name="vlans",
    path="ipam/vlans",
    model="ipam.vlan",
    identity=("vid", "site"),
    fields=(
        FieldSpec("vid", "the VLAN ids of interfaces", required=True),
        FieldSpec("site", "the cluster's site", "VLANs of one site are one", kind=Kind.REF, required=True),
        FieldSpec("name", "—", "VLAN and its id", Policy.CREATE_ONLY, limit=64, required=True),
        FieldSpec("status", "—", "active", Policy.CREATE_ONLY),
        TAGS,
    ),
    ownership=Ownership.SHARED,
    unique=(UniqueKey(("vid", "site"), "vid"),),
    removal="ignore",
)
"""A VLAN that people made in the site is used and never changed."""

MAC_ADDRESS = ModelSpec(
    name="mac_addresses",
    path="dcim/mac-addresses",
    model="dcim.macaddress",
    identity=("mac_address", "assigned_object_type", "assigned_object_id"),
    fields=(
        ENDPOINT,
        FieldSpec(
            "mac_address",
            "netN (the model's value or macaddr; hwaddr of containers); hwaddress of nodes",
            "upper case with colons",
            limit=17,
            required=True,
        ),
        FieldSpec("assigned_object_type", "—", "the interface's model", required=True),
        FieldSpec("assigned_object_id", "—", "the interface", kind=Kind.REF, required=True),
        TAGS,
    ),
    removal="delete",
    label="mac_address",
    parent="assigned_object_id",
    narrow=("virtual_machine_id", "virtual_machines"),
)

IP_ADDRESS = ModelSpec(
    name="ip_addresses",
    path="ipam/ip-addresses",
    model="ipam.ipaddress",
    identity=("cf.proxmox_endpoint", "host"),
    fields=(
        ENDPOINT,
        FieldSpec(
            "host",
            "the address",
            "without its prefix length, which may change",
            Policy.NEVER,
            Kind.HOST,
            column="address",
        ),
        FieldSpec("address", "see the object class", "with its prefix length", kind=Kind.ADDRESS, required=True),
        FieldSpec("status", "—", "active", Policy.MANAGED),
        FieldSpec(
            "dns_name",
            "config hostname and searchdomain of containers",
            "hostname.searchdomain in lower case; else untouched",
            Policy.MANAGED,
            limit=255,
        ),
        FieldSpec("assigned_object_type", "—", "the interface's model", required=True),
        FieldSpec("assigned_object_id", "—", "the interface", kind=Kind.REF, required=True),
        TAGS,
    ),
    unique=(UniqueKey(("host",), "address", fixed=(("vrf_id", "null"),)),),
    clash_remedy=(
        "NetBox has each address once; where both networks really use it, leave one of them out "
        "by the settings' addresses.ignore_networks"
    ),
    adopt_tagged=True,  # the address by which an endpoint is reached was made before its node's interface
    removal="delete",
    label="address",
    parent="assigned_object_id",
    narrow=("virtual_machine_id", "virtual_machines"),
    children=(("ipam/ip-addresses", "nat_inside_id"), ("ipam/services", "ip_address_id")),
    primary_of=(
        ("virtual_machines", "primary_ip4"),
        ("virtual_machines", "primary_ip6"),
        ("devices", "primary_ip4"),
        ("devices", "primary_ip6"),
    ),
)
"""An address is one row per endpoint, wherever it is: when it moves, its row moves."""


def vlan_ref(site: Ref, vid: int) -> Ref:
    """A VLAN of the cluster's site."""
    return Ref("vlans", (vid, site))


def interface_ref(context: StageContext, node: str, name: str) -> Ref:
    """An interface of a node."""
    return Ref("interfaces", (device_ref(context, node), name))


def vm_interface_ref(vm: Ref, key: str) -> Ref:
    """An interface of a virtual machine, by Proxmox's own key (``net0``), which no renaming changes."""
    return Ref("vm_interfaces", (vm, key))


def mac_ref(mac: str, content_type: str, interface: Ref) -> Ref:
    """The MAC address row of an interface."""
    return Ref("mac_addresses", (mac, content_type, interface))


def address_ref(context: StageContext, host: str) -> Ref:
    """An address without its prefix length, in its shortest form."""
    return Ref("ip_addresses", (context.endpoint, host))
