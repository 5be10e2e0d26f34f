"""Stage 1, the mapping: a Proxmox cluster or stand-alone host and its nodes."""

from __future__ import annotations

import ipaddress
from typing import Any

from proxbox_dagster.facts import UNOBSERVED
from proxbox_dagster.hosts import is_address
from proxbox_dagster.netbox.spec import Coverage, Desired, ObjectClass, Ref, Row
from proxbox_dagster.stages import devices_specs as specs
from proxbox_dagster.stages.common import (
    OWNER_TAGS,
    SHARED,
    cluster_name,
    cluster_ref,
    covered,
    default_site,
    device_ref,
    endpoint_ref,
    is_standalone,
    owned,
    proxmox_cluster_ref,
    proxmox_node_ref,
    site_ref,
    slug_of,
)
from proxbox_dagster.stages.ownership import (
    OWNERSHIP_CUSTOM_FIELDS,
    OWNERSHIP_TAGS,
    ownership_custom_fields,
    ownership_tags,
)
from proxbox_dagster.stages.stage import Inputs, Stage, StageContext


def build(inputs: Inputs, context: StageContext) -> list[Desired]:
    """Desired rows of stage 1 from ``cluster_status`` and ``nodes``, in the order in which they are written."""
    view = _View(inputs, context)
    core = [
        ownership_tags(),
        ownership_custom_fields(context),
        _sites(view),
        _shared(specs.CLUSTER_TYPES, view.cluster_type()),
        _shared(specs.MANUFACTURERS, {"slug": "proxmox", "name": "Proxmox"}),
        _shared(
            specs.DEVICE_TYPES,
            {
                "slug": "proxmox-generic-device",
                "model": "Proxmox Generic Device",
                "manufacturer": Ref("manufacturers", ("proxmox",)),
            },
        ),
        _shared(
            specs.DEVICE_ROLES,
            {"slug": "proxmox-node", "name": "Proxmox Node", "color": "00bcd4", "vm_role": False},
        ),
        _platforms(view),
        _clusters(view),
        _devices(view),
    ]
    if not context.plugin:
        return core
    return [
        *core,
        _endpoint_addresses(view),
        _endpoints(view),
        _proxmox_clusters(view),
        _proxmox_nodes(view),
        _cluster_sync_states(view),
        _device_sync_states(view),
    ]


class _View:
    """The two sources as the mapping wants them: the cluster's name and mode, and one record per node."""

    def __init__(self, inputs: Inputs, context: StageContext) -> None:
        self.context = context
        self.status = inputs["cluster_status"]
        self.read_nodes = inputs["nodes"]
        self.standalone = is_standalone(self.status)
        self.mode = "standalone" if self.standalone else "cluster"
        self.name = cluster_name(context, self.status)
        self.proxmox_name = cluster_name(StageContext(context.endpoint), self.status)
        self.cluster = next((row for row in self.status.rows if row["type"] == "cluster"), None)
        details = {row["node"]: row for row in self.read_nodes.rows}
        members = {row["name"]: row for row in self.status.rows if row["type"] == "node"}
        names = sorted(set(details) | set(members))
        self.nodes = {
            name: (members.get(name, {}), details.get(name, {})) for name in names if context.scope.node(name)
        }

    def site(self) -> Ref:
        return site_ref(self.context, self.status)

    def cluster_type(self) -> dict[str, Any]:
        return {
            "slug": self.mode,
            "name": self.mode.capitalize(),
            "description": f"Proxmox {self.mode} mode",
        }

    def online(self, node: str) -> bool | None:
        """Known from the cluster's own view, else from the list of nodes; ``None`` when neither says."""
        member, detail = self.nodes[node]
        if member.get("online") is not None:
            return bool(member["online"])
        return {"online": True, "offline": False}.get(str(detail.get("status")))

    def observed(self, node: str, value: Any) -> Any:
        """A size of a node; not observed while the node is offline or the token may not see it."""
        if value is None and (not self.online(node) or self.read_nodes.gap("node", node)):
            return UNOBSERVED
        return value


