"""Stage 3, what is written: tags, platforms, virtual machines and the plugin's sync states, field by field."""

from __future__ import annotations

from proxbox_dagster.netbox.spec import FieldSpec, Kind, ModelSpec, ObjectClass, Policy, UniqueKey
from proxbox_dagster.stages.common import ENDPOINT, TAGS
from proxbox_dagster.stages.devices_specs import FIXED, PLATFORM, ROLE, shared_spec
from proxbox_dagster.stages.ownership import CUSTOM_FIELD, TAG

_CONFIG = "/nodes/{node}/{type}/{vmid}/config"
_RESOURCES = "/cluster/resources"

MACHINE_TYPE = shared_spec("machine_types", "virtualization/virtual-machine-types", "virtualization.virtualmachinetype")

VIRTUAL_MACHINE = ModelSpec(
    name="virtual_machines",
    path="virtualization/virtual-machines",
    model="virtualization.virtualmachine",
    identity=("cf.proxmox_endpoint", "cf.proxmox_vm_type", "cf.proxmox_vm_id"),
    fields=(
        ENDPOINT,
        FieldSpec("cf.proxmox_vm_type", f"{_RESOURCES} type", "qemu or lxc", limit=10, required=True),
        FieldSpec("cf.proxmox_vm_id", f"{_RESOURCES} vmid", required=True),
        FieldSpec(
            "name",
            f"{_CONFIG} name (QEMU) or hostname (LXC), else {_RESOURCES} name",
            "vm-VMID without one; a second guest of that name in the cluster gets ' (2)'",
            Policy.MANAGED,
            limit=64,
            required=True,
        ),
        FieldSpec(
            "status", f"{_RESOURCES} status", "running: active, stopped: offline, paused: paused; else untouched"
        ),
        FieldSpec("start_on_boot", f"{_CONFIG} onboot", "1: on, else off", Policy.MANAGED),
        FieldSpec("cluster", FIXED, "the endpoint's NetBox cluster", kind=Kind.REF, required=True),
        FieldSpec(
            "site",
            "—",
            "NetBox gives it the cluster's or the node's, again when it goes to another site",
            Policy.NEVER,
            Kind.REF,
        ),
        FieldSpec("device", f"{_RESOURCES} node", "the node's device", kind=Kind.REF),
        FieldSpec(
            "role",
            f"{_RESOURCES} type",
            "Virtual Machine (QEMU) or Container (LXC)",
            Policy.MANAGED,
            Kind.REF,
            learn=("device_roles", "slug"),
        ),
        FieldSpec(
            "virtual_machine_type",
            f"{_RESOURCES} type",
            "QEMU Virtual Machine or LXC Container",
            Policy.MANAGED,
            Kind.REF,
            learn=("machine_types", "slug"),
        ),
        FieldSpec(
            "platform",
            f"{_CONFIG} ostype",
            "its name in Proxmox's UI",
            Policy.MANAGED,
            Kind.REF,
            learn=("platforms", "slug"),
        ),
        FieldSpec("vcpus", f"{_RESOURCES} maxcpu", "0 clears", kind=Kind.NUMBER),
        FieldSpec("memory", f"{_RESOURCES} maxmem", "bytes to MiB"),
        FieldSpec(
            "disk",
            f"{_CONFIG} disks",
            "MiB, their sum when the row is made; from then on NetBox sums up the virtual disks",
            Policy.CREATE_ONLY,
        ),
        FieldSpec("serial", f"{_CONFIG} smbios1 uuid", "upper case", Policy.MANAGED, limit=50),
        FieldSpec(
            "description", f"{_CONFIG} description", "the first line that is not empty", Policy.MANAGED, limit=200
        ),
        FieldSpec(
            "comments",
            f"{_CONFIG} description",
            "the whole note, when it has more than the description",
            Policy.MANAGED,
            limit=1_000_000,
        ),
        FieldSpec(
            "tags",
            f"{_CONFIG} tags, template",
            "ours ('proxbox', 'proxbox-template' of a template, and Proxmox's) are kept beside people's; taken off in "
            "Proxmox, taken off here",
            Policy.MANAGED,
            Kind.TAGS,
        ),
    ),
    unique=(UniqueKey(("name", "cluster"), "name__ie", casefold=True),),
    missing_status="decommissioning",
    lets_go=(("cluster", "site"), ("device", "site")),
    proof=("serial", "name"),
    proof_under=("dcim/mac-addresses", "virtual_machine_id", "mac_address"),
    gives_way="name",
    narrow=("cf_proxmox_vm_id", ""),
    children=(
        ("virtualization/virtual-disks", "virtual_machine_id"),
        ("virtualization/interfaces", "virtual_machine_id"),
        ("ipam/ip-addresses", "virtual_machine_id"),
        ("ipam/services", "virtual_machine_id"),
    ),
)

