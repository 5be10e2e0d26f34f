"""Stage 6: backups of guests on every storage that holds backups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxbox_dagster.facts import UNOBSERVED, GapKind
from proxbox_dagster.netbox.spec import Coverage, Desired, FieldSpec, Kind, ModelSpec, ObjectClass, Ref, Row, UniqueKey
from proxbox_dagster.proxmox.parse.problem import ParseProblem
from proxbox_dagster.proxmox.parse.volid import BackupVolume, holds_backups, parse_volid
from proxbox_dagster.stages.common import ENDPOINT, TAGS, owned, storage_ref, vm_ref
from proxbox_dagster.stages.guests import Guest, guests, hidden
from proxbox_dagster.stages.stage import Inputs, Stage, StageContext

_CONTENT = "/nodes/{node}/storage/{storage}/content"

FORMATS = {
    "pbs-vm": "pbs-vm",
    "pbs-ct": "pbs-ct",
    "vma.zst": "zst",
    "zst": "zst",
    "tar.zst": "tzst",
    "tzst": "tzst",
    "tar.gz": "tgz",
    "tgz": "tgz",
    "tar.bz2": "tbz",
    "tbz2": "tbz",
    "tbz": "tbz",
    "tar": "tar",
    "qcow2": "qcow2",
    "raw": "raw",
    "iso": "iso",
}
"""Proxmox's format to the plugin's choice: t... is a tar archive, zst alone a compressed VMA. It has no choice for
other VMA archives (vma, vma.gz, vma.lzo) and tar.lzo: these are ``undefined``; the volume id tells them apart."""

PROTECTED = "Protected in Proxmox: not pruned, not removable."

BACKUP = ModelSpec(
    name="backups",
    path="plugins/proxbox/backups",
    model="netbox_proxbox.vmbackup",
    identity=("virtual_machine", "volume_id"),
    fields=(
        ENDPOINT,
        FieldSpec(
            "virtual_machine",
            f"{_CONTENT} vmid, volid",
            "the guest of that VMID and type; a backup of a guest that is gone is left out",
            kind=Kind.REF,
            required=True,
        ),
        FieldSpec("volume_id", f"{_CONTENT} volid", limit=255, required=True),
        FieldSpec("storage", f"{_CONTENT} volid", "before the colon", limit=255),
        FieldSpec(
            "proxmox_storage",
            f"{_CONTENT} volid",
            "the plugin's row of that storage",
            kind=Kind.REF,
            learn=("storage", "name"),
        ),
        FieldSpec("subtype", f"{_CONTENT} volid, else subtype", "qemu or lxc; undefined when neither says"),
        FieldSpec(
            "format",
            f"{_CONTENT} volid, else format",
            "vma.zst: zst, tar.zst: tzst, tar.gz: tgz, tar.bz2: tbz, tar, pbs-vm, pbs-ct; others: undefined",
        ),
        FieldSpec("creation_time", f"{_CONTENT} ctime", "UTC; else the time in a PBS volid", kind=Kind.DATETIME),
        FieldSpec("size", f"{_CONTENT} size", "bytes; empty for PBS's 1, which says that it does not know"),
        FieldSpec("used", f"{_CONTENT} used", "bytes"),
        FieldSpec("notes", f"{_CONTENT} notes, protected", f"with a line '{PROTECTED}' where it is"),
        FieldSpec("vmid", f"{_CONTENT} vmid", "else the VMID in the volid"),
        FieldSpec("encrypted", f"{_CONTENT} encrypted", "fingerprint of the key, or 1", limit=255),
        FieldSpec("verification_state", f"{_CONTENT} verification.state", limit=255),
        FieldSpec("verification_upid", f"{_CONTENT} verification.upid", limit=255),
        TAGS,
    ),
    plugin=True,
    unique=(UniqueKey(("volume_id", "virtual_machine"), "volume_id"),),
    label="volume_id",
    parent="proxmox_storage",
    narrow=("vmid", ""),
    removal="delete",
)

BACKUPS = ObjectClass("backups", BACKUP, "Backups", "Backups of guests on every storage, with their verification.")


def build(inputs: Inputs, context: StageContext) -> list[Desired]:
    """Desired rows of stage 6 from ``storage_content``, ``storage`` and ``guests``."""
    if not context.plugin:
        return []
    listed = list(guests(inputs, context))
    desired = Desired(BACKUPS, coverage=_coverage(inputs, context, listed))
    _report_gaps(inputs, desired)
    by_vmid = {guest.vmid: guest for guest in listed}
    nodes: dict[str, Any] = {}
    for row in sorted(inputs["storage_content"].rows, key=lambda row: (row["volid"], str(row["node"] or ""))):
        volid = row["volid"]
        volume = parse_volid(volid)
        if isinstance(volume, ParseProblem):
            desired.skip(volid, str(volume))
        elif volid in nodes:
            reason = f"node {row['node']} has a backup of the same name as node {nodes[volid]}; the latter is kept"
            desired.skip(volid, reason)
        else:
            nodes[volid] = row["node"]
            owner = _owner(inputs, context, by_vmid, row, volume)
            if isinstance(owner, Ref):
                desired.rows.append(_backup(context, owner, row, volume))
            else:
                desired.skip(volid, *owner)
    return [desired]


def _owner(
    inputs: Inputs, context: StageContext, by_vmid: Mapping[int, Guest], row: Mapping[str, Any], volume: BackupVolume
) -> Ref | tuple[str, tuple[Any, ...] | None]:
    """The virtual machine that the backup is of, or why there is none with the key of the row that NetBox may have."""
    vmid, kind = _vmid(row, volume), _kind(row, volume)
    if vmid is None:
        return "Proxmox does not know which guest this file is a backup of", None
    named = vm_ref(context, kind, vmid) if kind else None
    key = (named, row["volid"]) if named else None
    guest = by_vmid.get(vmid)
    if guest is not None and kind in (None, guest.kind):
        return vm_ref(context, guest.kind, vmid)
    if guest is not None:
        return f"it is of {kind}/{vmid}, which is gone; the VMID now belongs to {guest.label}", key
    gap = hidden(inputs, vmid)
    if gap is None:
        return f"guest {kind or ''}{'/' if kind else ''}{vmid} is not in the cluster any more", key
    # The guest may only be out of sight: NetBox tells whether it knows it.
    return named if named else (f"guest {vmid} is not observed: {gap.reason}", None)


def _vmid(row: Mapping[str, Any], volume: BackupVolume) -> int | None:
    return row["vmid"] if isinstance(row["vmid"], int) else volume.vmid


def _kind(row: Mapping[str, Any], volume: BackupVolume) -> str | None:
    """``qemu`` or ``lxc``; ``None`` when nothing says."""
    if volume.guest_type:
        return volume.guest_type
    told = {"qemu": "qemu", "vm": "qemu", "pbs-vm": "qemu", "lxc": "lxc", "ct": "lxc", "openvz": "lxc", "pbs-ct": "lxc"}
    return told.get(str(row["subtype"])) or told.get(str(row["format"]))


def _backup(context: StageContext, owner: Ref, row: Mapping[str, Any], volume: BackupVolume) -> Row:
    verification = row["verification"] if isinstance(row["verification"], Mapping) else {}
    in_volid = volume.time if volume.time is not None and volume.time.tzinfo else None
    pbs = str(volume.format).startswith("pbs-")
    values = {
        "virtual_machine": owner,
        "volume_id": row["volid"],
        "storage": volume.storage,
        "proxmox_storage": storage_ref(context, volume.storage),
        "subtype": _kind(row, volume) or "undefined",
        "format": format_of(row["format"], volume),
        "creation_time": row["ctime"] if isinstance(row["ctime"], int) and row["ctime"] > 0 else in_volid,
        "size": None if pbs and row["size"] == 1 else row["size"],
        "used": row["used"],
        "notes": _notes(row),
        "vmid": _vmid(row, volume),
        "encrypted": row["encrypted"],
        "verification_state": verification.get("state"),
        "verification_upid": verification.get("upid"),
    }
    place = f"storage/{row['node']}/{volume.storage}" if row["node"] else "cluster"
    return Row(owned(context, values), str(row["volid"]), context.link(place))


def format_of(told: Any, volume: BackupVolume) -> str:
    """The plugin's choice for a backup's format; the volume id is exact where Proxmox made it."""
    return FORMATS.get(str(volume.format or told).lower(), "undefined")


def _notes(row: Mapping[str, Any]) -> Any:
    notes, protected = row["notes"], row["protected"]
    if notes is UNOBSERVED or protected is UNOBSERVED:
        return UNOBSERVED
    return "\n".join(part for part in ((notes or "").strip(), PROTECTED if protected else "") if part) or None


def _report_gaps(inputs: Inputs, desired: Desired) -> None:
    """One failure for each thing that could not be read; what is off or out of scope is no failure."""
    told: dict[str, str] = {}
    for gap in inputs["storage_content"].gaps:
        if gap.kind is GapKind.OUT_OF_SCOPE or gap.level in ("node", "scope") or gap.reason in told:
            continue
        label = "backups" if gap.level == "all" else f"backups: {gap.level} {gap.name}"
        if gap.is_error:
            told[gap.reason] = label
            desired.fail(label, gap.reason)
        elif gap.level == "storage":
            told[gap.reason] = label
            desired.skip(label, gap.reason)


def _coverage(inputs: Inputs, context: StageContext, listed: list[Guest]) -> Coverage:
    """Backups of guests that are listed, on storages that were read to the end on every node."""
    if context.scope.vmids or context.scope.nodes:
        return Coverage(reason=f"the run is narrowed to {context.scope}")
    content = inputs["storage_content"]
    names = [
        row["storage"] for row in inputs["storage"].rows if row["disable"] is not True and holds_backups(row["content"])
    ]
    read = frozenset(storage_ref(context, name) for name in names if content.gap("storage", name) is None)
    seen = frozenset(
        vm_ref(context, guest.kind, guest.vmid) for guest in listed if content.gap("guest", guest.key) is None
    )
    return Coverage(
        parents=read,
        within=(("virtual_machine", seen),),
        reason="only listed guests' backups on storages that were read to the end are covered",
    )


STAGE = Stage(
    number=6,
    name="backups",
    group="guest_data",
    title="Backups",
    description="The backups of guests on every storage that holds backups; a shared storage is read once.",
    sources=("storage_content", "storage", "guests"),
    object_classes=(BACKUPS,),
    upstream=("storage", "virtual_machines"),
    build=build,
)
