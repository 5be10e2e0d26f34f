"""Stage 2: the cluster's storages, in the plugin's storage rows."""

from __future__ import annotations

from proxbox_dagster.facts import UNOBSERVED
from proxbox_dagster.netbox.spec import Desired, FieldSpec, Kind, ModelSpec, ObjectClass, Row, UniqueKey
from proxbox_dagster.stages.common import ENDPOINT, TAGS, cluster_ref, covered, owned, plain_config, sorted_list
from proxbox_dagster.stages.stage import Inputs, Stage, StageContext

_TEXTS = {
    # NetBox field: longest text
    "path": 255,
    "nodes": None,
    "server": 255,
    "username": 255,
    "export": 255,
    "share": 255,
    "pool": 255,
    "monhost": 512,
    "namespace": 255,
    "datastore": 255,
    "subdir": 255,
    "mountpoint": 255,
    "is_mountpoint": 255,
    "preallocation": 50,
    "format": 100,
}

STORAGE = ModelSpec(
    name="storage",
    path="plugins/proxbox/storage",
    model="netbox_proxbox.proxmoxstorage",
    identity=("cf.proxmox_endpoint", "name"),
    fields=(
        ENDPOINT,
        FieldSpec("cluster", "—", "the endpoint's NetBox cluster", kind=Kind.REF, required=True),
        FieldSpec("name", "/storage storage", limit=255, required=True),
        FieldSpec("storage_type", "/storage type", limit=100),
        FieldSpec("content", "/storage content", "in alphabetical order", limit=255),
        *(
            FieldSpec(name, f"/storage {name}", "in alphabetical order" if name == "nodes" else "as it is", limit=limit)
            for name, limit in _TEXTS.items()
        ),
        FieldSpec("port", "/storage port"),
        FieldSpec("shared", "/storage shared", "else what the nodes see; false when neither says"),
        FieldSpec("enabled", "/storage disable", "its opposite"),
        FieldSpec("prune_backups", "/storage prune-backups", limit=512),
        FieldSpec("max_protected_backups", "/storage max-protected-backups"),
        FieldSpec(
            "raw_config", "/storage", "the whole entry; numbers as numbers, sets in alphabetical order", kind=Kind.JSON
        ),
        TAGS,
    ),
    plugin=True,
    unique=(UniqueKey(("name", "cluster"), "name"),),
    removal="mark",
)

STORAGES = ObjectClass("storage", STORAGE, "Storage", "The cluster's storages, in the plugin's storage rows.")


def build(inputs: Inputs, context: StageContext) -> list[Desired]:
    """Desired storage rows from ``storage`` and ``node_storage``."""
    if not context.plugin:
        return []
    read = inputs["storage"]
    served = inputs["node_storage"].rows
    seen_shared = {row["storage"]: bool(row["shared"]) for row in served if row["shared"]}
    # Proxmox's UI knows a storage only as that of a node, a shared one too, and none that is switched off.
    shown = [row for row in reversed(served) if row["enabled"] is True]
    places = {row["storage"]: f"storage/{row['node']}/{row['storage']}" for row in shown}
    desired = Desired(STORAGES, coverage=covered(context, read))
    for row in read.rows:
        name = row["storage"]
        if not context.scope.storage(name) and not context.scope.is_full:
            continue
        values = {
            "cluster": cluster_ref(context),
            "name": name,
            "storage_type": row["type"],
            "content": sorted_list(row["content"]),
            **{key: row[key] for key in _TEXTS if key != "nodes"},
            "nodes": sorted_list(row["nodes"]),
            "port": row["port"],
            "shared": seen_shared.get(name, False) if row["shared"] is None else row["shared"],
            "enabled": UNOBSERVED if row["disable"] is UNOBSERVED else not row["disable"],
            "prune_backups": row["prune-backups"],
            "max_protected_backups": row["max-protected-backups"],
            "raw_config": plain_config(row["raw"], sets=("content", "nodes"), objects=("prune-backups",)),
        }
        desired.rows.append(Row(owned(context, values), name, context.link(places.get(name, "cluster"))))
    return [desired]


STAGE = Stage(
    number=2,
    name="storage",
    group="infrastructure",
    title="Storage",
    description="The cluster's storages, in the plugin's storage rows.",
    sources=("storage", "node_storage"),
    object_classes=(STORAGES,),
    upstream=("devices",),
    build=build,
)