VM_SYNC_STATE = ModelSpec(
    name="vm_sync_states",
    path="plugins/proxbox/sync-state/virtual-machines",
    model="netbox_proxbox.proxboxvirtualmachinesyncstate",
    identity=("virtual_machine",),
    fields=(
        ENDPOINT,
        FieldSpec("virtual_machine", FIXED, "the virtual machine", kind=Kind.REF, required=True),
        FieldSpec("endpoint", FIXED, "the plugin's endpoint row", kind=Kind.REF, learn=("endpoints", "name")),
        FieldSpec("proxmox_endpoint_raw_id", FIXED, "id of the plugin's endpoint row", kind=Kind.REF),
        FieldSpec(
            "proxmox_node",
            f"{_RESOURCES} node",
            "the plugin's node row",
            kind=Kind.REF,
            learn=("proxmox_nodes", "name"),
        ),
        FieldSpec("proxmox_node_name", f"{_RESOURCES} node", limit=255),
        FieldSpec(
            "proxmox_cluster",
            FIXED,
            "the plugin's cluster row",
            kind=Kind.REF,
            learn=("proxmox_clusters", "name"),
        ),
        FieldSpec("proxmox_cluster_name", "/cluster/status name", limit=255),
        FieldSpec("proxmox_vm_id", f"{_RESOURCES} vmid"),
        FieldSpec("proxmox_vm_type", f"{_RESOURCES} type", limit=64),
        FieldSpec("proxmox_vm_name", f"{_CONFIG} name or hostname", limit=255),
        FieldSpec("proxmox_status", f"{_RESOURCES} status", limit=64),
        FieldSpec("proxmox_start_at_boot", f"{_CONFIG} onboot"),
        FieldSpec("proxmox_unprivileged_container", f"{_CONFIG} unprivileged", "false for QEMU"),
        FieldSpec("proxmox_qemu_agent", f"{_CONFIG} agent", "1 or enabled=1,...; false for LXC"),
        FieldSpec("proxmox_search_domain", f"{_CONFIG} searchdomain", limit=255),
        FieldSpec("proxmox_os", f"{_CONFIG} ostype", limit=255),
        FieldSpec("proxmox_cpu_type", f"{_CONFIG} cpu", "the type without its flags", limit=255),
        FieldSpec("proxmox_tags", f"{_CONFIG} tags", "in alphabetical order, separated by semicolons", limit=100_000),
        FieldSpec("proxmox_link", FIXED, "the guest's page in Proxmox's UI", limit=500),
        TAGS,
    ),
    plugin=True,
    pages=False,
    unique=(UniqueKey(("virtual_machine",), "virtual_machine_id"),),
    label="proxmox_vm_name",
    parent="virtual_machine",
    narrow=("virtual_machine_id", "virtual_machines"),
    removal="ignore",
)

GUEST_TAGS = ObjectClass("tags", TAG, "Tags", "The tags of guests, in the colours that Proxmox shows them in.")
GUEST_CUSTOM_FIELDS = ObjectClass(
    "custom_fields",
    CUSTOM_FIELD,
    "Custom fields",
    "The custom fields by which a virtual machine is known.",
    fixed=True,
)
GUEST_ROLES = ObjectClass(
    "guest_roles", ROLE, "Guest roles", "The device roles of QEMU machines and containers.", fixed=True
)
MACHINE_TYPES = ObjectClass(
    "machine_types",
    MACHINE_TYPE,
    "Virtual machine types",
    "QEMU Virtual Machine and LXC Container.",
    fixed=True,
)
GUEST_PLATFORMS = ObjectClass("guest_platforms", PLATFORM, "Guest platforms", "Operating systems of guests.")
VIRTUAL_MACHINES = ObjectClass(
    "virtual_machines", VIRTUAL_MACHINE, "Virtual machines", "QEMU machines and LXC containers, templates too."
)
VM_SYNC_STATES = ObjectClass(
    "vm_sync_states", VM_SYNC_STATE, "Virtual machine sync states", "The plugin's data beside each virtual machine."
)
