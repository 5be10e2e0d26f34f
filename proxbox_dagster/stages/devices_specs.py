"""Stage 1, what is written: sites, clusters, devices and the plugin's endpoint, cluster and node rows."""

from __future__ import annotations

from proxbox_dagster.netbox.spec import (
    FieldSpec,
    Kind,
    ModelSpec,
    ObjectClass,
    Ownership,
    Policy,
    UniqueKey,
)
from proxbox_dagster.stages.common import ENDPOINT, TAGS

FIXED = "—"
_MANAGED_TAGS = FieldSpec("tags", FIXED, "ours are kept beside people's", Policy.MANAGED, Kind.TAGS)


def shared_spec(name: str, path: str, model: str, *fields: FieldSpec) -> ModelSpec:
    """A class of objects found or made by slug, and changed only where they carry the tag ``proxbox``."""
    return ModelSpec(
        name=name,
        path=path,
        model=model,
        identity=("slug",),
        fields=(
            FieldSpec("slug", FIXED, limit=100, required=True),
            FieldSpec("name", FIXED, limit=100, policy=Policy.CREATE_ONLY, required=True),
            *fields,
            TAGS,
        ),
        ownership=Ownership.SHARED,
        unique=(UniqueKey(("slug",), "slug"),),
        removal="ignore",
    )


DESCRIPTION = FieldSpec("description", FIXED, "fixed", Policy.CREATE_ONLY, limit=200)

SITE = shared_spec("sites", "dcim/sites", "dcim.site", FieldSpec("status", FIXED, "active", Policy.CREATE_ONLY))
CLUSTER_TYPE = shared_spec("cluster_types", "virtualization/cluster-types", "virtualization.clustertype", DESCRIPTION)
MANUFACTURER = shared_spec("manufacturers", "dcim/manufacturers", "dcim.manufacturer")
DEVICE_TYPE = ModelSpec(
    name="device_types",
    path="dcim/device-types",
    model="dcim.devicetype",
    identity=("slug",),
    fields=(
        FieldSpec("slug", FIXED, limit=100, required=True),
        FieldSpec("model", FIXED, "Proxmox Generic Device", Policy.CREATE_ONLY, limit=100, required=True),
        FieldSpec("manufacturer", FIXED, "Proxmox", Policy.CREATE_ONLY, Kind.REF, required=True),
        TAGS,
    ),
    ownership=Ownership.SHARED,
    unique=(UniqueKey(("slug",), "slug"),),
    removal="ignore",
    label="model",
)
ROLE = shared_spec(
    "device_roles",
    "dcim/device-roles",
    "dcim.devicerole",
    FieldSpec("color", FIXED, "fixed", Policy.CREATE_ONLY),
    FieldSpec("vm_role", FIXED, "fixed", Policy.CREATE_ONLY),
    DESCRIPTION,
)
# Of no manufacturer: NetBox refuses a platform of one to devices of every other, and nodes are people's hardware.
PLATFORM = shared_spec("platforms", "dcim/platforms", "dcim.platform")

CLUSTER = ModelSpec(
    name="clusters",
    path="virtualization/clusters",
    model="virtualization.cluster",
    identity=("cf.proxmox_endpoint",),
    fields=(
        ENDPOINT,
        FieldSpec(
            "name",
            "/cluster/status name of the cluster, else of the stand-alone node",
            "the settings' cluster, where given",
            Policy.MANAGED,
            limit=100,
            required=True,
        ),
        FieldSpec(
            "type",
            "/cluster/status",
            "Cluster, or Standalone without a cluster row",
            Policy.MANAGED,
            Kind.REF,
            required=True,
        ),
        FieldSpec("scope_type", FIXED, "dcim.site", Policy.CREATE_ONLY),
        FieldSpec(
            "scope_id",
            "the settings' site",
            "else the site made for the cluster",
            Policy.CREATE_ONLY,
            Kind.REF,
            column="scope",
        ),
        FieldSpec("description", "/cluster/status", "Proxmox cluster / standalone host", Policy.MANAGED, limit=200),
        _MANAGED_TAGS,
    ),
    unique=(UniqueKey(("name",), "name"),),
    removal="ignore",
    children=(
        ("virtualization/virtual-machines", "cluster_id"),
        ("dcim/devices", "cluster_id"),
        ("ipam/vlan-groups", "scope_*"),
    ),
)

