"""Backups: the storages that hold them, and their volume ids (vzdump archives, Proxmox Backup Server snapshots)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from .problem import ParseProblem

_TYPES: Final = {"qemu": "qemu", "lxc": "lxc", "openvz": "lxc", "vm": "qemu", "ct": "lxc"}
_VZDUMP = re.compile(
    r"vzdump-(qemu|lxc|openvz)-([0-9]{1,9})-([0-9]{4}_[0-9]{2}_[0-9]{2}-[0-9]{2}_[0-9]{2}_[0-9]{2})"
    r"\.((?:vma|tar|tgz)(?:\.[a-z0-9]{1,5})?)",
    re.ASCII,
)
_PBS = re.compile(r"(vm|ct)/([0-9]{1,9})/([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z)", re.ASCII)


@dataclass(frozen=True, slots=True)
class BackupVolume:
    """One backup by its volume id.

    ``guest_type`` (``qemu`` or ``lxc``) and ``vmid`` are ``None`` for a file that Proxmox did not name, or a backup of
    a host. ``time`` has UTC for PBS; for vzdump it is naive, the local time of the node. ``format`` is the suffix
    (``vma.zst``, ``tar.gz``), for PBS ``pbs-vm`` or ``pbs-ct``.
    """

    storage: str
    name: str
    guest_type: str | None = None
    vmid: int | None = None
    time: datetime | None = None
    format: str | None = None


def holds_backups(content: Any) -> bool:
    """Whether a storage's ``content`` (``images,backup``) names backups."""
    return "backup" in {part.strip() for part in str(content or "").split(",")}


def parse_volid(value: Any) -> BackupVolume | ParseProblem:
    """``store:backup/vzdump-qemu-100-....vma.zst`` or ``store:backup/vm/100/2024-01-01T00:00:00Z``."""
    storage, colon, name = value.partition(":") if isinstance(value, str) else ("", "", "")
    if not (storage and colon and name):
        return ParseProblem.of(value, "no volume id such as storage:backup/...")
    path = name.removeprefix("backup/")
    if match := _PBS.fullmatch(path):
        time = _time(match[3], "%Y-%m-%dT%H:%M:%SZ")
        kind = _TYPES[match[1]]
        return BackupVolume(storage, name, kind, int(match[2]), time and time.replace(tzinfo=UTC), f"pbs-{match[1]}")
    if match := _VZDUMP.fullmatch(path.rsplit("/", 1)[-1]):
        return BackupVolume(
            storage, name, _TYPES[match[1]], int(match[2]), _time(match[3], "%Y_%m_%d-%H_%M_%S"), match[4]
        )
    return BackupVolume(storage, name)


def _time(text: str, pattern: str) -> datetime | None:
    try:
        return datetime.strptime(text, pattern)
    except ValueError:
        return None
