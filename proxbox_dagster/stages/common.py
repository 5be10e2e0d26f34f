"""Rules that several stages share: the fields that every row of ours has, and how rows name one another."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from slugify import slugify

from proxbox_dagster.facts import UNOBSERVED, Fetched, GapKind
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
from proxbox_dagster.proxmox.parse.problem import ParseProblem
from proxbox_dagster.proxmox.parse.values import properties
from proxbox_dagster.stages.stage import StageContext

_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,14}", re.ASCII)
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,8})\.[0-9]{0,5}[1-9]", re.ASCII)
_EXACT = 10**15
"""Below it NetBox's JSON keeps every whole number as it is."""

OWNER_TAGS = frozenset({OWNER_TAG})

SHARED = Coverage(reason="objects that endpoints share are never removed")
"""Of classes in which a row may be of use to another endpoint, or to people."""

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
    """The site of the endpoint's cluster: where NetBox has it, else from the settings, else the one made for it.

    People move clusters and nodes to other sites, and clusters get other names. NetBox takes a node or a VLAN of
    another site than its cluster's for an error.
    """
    return Ref("sites", (context.netbox_site or context.site or default_site(context, cluster_status),))


def site_under(context: StageContext, cluster_status: Fetched, *above: Ref) -> Ref:
    """The site for what is under these rows, the nearest first: where NetBox has one of them, else the cluster's."""
    found = next((slug for ref in above if (slug := context.placed(ref))), None)
    return Ref("sites", (found,)) if found else site_ref(context, cluster_status)


def default_site(context: StageContext, cluster_status: Fetched) -> str:
    """Slug of the site that is made for a cluster."""
    return slug_of(f"proxmox-default-site-{cluster_name(context, cluster_status)}")


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
                return Coverage(reason=gap.reason, gap=True)
    return Coverage(everything=True) if sources else NOTHING_COVERED


def sorted_list(text: Any) -> Any:
    """A comma-separated set in one order, numbers by value: Proxmox gives sets as lists in any order.

    ``None`` for an empty one; ``UNOBSERVED`` stays.
    """
    if not text:
        return text if text is UNOBSERVED else None
    parts = {part.strip() for part in text.split(",")} - {""}
    return ",".join(sorted(parts, key=lambda part: (not part.isdecimal(), len(part) * part.isdecimal(), part))) or None


def plain_config(
    raw: Mapping[str, Any] | None, sets: Collection[str] = (), objects: Collection[str] = ()
) -> dict[str, Any]:
    """An entry of Proxmox as JSON for ``raw_config``, the same for every spelling of the same entry.

    Numbers in text become numbers and booleans 0 or 1, because Perl decides per value which of them JSON shows.
    ``sets`` are keys with comma-separated lists in any order, ``objects`` keys with a property string or the same as
    an object; both get one form.
    """
    made: dict[str, Any] = {}
    for key, value in sorted((raw or {}).items()):
        if key in sets and isinstance(value, str):
            value = sorted_list(value)
        elif key in objects:
            fields = properties(value)
            value = value if isinstance(fields, ParseProblem) else fields
        made[str(key)] = _plain(value)
    return made


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in sorted(value.items(), key=lambda item: str(item[0]))}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if value is None:
        return None
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value if abs(value) < _EXACT else str(value)
    if isinstance(value, float):
        whole = math.isfinite(value) and value.is_integer() and abs(value) < _EXACT
        return int(value) if whole else value if math.isfinite(value) else str(value)
    text = str(value).replace("\x00", "").encode("utf-8", "replace").decode()  # NetBox's database takes neither
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) else text