_COMPONENTS = (
    "interface",
    "console-port",
    "console-server-port",
    "power-port",
    "power-outlet",
    "front-port",
    "rear-port",
    "module-bay",
    "device-bay",
)

DEVICE = ModelSpec(
    name="devices",
    path="dcim/devices",
    model="dcim.device",
    identity=("cf.proxmox_endpoint", "cf.proxmox_node_name"),
    fields=(
        ENDPOINT,
        FieldSpec("cf.proxmox_node_name", "/nodes node", limit=100, required=True),
        FieldSpec("name", "/nodes node", policy=Policy.MANAGED, limit=64, required=True),
        FieldSpec("device_type", FIXED, "Proxmox Generic Device", Policy.MANAGED, Kind.REF, required=True),
        FieldSpec("role", FIXED, "Proxmox Node", Policy.MANAGED, Kind.REF, required=True),
        FieldSpec("platform", "/nodes/{node}/version release", "Proxmox VE 9.1", Policy.MANAGED, Kind.REF),
        FieldSpec("site", "the cluster's site", policy=Policy.CREATE_ONLY, kind=Kind.REF, required=True),
        FieldSpec("cluster", "/cluster/status", "the endpoint's cluster", Policy.ALWAYS, Kind.REF, required=True),
        FieldSpec("status", "/cluster/status online", "1: active, 0: offline", Policy.MANAGED),
        FieldSpec("description", "/nodes node", "Proxmox Node NAME", Policy.MANAGED, limit=200),
        _MANAGED_TAGS,
    ),
    unique=(UniqueKey(("name", "site"), "name__ie", casefold=True),),
    missing_status="decommissioning",
    children=tuple(
        (path, "device_id")
        for path in (
            *(f"dcim/{name}s" for name in _COMPONENTS),
            "dcim/cables",
            "dcim/inventory-items",
            "dcim/modules",
            "ipam/ip-addresses",
            "ipam/services",
        )
    ),
)

ENDPOINT_ADDRESS = ModelSpec(
    name="endpoint_addresses",
    path="ipam/ip-addresses",
    model="ipam.ipaddress",
    identity=("host",),
    fields=(
        FieldSpec(
            "host", "the endpoint's first host", "an address, not a name", Policy.NEVER, Kind.HOST, column="address"
        ),
        FieldSpec(
            "address",
            "the endpoint's first host in the settings",
            "as a host route, until a node's interface is found to have it",
            Policy.CREATE_ONLY,
            Kind.ADDRESS,
            required=True,
        ),
        TAGS,
    ),
    ownership=Ownership.SHARED,
    plugin=True,
    unique=(UniqueKey(("host",), "address"),),
    removal="ignore",
    label="address",
)

ENDPOINT_ROW = ModelSpec(
    name="endpoints",
    path="plugins/proxbox/endpoints/proxmox",
    model="netbox_proxbox.proxmoxendpoint",
    identity=("name",),
    fields=(
        FieldSpec("name", "the endpoint's name in the settings", limit=255, required=True),
        FieldSpec("domain", "the endpoint's first host in the settings", "left out for a bare address", limit=255),
        FieldSpec("ip_address", "the endpoint's first host in the settings", "when it is an address", kind=Kind.REF),
        FieldSpec("port", "the endpoint's port in the settings"),
        FieldSpec("mode", "/cluster/status", "cluster or standalone", required=True),
        FieldSpec("version", "/nodes/{node}/version version of the first node online", limit=20),
        FieldSpec("repoid", "/nodes/{node}/version repoid of the same node", limit=16),
        FieldSpec("username", "the endpoint's user in the settings", limit=255),
        FieldSpec("token_name", "the endpoint's token_name in the settings", "the secret is never sent", limit=255),
        FieldSpec("verify_ssl", "the endpoint's verify_ssl in the settings", "true also for a CA file"),
        FieldSpec("site", "the cluster's site", policy=Policy.CREATE_ONLY, kind=Kind.REF),
        TAGS,
    ),
    ownership=Ownership.SHARED,
    plugin=True,
    unique=(UniqueKey(("name",), "name"),),
    removal="ignore",
)

