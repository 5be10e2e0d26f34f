"""Disks and mount points in the configuration of a guest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from .problem import ParseProblem
from .values import properties, size_to_mib

DiskKind = Literal["disk", "cdrom", "cloudinit", "unused", "passthrough", "bind"]

_KEYS: Final = {
    "qemu": re.compile(r"(ide|sata|scsi|virtio|efidisk|tpmstate|unused)([0-9]{1,3})", re.ASCII),
    "lxc": re.compile(r"(rootfs|mp|unused)([0-9]{0,3})", re.ASCII),
}
_FORMATS: Final = frozenset({"raw", "qcow2", "qcow", "qed", "vmdk", "cow", "cloop", "subvol"})
_CLOUDINIT = re.compile(r"(?:.*/)?vm-[0-9]+-cloudinit(?:\.[a-z0-9]+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Disk:
    """One disk, drive or mount point.

    ``bus`` is the key without its number. ``volume`` is the volume's name in ``storage``; without a storage it is the
    path on the node, ``cdrom`` (the node's drive) or ``None`` (an empty drive). ``base`` is the template's volume
    under a linked clone. ``size`` is in MiB, ``None`` when Proxmox does not say, 0 for a container's volume without a
    limit (``size=0T``). ``options`` are the other properties.
    """

    key: str
    kind: DiskKind
    bus: str
    storage: str | None
    volume: str | None
    size: int | None = None
    format: str | None = None
    base: str | None = None
    options: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def volid(self) -> str | None:
        """``storage:volume``, as Proxmox names a volume."""
        return f"{self.storage}:{self.volume}" if self.storage else None


def disks(config: Mapping[str, Any], kind: str) -> dict[str, Disk | ParseProblem]:
    """All disks, drives and mount points of a guest of ``kind`` ``qemu`` or ``lxc`` by key, ordered by bus, number."""
    pattern = _KEYS["lxc" if kind == "lxc" else "qemu"]
    found = []
    for key in map(str, config):
        match = pattern.fullmatch(key)
        # "virtio" and "scsi" without a number are no disks; "scsihw" does not match either.
        if match and (match[2] or match[1] == "rootfs"):
            found.append((match[1], int(match[2] or 0), key))
    return {key: parse_disk(key, config[key], kind) for _, _, key in sorted(found)}


def parse_disk(key: str, value: Any, kind: str) -> Disk | ParseProblem:
    """One line such as ``local-lvm:vm-100-disk-0,size=32G``."""
    head = "volume" if kind == "lxc" else "file"
    fields = properties(value, default_key=head)
    if isinstance(fields, ParseProblem):
        return fields
    source = fields.pop(head, "")
    if not source:
        return ParseProblem.of(value, "no volume")
    size = size_to_mib(fields.pop("size")) if fields.get("size") else None
    if isinstance(size, ParseProblem):
        return ParseProblem.of(value, f"size: {size.reason}")
    storage, volume = _split(source)
    bus = key.rstrip("0123456789")
    return Disk(
        key=key,
        kind=_kind(bus, storage, volume, fields, kind),
        bus=bus,
        storage=storage,
        volume=volume,
        size=size,
        format=fields.pop("format", None) or _format(volume),
        base=next((p for p in (volume or "").split("/")[:-1] if p.startswith("base-")), None),
        options=fields,
    )


def _split(source: str) -> tuple[str | None, str | None]:
    """Storage and volume of ``storage:volume``; a path or a drive has no storage."""
    if source == "none":
        return None, None
    storage, colon, volume = source.partition(":")
    if not colon or source.startswith("/") or not storage or not volume:
        return None, source
    return storage, volume


def _kind(bus: str, storage: str | None, volume: str | None, fields: Mapping[str, str], guest: str) -> DiskKind:
    if bus == "unused":
        return "unused"
    if storage and volume and _CLOUDINIT.fullmatch(volume):
        return "cloudinit"
    if fields.get("media") == "cdrom" or volume in (None, "cdrom"):
        return "cdrom"
    if storage is None:
        # A container's mount point of a device is a disk of the node; of a directory, a bind mount.
        return "bind" if guest == "lxc" and not str(volume).startswith("/dev/") else "passthrough"
    return "disk"


def _format(volume: str | None) -> str | None:
    """The image format that the volume's name tells."""
    name = (volume or "").rsplit("/", 1)[-1]
    suffix = name.rsplit(".", 1)[-1].lower() if "." in name else ""
    if suffix in _FORMATS:
        return suffix
    return "subvol" if name.startswith(("subvol-", "basevol-")) else None
