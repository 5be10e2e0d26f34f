"""The guests of an endpoint as every guest stage sees them: which there are, and what of each was observed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from proxbox_dagster.facts import UNOBSERVED, Fetched, Gap, guest_key
from proxbox_dagster.netbox.spec import Coverage, Desired, Ref
from proxbox_dagster.proxmox.parse.disks import Disk, disks
from proxbox_dagster.proxmox.parse.problem import ParseProblem
from proxbox_dagster.proxmox.parse.values import to_bool
from proxbox_dagster.stages.common import vm_ref
from proxbox_dagster.stages.stage import Inputs, StageContext

MAX_DISK_MIB = 2_147_483_647
"""The largest size that NetBox's column holds."""

_BROADCAST_NAME = {"qemu": "VM {}", "lxc": "CT{}"}
"""What a node broadcasts as the name of a guest that has none."""


@dataclass(frozen=True)
class Guest:
    """One QEMU machine or LXC container. ``config`` is ``None`` when it was not observed; ``gap`` then says why."""

    kind: str
    vmid: int
    node: str
    row: Mapping[str, Any]
    config: Mapping[str, Any] | None
    gap: Gap | None

    @property
    def key(self) -> str:
        """``qemu/100``, the guest's name in Proxmox's own paths."""
        return guest_key(self.kind, self.vmid)

    @property
    def label(self) -> str:
        """What people know the guest by."""
        name = self.name
        return f"{name} ({self.key})" if isinstance(name, str) else self.key

    @property
    def name(self) -> Any:
        """The configured name, else what the node broadcast; ``UNOBSERVED`` when neither could be read."""
        if self.config is not None:
            given = self.config.get("hostname" if self.kind == "lxc" else "name")
            if given:
                return str(given)
        named = self.row.get("name")
        if named is UNOBSERVED or (not named and self.config is None):
            return UNOBSERVED
        nameless = self.config is not None or named == _BROADCAST_NAME[self.kind].format(self.vmid)
        return f"vm-{self.vmid}" if nameless else str(named)

    @property
    def template(self) -> Any:
        """Whether it is a template: by its configuration, else as its node broadcast; ``UNOBSERVED`` without either."""
        if self.config is not None:
            return to_bool(self.config.get("template")) is True
        told = self.row.get("template")
        return told if told is UNOBSERVED else bool(told)

    @property
    def is_template(self) -> bool:
        return self.template is True


def guests(inputs: Inputs, context: StageContext) -> Iterator[Guest]:
    """The guests in scope, by VMID, with their configurations where the stage reads these."""
    read, configs = inputs["guests"], inputs.get("guest_configs")
    by_guest = {(row["type"], row["vmid"]): row["config"] for row in configs.rows} if configs else {}
    for row in sorted(read.rows, key=lambda row: (row["vmid"], row["type"])):
        kind, vmid = row["type"], row["vmid"]
        if not context.scope.guest(vmid, row["node"]):
            continue
        config = by_guest.get((kind, vmid))
        gap = guest_gap(configs, kind, vmid, row["node"]) if configs and config is None else None
        yield Guest(kind, vmid, row["node"], row, config, gap)


def guest_gap(read: Fetched, kind: str, vmid: int, node: str) -> Gap | None:
    """Why a read lacks a guest, or something of it."""
    return read.gap("guest", guest_key(kind, vmid)) or read.gap("node", node)


def hidden(inputs: Inputs, vmid: int) -> Gap | None:
    """Why a guest that the list of guests does not hold need not be gone; ``None`` when its absence is proved."""
    read = inputs["guests"]
    return read.gap("guest", guest_key("qemu", vmid)) or read.gap("guest", guest_key("lxc", vmid))


def unreadable(guest: Guest, desired: Desired, key: tuple[Any, ...] | None = None) -> bool:
    """True when the guest's configuration was not observed; a read that failed is put down as a failure."""
    if guest.config is not None:
        return False
    gap = guest.gap
    if gap is not None and not gap.is_error:
        desired.skip(guest.label, gap.reason, key)
    else:
        reason = gap.reason if gap else "Proxmox gave no configuration for it"
        desired.fail(guest.label, f"its configuration could not be read: {reason}", key)
    return True


def guest_coverage(context: StageContext, read: list[Guest]) -> Coverage:
    """For classes under a guest: rows of every guest whose configuration was read are covered."""
    parents: frozenset[Ref] = frozenset(
        vm_ref(context, guest.kind, guest.vmid) for guest in read if guest.config is not None
    )
    return Coverage(parents=parents, reason="only guests whose configuration was read are covered")


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An entry of a configuration that is not written. What NetBox has of it is kept where it ``is_disk``."""

    key: str
    reason: str
    is_disk: bool


def synced_disks(guest: Guest) -> tuple[list[Disk], list[LeftOut]]:
    """The entries of the configuration that are virtual disks in NetBox, and the others that people may ask about.

    A virtual disk is what the guest sees as a disk and whose size the configuration tells: volumes of a storage on
    every bus (EFI variables and TPM state too), containers' root file system and mount points, and disks, partitions
    or image files of the node that are passed through. NetBox cannot hold a disk without a size, so one whose entry
    has none is left out, and what NetBox has of it stays. A directory of the node that is mounted into a container is
    no disk. CD-ROM and cloud-init drives are none either, and unused volumes belong to no drive: these are not even
    mentioned.
    """
    found: list[Disk] = []
    left_out: list[LeftOut] = []
    for key, disk in disks(guest.config or {}, guest.kind).items():
        if isinstance(disk, ParseProblem):
            left_out.append(LeftOut(key, f"{key} cannot be read: {disk.reason} ({disk.text})", is_disk=True))
        elif disk.kind == "bind":
            reason = f"{key} is a bind mount of a directory of the node, not a disk"
            left_out.append(LeftOut(key, reason, is_disk=False))
        elif disk.kind in ("disk", "passthrough"):
            if not disk.size:
                left_out.append(LeftOut(key, f"{key} {_no_size(guest, disk)}", is_disk=True))
            elif disk.size > MAX_DISK_MIB:
                reason = f"{key} has {disk.size} MiB; NetBox holds at most {MAX_DISK_MIB}"
                left_out.append(LeftOut(key, reason, is_disk=True))
            else:
                found.append(disk)
    return found, left_out


def _no_size(guest: Guest, disk: Disk) -> str:
    """What is missing, and the way to get it into the configuration."""
    if disk.size == 0:
        return "has no limit (size 0), and NetBox needs a size; give the volume a quota to have it in NetBox"
    if disk.storage is None:
        return f"({disk.volume}) has no size in the configuration, which NetBox needs; add size=... to the entry"
    command = f"pct rescan --vmid {guest.vmid}" if guest.kind == "lxc" else f"qm disk rescan --vmid {guest.vmid}"
    return f"has no size in the configuration, which NetBox needs; '{command}' puts it there"
