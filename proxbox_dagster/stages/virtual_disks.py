"""Stage 4: disks and mount points of guests, and the storages that they are on."""

from __future__ import annotations

from proxbox_dagster.netbox.spec import (
    Coverage,
    Desired,
    FieldSpec,
    Kind,
    ModelSpec,
    ObjectClass,
    Policy,
    Ref,
    Row,
    UniqueKey,
)
from proxbox_dagster.proxmox.parse.disks import Disk
from proxbox_dagster.stages.common import ENDPOINT, TAGS, owned, storage_ref, vm_ref
from proxbox_dagster.stages.guests import Guest, guest_coverage, guests, synced_disks, unreadable
from proxbox_dagster.stages.stage import Inputs, Stage, StageContext

_CONFIG = "/nodes/{node}/{type}/{vmid}/config"
_ENTRY = f"{_CONFIG} ideN, sataN, scsiN, virtioN, efidiskN, tpmstateN, rootfs, mpN"

VIRTUAL_DISK = ModelSpec(
    name="virtual_disks",
    path="virtualization/virtual-disks",
    model="virtualization.virtualdisk",
    identity=("virtual_machine", "name"),
    fields=(
        ENDPOINT,
        FieldSpec("virtual_machine", "—", "the guest's virtual machine", kind=Kind.REF, required=True),
        FieldSpec(
            "name",
            _ENTRY,
            "the key; CD-ROM and cloud-init drives, unused volumes and bind mounts are no disks; an entry without a "
            "size is left out, and what NetBox has of it stays",
            limit=64,
            required=True,
        ),
        FieldSpec("size", f"{_ENTRY}: size", "K, M, G, T or bytes to MiB, rounded up", required=True),
        FieldSpec(
            "description",
            _ENTRY,
            "'Storage: NAME | Format: FORMAT' or 'Passed through: PATH'; what else the entry is (EFI variables, "
            "TPM state, linked clone, mount point) behind it",
            Policy.MANAGED,
            limit=200,
        ),
        TAGS,
    ),
    unique=(UniqueKey(("name", "virtual_machine"), "name"),),
    removal="delete",
    parent="virtual_machine",
    summed_in="virtual_machine",
    narrow=("virtual_machine_id", "virtual_machines"),
)

DISK_SYNC_STATE = ModelSpec(
    name="disk_sync_states",
    path="plugins/proxbox/sync-state/virtual-disks",
    model="netbox_proxbox.proxboxvirtualdisksyncstate",
    identity=("virtual_disk",),
    fields=(
        ENDPOINT,
        FieldSpec("virtual_disk", "—", "the virtual disk", kind=Kind.REF, required=True),
        FieldSpec(
            "proxbox_storage",
            f"{_ENTRY}: the storage before the colon",
            "the plugin's storage row; none for a disk passed through from the node",
            kind=Kind.REF,
            learn=("storage", "name"),
        ),
        FieldSpec("proxbox_storage_raw_id", "—", "id of the plugin's storage row", kind=Kind.REF),
        FieldSpec("proxbox_storage_raw_value", f"{_ENTRY}: the storage before the colon", limit=255),
        TAGS,
    ),
    plugin=True,
    pages=False,
    unique=(UniqueKey(("virtual_disk",), "virtual_disk_id"),),
    label="proxbox_storage_raw_value",
    parent="virtual_disk",
    narrow=("virtual_disk_id", "virtual_disks"),
    removal="ignore",
)

VIRTUAL_DISKS = ObjectClass(
    "virtual_disks", VIRTUAL_DISK, "Virtual disks", "Disks of QEMU machines, root file systems and mount points of LXC."
)
DISK_SYNC_STATES = ObjectClass(
    "disk_sync_states", DISK_SYNC_STATE, "Virtual disk sync states", "Which storage each virtual disk is on."
)


def virtual_disk_ref(context: StageContext, guest: Guest, key: str) -> Ref:
    """The virtual disk of a guest's entry, as ``scsi0``."""
    return Ref("virtual_disks", (vm_ref(context, guest.kind, guest.vmid), key))


def build(inputs: Inputs, context: StageContext) -> list[Desired]:
    """Desired rows of stage 4 from ``guests`` and ``guest_configs``."""
    found = list(guests(inputs, context))
    virtual_disks = Desired(VIRTUAL_DISKS, coverage=guest_coverage(context, found))
    states = Desired(DISK_SYNC_STATES, coverage=Coverage(reason="NetBox removes a sync state along with its disk"))
    for guest in found:
        if unreadable(guest, virtual_disks):
            continue
        kept, left_out = synced_disks(guest)
        for entry in left_out:
            key = virtual_disk_ref(context, guest, entry.key).key if entry.is_disk else None
            virtual_disks.skip(f"{guest.label} {entry.key}", entry.reason, key)
        for disk in kept:
            virtual_disks.rows.append(_virtual_disk(context, guest, disk))
            states.rows.append(_sync_state(context, guest, disk))
    return [virtual_disks, states] if context.plugin else [virtual_disks]


def _virtual_disk(context: StageContext, guest: Guest, disk: Disk) -> Row:
    values = {
        "virtual_machine": vm_ref(context, guest.kind, guest.vmid),
        "name": disk.key,
        "size": disk.size,
        "description": _description(disk),
    }
    return Row(owned(context, values), f"{guest.label} {disk.key}", context.link(guest.key))


def _description(disk: Disk) -> str:
    parts = [f"Storage: {disk.storage}" if disk.storage else f"Passed through: {disk.volume}"]
    if disk.format:
        parts.append(f"Format: {disk.format}")
    if disk.bus == "efidisk":
        parts.append("EFI variables")
    elif disk.bus == "tpmstate":
        parts.append("TPM state")
    elif disk.bus == "mp" and disk.options.get("mp"):
        parts.append(f"Mounted at: {disk.options['mp']}")
    if disk.base:
        parts.append(f"Linked clone of: {disk.base}")
    return " | ".join(parts)


def _sync_state(context: StageContext, guest: Guest, disk: Disk) -> Row:
    storage = storage_ref(context, disk.storage) if disk.storage else None
    values = {
        "virtual_disk": virtual_disk_ref(context, guest, disk.key),
        "proxbox_storage": storage,
        "proxbox_storage_raw_id": storage,
        "proxbox_storage_raw_value": disk.storage,
    }
    return Row(owned(context, values), f"{guest.label} {disk.key}", context.link(guest.key))


STAGE = Stage(
    number=4,
    name="virtual_disks",
    group="guest_data",
    title="Virtual disks",
    description="The disks and mount points of guests with their size, and the storage that each one is on.",
    sources=("guests", "guest_configs"),
    object_classes=(VIRTUAL_DISKS, DISK_SYNC_STATES),
    upstream=("storage", "virtual_machines"),
    build=build,
)
