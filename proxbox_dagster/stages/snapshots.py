"""Stage 7: snapshots of guests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from proxbox_dagster.facts import UNOBSERVED, GapKind
from proxbox_dagster.netbox.spec import Coverage, Desired, FieldSpec, Kind, ModelSpec, ObjectClass, Row, UniqueKey
from proxbox_dagster.proxmox.parse.disks import Disk, disks
from proxbox_dagster.stages.common import ENDPOINT, TAGS, owned, storage_ref, vm_ref
from proxbox_dagster.stages.guests import Guest, guest_gap, guests
from proxbox_dagster.stages.stage import Inputs, Stage, StageContext

_SNAPSHOT = "/nodes/{node}/{type}/{vmid}/snapshot"

SNAPSHOT = ModelSpec(
    name="snapshots",
    path="plugins/proxbox/snapshots",
    model="netbox_proxbox.vmsnapshot",
    identity=("virtual_machine", "name"),
    fields=(
        ENDPOINT,
        FieldSpec("virtual_machine", "—", "the guest's virtual machine", kind=Kind.REF, required=True),
        FieldSpec("name", f"{_SNAPSHOT} name", "all but 'current'", limit=255, required=True),
        FieldSpec("vmid", "/cluster/resources vmid", required=True),
        FieldSpec(
            "node",
            "/cluster/resources node",
            "with '@ENDPOINT' behind it where another cluster has a guest of the same VMID on a node of the same name "
            "with a snapshot of the same name: the plugin holds only one such row",
            limit=255,
            required=True,
        ),
        FieldSpec("subtype", "/cluster/resources type", "qemu or lxc", required=True),
        FieldSpec("status", _SNAPSHOT, "active; stale once it is missing", required=True),
        FieldSpec("description", f"{_SNAPSHOT} description"),
        FieldSpec("snaptime", f"{_SNAPSHOT} snaptime", "UTC; 0 clears", kind=Kind.DATETIME),
        FieldSpec("parent", f"{_SNAPSHOT} parent", "name of the snapshot before; empty for the first", limit=255),
        FieldSpec(
            "proxmox_storage",
            "/nodes/{node}/{type}/{vmid}/config disks",
            "the plugin's row of the storage that all disks of the guest are on; empty when they are on several",
            kind=Kind.REF,
            learn=("storage", "name"),
        ),
        TAGS,
    ),
    plugin=True,
    unique=(UniqueKey(("name", "virtual_machine"), "name"),),
    parent="virtual_machine",
    narrow=("vmid", ""),
    removal="delete",
    missing_status="stale",
    clash_field="node",
)

SNAPSHOTS = ObjectClass("snapshots", SNAPSHOT, "Snapshots", "The snapshots of guests, each with the one before it.")


def build(inputs: Inputs, context: StageContext) -> list[Desired]:
    """Desired rows of stage 7 from ``guest_snapshots``, ``guests`` and ``guest_configs``."""
    if not context.plugin:
        return []
    read = inputs["guest_snapshots"]
    by_guest: dict[tuple[str, int], list[Mapping[str, Any]]] = defaultdict(list)
    for entry in read.rows:
        by_guest[entry["type"], entry["vmid"]].append(entry)
    desired = Desired(SNAPSHOTS)
    covered = set()
    for guest in guests(inputs, context):
        gap = guest_gap(read, guest.kind, guest.vmid, guest.node)
        rows = by_guest.get((guest.kind, guest.vmid), [])
        if gap is None:
            covered.add(vm_ref(context, guest.kind, guest.vmid))
        elif gap.is_error and not (rows and gap.kind is GapKind.UNREADABLE):
            desired.fail(guest.label, f"its snapshots could not be read: {gap.reason}")
        else:
            desired.skip(guest.label, gap.reason)
        storage = _storage(context, guest)
        for row in sorted(rows, key=lambda row: row["name"]):
            desired.rows.append(_snapshot(context, guest, row, storage))
            if row["snapstate"]:
                desired.notes.append(_broken(guest, row))
    desired.coverage = Coverage(
        parents=frozenset(covered), reason="only guests whose list of snapshots was read are covered"
    )
    return [desired]


def _snapshot(context: StageContext, guest: Guest, row: Mapping[str, Any], storage: Any) -> Row:
    values = {
        "virtual_machine": vm_ref(context, guest.kind, guest.vmid),
        "name": row["name"],
        "vmid": guest.vmid,
        "node": guest.node,
        "subtype": guest.kind,
        "status": "active",
        "description": row["description"],
        "snaptime": UNOBSERVED if row["snaptime"] is UNOBSERVED else row["snaptime"] or None,
        "parent": row["parent"],
        "proxmox_storage": storage,
    }
    return Row(owned(context, values), f"{guest.label} {row['name']}", context.link(guest.key))


def _storage(context: StageContext, guest: Guest) -> Any:
    """The storage that all of the guest's volumes are on, and so the snapshots; ``None`` when they are on several.

    Proxmox moves no volume that has snapshots, so today's configuration tells where they are.
    """
    if guest.config is None:
        return UNOBSERVED
    found = {
        disk.storage
        for disk in disks(guest.config, guest.kind).values()
        if isinstance(disk, Disk) and disk.kind == "disk" and disk.storage
    }
    return storage_ref(context, found.pop()) if len(found) == 1 else None


def _broken(guest: Guest, row: Mapping[str, Any]) -> str:
    what = {"prepare": "making", "delete": "deleting"}.get(str(row["snapstate"]), str(row["snapstate"]))
    tool = "pct" if guest.kind == "lxc" else "qm"
    return (
        f"{guest.label}: {what} snapshot {row['name']} is under way or was broken off; if nothing runs any more, "
        f"'{tool} unlock {guest.vmid}' and '{tool} delsnapshot {guest.vmid} {row['name']} --force'"
    )


STAGE = Stage(
    number=7,
    name="snapshots",
    group="guest_data",
    title="Snapshots",
    description="The snapshots of guests, each with its time, its description and the one before it.",
    sources=("guest_snapshots", "guests", "guest_configs"),
    object_classes=(SNAPSHOTS,),
    upstream=("virtual_machines",),
    build=build,
)