PROXMOX_CLUSTER = ModelSpec(
    name="proxmox_clusters",
    path="plugins/proxbox/proxmox-clusters",
    model="netbox_proxbox.proxmoxcluster",
    identity=("cf.proxmox_endpoint",),
    fields=(
        ENDPOINT,
        FieldSpec("endpoint", FIXED, "the plugin's endpoint row", kind=Kind.REF, required=True),
        FieldSpec("name", "/cluster/status name", "of the cluster, else of the node", limit=255, required=True),
        FieldSpec("netbox_cluster", FIXED, "the NetBox cluster", kind=Kind.REF),
        FieldSpec("cluster_id", "/cluster/status id", limit=255),
        FieldSpec("mode", "/cluster/status", "cluster or standalone", required=True),
        FieldSpec("nodes_count", "/cluster/status nodes", "1 for a stand-alone host"),
        FieldSpec("quorate", "/cluster/status quorate", "true for a stand-alone host"),
        FieldSpec("version", "/cluster/status version"),
        TAGS,
    ),
    plugin=True,
    list_page="/api/plugins/proxbox/proxmox-clusters/",
    unique=(UniqueKey(("name", "endpoint"), "name"),),
    removal="ignore",
)

PROXMOX_NODE = ModelSpec(
    name="proxmox_nodes",
    path="plugins/proxbox/proxmox-nodes",
    model="netbox_proxbox.proxmoxnode",
    identity=("cf.proxmox_endpoint", "name"),
    fields=(
        ENDPOINT,
        FieldSpec("endpoint", FIXED, "the plugin's endpoint row", kind=Kind.REF, required=True),
        FieldSpec("name", "/nodes node", limit=255, required=True),
        FieldSpec("ip_address", "/cluster/status ip", "else the settings' host, if an address", required=True),
        FieldSpec("proxmox_cluster", FIXED, "the plugin's cluster row", kind=Kind.REF),
        FieldSpec("netbox_device", FIXED, "the device", kind=Kind.REF),
        FieldSpec("node_id", "/cluster/status nodeid"),
        FieldSpec("online", "/cluster/status online"),
        FieldSpec("max_cpu", "/nodes maxcpu", "not touched while the node is offline"),
        FieldSpec("max_memory", "/nodes maxmem", "bytes; not touched while the node is offline"),
        FieldSpec("ssl_fingerprint", "/nodes ssl_fingerprint", limit=255),
        FieldSpec("support_level", "/nodes level", limit=100),
        TAGS,
    ),
    plugin=True,
    list_page="/api/plugins/proxbox/proxmox-nodes/",
    unique=(UniqueKey(("name", "endpoint"), "name"),),
    removal="mark",
)