def _shared(object_class: ObjectClass, *values: dict[str, Any]) -> Desired:
    rows = [Row({**value, "tags": OWNER_TAGS}, str(value.get("name") or value["slug"])) for value in values]
    return Desired(object_class, rows, coverage=SHARED)


def _sites(view: _View) -> Desired:
    made = default_site(view.context, view.status)
    if view.name is None or view.site().key != (made,):
        return Desired(specs.SITES, coverage=SHARED)
    return _shared(
        specs.SITES,
        {"slug": made, "name": f"Proxmox Default Site - {view.name}", "status": "active"},
    )


def _platform(release: str) -> dict[str, Any]:
    name = f"Proxmox VE {release}"
    return {"slug": slug_of(name), "name": name}


def _platforms(view: _View) -> Desired:
    releases = {detail["release"] for _, detail in view.nodes.values() if detail.get("release")}
    return _shared(specs.PLATFORMS, *(_platform(release) for release in sorted(releases)))


def _clusters(view: _View) -> Desired:
    desired = Desired(specs.CLUSTERS)
    if view.name is None:
        desired.fail(view.context.endpoint, "Proxmox told neither a cluster's nor a node's name (/cluster/status)")
        return desired
    values = {
        "name": view.name,
        "type": Ref("cluster_types", (view.mode,)),
        "scope_type": "dcim.site",
        "scope_id": view.site(),
        "description": "Proxmox standalone host." if view.standalone else "Proxmox cluster.",
        "tags": OWNER_TAGS | {"proxbox-discovered-cluster"},
    }
    desired.rows.append(Row(owned(view.context, values), view.name, view.context.link("cluster")))
    return desired


def _devices(view: _View) -> Desired:
    desired = Desired(specs.DEVICES, coverage=covered(view.context, view.status, view.read_nodes))
    for node, (_, detail) in view.nodes.items():
        online = view.online(node)
        release = detail.get("release")
        values = {
            "cf.proxmox_node_name": node,
            "name": node,
            "device_type": Ref("device_types", ("proxmox-generic-device",)),
            "role": Ref("device_roles", ("proxmox-node",)),
            "platform": Ref("platforms", (_platform(release)["slug"],)) if release else UNOBSERVED,
            "site": view.site(),
            "cluster": cluster_ref(view.context),
            "status": UNOBSERVED if online is None else "active" if online else "offline",
            "description": f"Proxmox Node {node}",
            "tags": OWNER_TAGS | {"proxbox-discovered-node"},
        }
        desired.rows.append(Row(owned(view.context, values), node, view.context.link(f"node/{node}")))
    return desired


def _endpoint_addresses(view: _View) -> Desired:
    desired = Desired(specs.ENDPOINT_ADDRESSES, coverage=SHARED)
    host = view.context.host
    if is_address(host):
        address = str(ipaddress.ip_interface(host))
        desired.rows.append(Row({"host": host, "address": address, "tags": OWNER_TAGS}, host))
    return desired


def _endpoints(view: _View) -> Desired:
    context = view.context
    versions = [detail for _, detail in view.nodes.values() if detail.get("version")]
    values = {
        "name": context.endpoint,
        "domain": None if is_address(context.host) else context.host,
        "ip_address": Ref("endpoint_addresses", (context.host,)) if is_address(context.host) else None,
        "port": context.port,
        "mode": view.mode,
        "version": versions[0]["version"] if versions else UNOBSERVED,
        "repoid": versions[0].get("repoid") if versions else UNOBSERVED,
        "username": context.user,
        "token_name": context.token_name,
        "verify_ssl": context.verify_ssl,
        "site": view.site(),
        "tags": OWNER_TAGS,
    }
    return Desired(specs.ENDPOINTS, [Row(values, context.endpoint, context.link("cluster"))], coverage=SHARED)


def _proxmox_clusters(view: _View) -> Desired:
    desired = Desired(specs.PROXMOX_CLUSTERS)
    if view.proxmox_name is None:
        return desired
    row = view.cluster or {}
    values = {
        "endpoint": endpoint_ref(view.context),
        "name": view.proxmox_name,
        "netbox_cluster": cluster_ref(view.context),
        "cluster_id": row.get("id"),
        "mode": view.mode,
        "nodes_count": row.get("nodes") if view.cluster else 1,
        "quorate": bool(row.get("quorate")) if view.cluster else True,
        "version": row.get("version"),
    }
    desired.rows.append(Row(owned(view.context, values), view.proxmox_name, view.context.link("cluster")))
    return desired


