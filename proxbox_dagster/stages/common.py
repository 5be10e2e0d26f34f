"""Rules that several stages share: the fields that every row of ours has, and how rows name one another."""

from __future__ import annotations

from typing import Any

from slugify import slugify

from proxbox_dagster.facts import Fetched, GapKind
from proxbox_dagster.netbox.spec import (
    ENDPOINT_FIELD,
    NOTHING_COVERED,
    OWNER_TAG,
    Coverage,
    FieldSpec,
    Kind,
    Policy,
    Ref,
)
from proxbox_dagster.stages.stage import StageContext

OWNER_TAGS = frozenset({OWNER_TAG})

ENDPOINT = FieldSpec(ENDPOINT_FIELD, "the endpoint's name in the settings", policy=Policy.ALWAYS, limit=100)
"""Ownership: on every row of this endpoint."""

TAGS = FieldSpec("tags", "—", "the tag 'proxbox' when the row is made", Policy.CREATE_ONLY, Kind.TAGS)
"""The ownership tag of rows whose other tags are people's alone."""


def owned(context: StageContext, values: dict[str, Any]) -> dict[str, Any]:
    """``values`` with what marks a row as ours and of this endpoint."""
    return {ENDPOINT_FIELD: context.endpoint, "tags": OWNER_TAGS, **values}


def slug_of(text: str, limit: int = 100) -> str:
    """NetBox's slug of a name."""
    return slugify(text, max_length=limit) or "unnamed"


def endpoint_ref(context: StageContext) -> Ref:
    """The plugin's endpoint row."""
    return Ref("endpoints", (context.endpoint,))


def cluster_ref(context: StageContext) -> Ref:
    """The NetBox cluster of this endpoint."""
    return Ref("clusters", (context.endpoint,))


def proxmox_cluster_ref(context: StageContext) -> Ref:
    """The plugin's cluster row of this endpoint."""
    return Ref("proxmox_clusters", (context.endpoint,))


def device_ref(context: StageContext, node: str) -> Ref:
    """The device of a node."""
    return Ref("devices", (context.endpoint, node))


def proxmox_node_ref(context: StageContext, node: str) -> Ref:
    """The plugin's row of a node."""
    return Ref("proxmox_nodes", (context.endpoint, node))


def storage_ref(context: StageContext, storage: str) -> Ref:
    """The plugin's row of a storage."""
    return Ref("storage", (context.endpoint, storage))


def vm_ref(context: StageContext, kind: str, vmid: int) -> Ref:
    """The virtual machine of a guest; ``kind`` is qemu or lxc."""
    return Ref("virtual_machines", (context.endpoint, kind, vmid))


def cluster_name(context: StageContext, cluster_status: Fetched) -> str | None:
    """The NetBox cluster's name: from the settings, else the Proxmox cluster's, else the stand-alone node's."""
    if context.cluster:
        return context.cluster
    rows = cluster_status.rows
    named = [row["name"] for row in rows if row["type"] == "cluster"] or [
        row["name"] for row in rows if row["type"] == "node"
    ]
    return named[0] if named else None


def site_ref(context: StageContext, cluster_status: Fetched) -> Ref:
    """The site of the endpoint's cluster: from the settings, else the one made for the cluster."""
    name = cluster_name(context, cluster_status)
    return Ref("sites", (context.site or slug_of(f"proxmox-default-site-{name}"),))


def is_standalone(cluster_status: Fetched) -> bool:
    """True for a host that is in no cluster."""
    return not any(row["type"] == "cluster" for row in cluster_status.rows)


def covered(context: StageContext, *sources: Fetched) -> Coverage:
    """Everything, when the run is not narrowed and all of these reads were complete; else nothing, with the reason."""
    if not context.scope.is_full:
        return Coverage(reason=f"the run is narrowed to {context.scope}")
    for source in sources:
        for gap in source.gaps:
            if gap.kind is not GapKind.NOT_APPLICABLE:
                return Coverage(reason=gap.reason)
    return Coverage(everything=True) if sources else NOTHING_COVERED