CLUSTER_SYNC_STATE = ModelSpec(
    name="cluster_sync_states",
    path="plugins/proxbox/sync-state/clusters",
    model="netbox_proxbox.proxboxclustersyncstate",
    identity=("cluster",),
    fields=(
        ENDPOINT,
        FieldSpec("cluster", FIXED, "the NetBox cluster", kind=Kind.REF, required=True),
        FieldSpec("proxmox_cluster", FIXED, "the plugin's cluster row", kind=Kind.REF),
        FieldSpec("proxmox_cluster_name", "/cluster/status name", limit=255),
        FieldSpec("proxmox_cluster_status", "/cluster/status quorate", "quorate or no quorum", limit=64),
        FieldSpec("proxmox_cluster_raw_id", FIXED, "id of the plugin's cluster row", kind=Kind.REF),
        TAGS,
    ),
    plugin=True,
    pages=False,
    unique=(UniqueKey(("cluster",), "cluster_id"),),
    label="proxmox_cluster_name",
    removal="ignore",
)

DEVICE_SYNC_STATE = ModelSpec(
    name="device_sync_states",
    path="plugins/proxbox/sync-state/devices",
    model="netbox_proxbox.proxboxdevicesyncstate",
    identity=("device",),
    fields=(
        ENDPOINT,
        FieldSpec("device", FIXED, "the device", kind=Kind.REF, required=True),
        FieldSpec("endpoint", FIXED, "the plugin's endpoint row", kind=Kind.REF),
        FieldSpec("proxmox_node", FIXED, "the plugin's node row", kind=Kind.REF),
        FieldSpec("proxmox_node_name", "/nodes node", limit=255),
        FieldSpec("proxmox_cluster", FIXED, "the plugin's cluster row", kind=Kind.REF),
        FieldSpec("proxmox_cluster_name", "/cluster/status name", limit=255),
        FieldSpec("proxmox_endpoint_raw_id", FIXED, "id of the plugin's endpoint row", kind=Kind.REF),
        FieldSpec("proxmox_link", "—", "the node's page in Proxmox's UI", limit=500),
        FieldSpec("proxmox_os", "/nodes/{node}/version version", "Proxmox VE 9.1.4", limit=255),
        TAGS,
    ),
    plugin=True,
    pages=False,
    unique=(UniqueKey(("device",), "device_id"),),
    label="proxmox_node_name",
    removal="ignore",
)

SITES = ObjectClass("sites", SITE, "Sites", "The site of each cluster's nodes.")
CLUSTER_TYPES = ObjectClass("cluster_types", CLUSTER_TYPE, "Cluster types", "Cluster and Standalone.")
CLUSTERS = ObjectClass("clusters", CLUSTER, "Clusters", "One NetBox cluster per Proxmox endpoint.")
MANUFACTURERS = ObjectClass("manufacturers", MANUFACTURER, "Manufacturers", "Proxmox.")
DEVICE_TYPES = ObjectClass("device_types", DEVICE_TYPE, "Device types", "The generic device type of nodes.")
DEVICE_ROLES = ObjectClass("device_roles", ROLE, "Device roles", "The role of nodes.")
PLATFORMS = ObjectClass("platforms", PLATFORM, "Platforms", "Proxmox VE by release, of the nodes.")
DEVICES = ObjectClass("devices", DEVICE, "Devices", "The nodes.")
ENDPOINT_ADDRESSES = ObjectClass(
    "endpoint_addresses", ENDPOINT_ADDRESS, "Endpoint addresses", "Addresses by which endpoints are reached."
)
ENDPOINTS = ObjectClass("endpoints", ENDPOINT_ROW, "Proxmox endpoints", "The plugin's endpoint rows.")
PROXMOX_CLUSTERS = ObjectClass("proxmox_clusters", PROXMOX_CLUSTER, "Proxmox clusters", "The plugin's cluster rows.")
PROXMOX_NODES = ObjectClass("proxmox_nodes", PROXMOX_NODE, "Proxmox nodes", "The plugin's node rows.")
CLUSTER_SYNC_STATES = ObjectClass(
    "cluster_sync_states", CLUSTER_SYNC_STATE, "Cluster sync states", "The plugin's data beside each cluster."
)
DEVICE_SYNC_STATES = ObjectClass(
    "device_sync_states", DEVICE_SYNC_STATE, "Device sync states", "The plugin's data beside each device."
)