def _proxmox_nodes(view: _View) -> Desired:
    context = view.context
    desired = Desired(specs.PROXMOX_NODES, coverage=covered(context, view.status, view.read_nodes))
    for node, (member, detail) in view.nodes.items():
        address = member.get("ip") or (context.host if view.standalone and is_address(context.host) else None)
        if not address:
            key = (context.endpoint, node)
            desired.skip(node, "Proxmox tells no address of this node, which the plugin's row needs", key)
            continue
        values = {
            "endpoint": endpoint_ref(context),
            "name": node,
            "ip_address": address,
            "proxmox_cluster": proxmox_cluster_ref(context),
            "netbox_device": device_ref(context, node),
            "node_id": member.get("nodeid") if member else UNOBSERVED,
            "online": UNOBSERVED if (online := view.online(node)) is None else online,
            "max_cpu": view.observed(node, detail.get("maxcpu")),
            "max_memory": view.observed(node, detail.get("maxmem")),
            "ssl_fingerprint": view.observed(node, detail.get("ssl_fingerprint")),
            "support_level": view.observed(node, detail.get("level") or member.get("level") or None),
        }
        desired.rows.append(Row(owned(context, values), node, context.link(f"node/{node}")))
    return desired


def _cluster_sync_states(view: _View) -> Desired:
    desired = Desired(specs.CLUSTER_SYNC_STATES)
    if view.name is None:
        return desired
    quorate = view.standalone or bool((view.cluster or {}).get("quorate"))
    values = {
        "cluster": cluster_ref(view.context),
        "proxmox_cluster": proxmox_cluster_ref(view.context),
        "proxmox_cluster_name": view.proxmox_name,
        "proxmox_cluster_status": "quorate" if quorate else "no quorum",
        "proxmox_cluster_raw_id": proxmox_cluster_ref(view.context),
    }
    desired.rows.append(Row(owned(view.context, values), view.name))
    return desired


def _device_sync_states(view: _View) -> Desired:
    context = view.context
    desired = Desired(
        specs.DEVICE_SYNC_STATES, coverage=Coverage(reason="NetBox removes a sync state along with its device")
    )
    for node, (_, detail) in view.nodes.items():
        version = detail.get("version")
        values = {
            "device": device_ref(context, node),
            "endpoint": endpoint_ref(context),
            "proxmox_node": proxmox_node_ref(context, node),
            "proxmox_node_name": node,
            "proxmox_cluster": proxmox_cluster_ref(context),
            "proxmox_cluster_name": view.proxmox_name,
            "proxmox_endpoint_raw_id": endpoint_ref(context),
            "proxmox_link": context.link(f"node/{node}"),
            "proxmox_os": f"Proxmox VE {version}" if version else UNOBSERVED,
        }
        desired.rows.append(Row(owned(context, values), node, context.link(f"node/{node}")))
    return desired


STAGE = Stage(
    number=1,
    name="devices",
    group="infrastructure",
    title="Devices",
    description="The cluster and its nodes, with all that they need in NetBox: site, types, role, platform.",
    sources=("cluster_status", "nodes"),
    object_classes=(
        OWNERSHIP_TAGS,
        OWNERSHIP_CUSTOM_FIELDS,
        specs.SITES,
        specs.CLUSTER_TYPES,
        specs.MANUFACTURERS,
        specs.DEVICE_TYPES,
        specs.DEVICE_ROLES,
        specs.PLATFORMS,
        specs.CLUSTERS,
        specs.DEVICES,
        specs.ENDPOINT_ADDRESSES,
        specs.ENDPOINTS,
        specs.PROXMOX_CLUSTERS,
        specs.PROXMOX_NODES,
        specs.CLUSTER_SYNC_STATES,
        specs.DEVICE_SYNC_STATES,
    ),
    upstream=(),
    build=build,
)
