"""Answers about storages: their definitions, their state on a node, their content."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .answers_cluster import storage_used
from .call import Call
from .errors import bad_parameters, died
from .figures import disk_size
from .spelling import flipped
from .state import Backup, Guest, Storage

_VOLUME_KEY = re.compile(r"^(?:(?:ide|sata|scsi|virtio|efidisk|tpmstate|unused|mp)\d+|rootfs)$")
_MAY_SEE = ("Datastore.Audit", "Datastore.AllocateSpace")


def definitions(call: Call) -> list[dict[str, Any]]:
    kind = call.params.get("type")
    return [
        _definition(call, storage)
        for storage in call.ordered(call.cluster.storages.values())
        if kind in (None, storage.type) and call.allows_any(f"/storage/{storage.name}", _MAY_SEE)
    ]


def definition(call: Call) -> dict[str, Any]:
    """One definition. It takes Datastore.Allocate, more than the list of all does."""
    name = call.params["storage"]
    call.require(f"/storage/{name}", "Datastore.Allocate")
    return _definition(call, _storage(call, name))


def _storage(call: Call, name: str) -> Storage:
    if name not in call.cluster.storages:
        raise died(f"storage '{name}' does not exist")
    return call.cluster.storages[name]


def _definition(call: Call, storage: Storage) -> dict[str, Any]:
    row = {
        "storage": storage.name,
        "type": storage.type,
        "content": call.joined(",", storage.content) or "none",
        "digest": "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        **storage.options,
    }
    if storage.shared:
        row["shared"] = 1
    if storage.nodes:
        row["nodes"] = call.joined(",", storage.nodes)
    if storage.disable:
        row["disable"] = 1
    return row


def on_node(call: Call) -> list[dict[str, Any]]:
    """Every storage as the node sees it; one that is not for this node stands there as not enabled."""
    name, content = call.params.get("storage"), call.params.get("content")
    found = []
    for storage in call.ordered(call.cluster.storages.values()):
        if not call.allows_any(f"/storage/{storage.name}", _MAY_SEE):
            continue
        if name not in (None, storage.name):
            continue
        if content and not (storage.serves(call.node().name) and set(content.split(",")) & set(storage.content)):
            continue
        if call.flag("enabled") and storage.disable:
            continue
        found.append({"storage": storage.name} | _state(call, storage))
    if name is not None and name not in call.cluster.storages:
        raise bad_parameters(storage="No such storage.")
    return found


def state(call: Call) -> dict[str, Any]:
    name = call.params["storage"]
    call.require_any(f"/storage/{name}", _MAY_SEE)
    if name not in call.cluster.storages:
        raise bad_parameters(storage="No such storage.")
    return _state(call, call.cluster.storages[name])


def _state(call: Call, storage: Storage) -> dict[str, Any]:
    node = call.node().name
    enabled = storage.serves(node)
    active = enabled and node not in storage.unreachable
    row: dict[str, Any] = {
        "type": storage.type,
        "content": call.joined(",", storage.content),
        "shared": int(storage.shared),
        "enabled": int(enabled),
        "active": int(active),
        "total": 0,
        "used": 0,
        "avail": 0,
    }
    if active:
        used = storage_used(call, storage, node)
        row |= {"total": storage.total, "used": used, "avail": storage.total - used}
        row["used_fraction"] = used / storage.total
    return row


def content(call: Call) -> list[dict[str, Any]]:
    """Backups and volumes. What the caller may not read is left out without a word."""
    name, node = call.params["storage"], call.node().name
    call.require_any(f"/storage/{name}", _MAY_SEE)
    storage = _storage(call, name)
    if storage.disable:
        raise died(f"storage '{name}' is disabled")
    if not storage.serves(node):
        raise died(f"storage '{name}' is not available on node '{node}'")
    if node in storage.unreachable:
        raise died(_unreachable_text(storage))
    wanted, vmid = call.params.get("content"), call.params.get("vmid")
    rows: list[dict[str, Any]] = []
    if wanted in (None, "backup"):
        rows += [
            flipped(call, _backup_row(b), {"vmid", "size"})
            for b in _backups(call, storage, node)
            if _may_read_backup(call, storage, b)
        ]
    if wanted in (None, "images", "rootdir"):
        rows += _volumes(call, storage, node, wanted)
    return call.ordered(row for row in rows if vmid is None or str(row.get("vmid")) == vmid)


def _unreachable_text(storage: Storage) -> str:
    if storage.type == "pbs":
        server, port = storage.options.get("server", "pbs"), storage.options.get("port", 8007)
        return f"{storage.name}: error fetching datastores - 500 Can't connect to {server}:{port} (No route to host)"
    return f"storage '{storage.name}' is not online"


def _backups(call: Call, storage: Storage, node: str) -> Iterator[Backup]:
    backups = call.cluster.backups.get(storage.name, [])
    return (backup for backup in backups if storage.shared or backup.node in (None, node))


def _may_read_backup(call: Call, storage: Storage, backup: Backup) -> bool:
    path = f"/storage/{storage.name}"
    if call.allows(path, "Datastore.Allocate"):
        return True
    if backup.vmid is None:
        return call.allows(path, "Datastore.Audit")
    return call.allows(path, "Datastore.AllocateSpace") and call.allows(f"/vms/{backup.vmid}", "VM.Backup")


def _backup_row(backup: Backup) -> dict[str, Any]:
    row: dict[str, Any] = {
        "volid": backup.volid,
        "content": "backup",
        "format": backup.format,
        "ctime": backup.time,
        "size": backup.size,
    }
    if backup.vmid is not None:
        row |= {"vmid": backup.vmid, "subtype": backup.kind}
    if backup.protected:
        row["protected"] = 1
    for key in ("notes", "encrypted", "verification"):
        if getattr(backup, key) is not None:
            row[key] = getattr(backup, key)
    return row


def _volumes(call: Call, storage: Storage, node: str, wanted: str | None) -> Iterator[dict[str, Any]]:
    """The volumes that guests' configurations name."""
    seen: set[str] = set()
    for guest in call.cluster.guests.values():
        kind = "images" if guest.kind == "qemu" else "rootdir"
        if wanted not in (None, kind) or not (storage.shared or guest.node == node):
            continue
        if not call.allows(f"/vms/{guest.vmid}", "VM.Config.Disk") and not call.allows(
            f"/storage/{storage.name}", "Datastore.Allocate"
        ):
            continue
        for volid, size in guest_volumes(guest):
            if volid.startswith(storage.name + ":") and volid not in seen:
                seen.add(volid)
                yield flipped(call, _volume_row(guest, volid, size, kind), {"vmid", "size"})


def guest_volumes(guest: Guest) -> Iterator[tuple[str, int | None]]:
    """Volume id and size of everything that the guest's configuration keeps on a storage, ISO images left out."""
    for key, value in guest.config.items():
        volid = value.split(",")[0].removeprefix("file=").removeprefix("volume=")
        if _VOLUME_KEY.match(key) and ":" in volid and ":iso/" not in volid and not volid.startswith("/"):
            yield volid, disk_size(value)


def _volume_row(guest: Guest, volid: str, size: int | None, kind: str) -> dict[str, Any]:
    ending = volid.rsplit(".", 1)[-1]
    format = ending if ending in ("qcow2", "vmdk", "raw") else ("subvol" if "subvol-" in volid else "raw")
    return {
        "volid": volid,
        "content": kind,
        "format": format,
        "vmid": guest.vmid,
        "size": size if size is not None else 4 << 20,
        "ctime": 1_700_000_000,
    }
