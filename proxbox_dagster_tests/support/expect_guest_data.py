"""What NetBox should hold of a simulated cluster's disks, tasks, backups, snapshots and jobs.

Made from the cluster's own records (:mod:`proxbox_dagster.demo.proxmox.state`), with none of the project's parsers or
mappings: two derivations of one truth. Rows are dictionaries by natural key; guests are (kind, VMID);
empty is ``None``, whether NetBox keeps it as null or as an empty text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from proxbox_dagster.demo.proxmox import Backup, Cluster, Guest
from proxbox_dagster.demo.proxmox.state import MIB, parse_size

GuestKey = tuple[str, int]
Rows = dict[Any, dict[str, Any]]

_DISK_KEY = {
    "qemu": re.compile(r"(ide|sata|scsi|virtio|efidisk|tpmstate)\d+"),
    "lxc": re.compile(r"rootfs|mp\d+"),
}


def moment(seconds: int | None) -> str | None:
    """As NetBox's REST interface spells a time."""
    return None if not seconds else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Expectation:
    """``has(kind, vmid)`` says whether NetBox has the guest's virtual machine."""

    def __init__(self, cluster: Cluster, has: Callable[[str, int], bool]) -> None:
        self.cluster = cluster
        self.guests = {vmid: guest for vmid, guest in cluster.guests.items() if has(guest.kind, vmid)}

    def _online(self, node: str | None) -> bool:
        return node is not None and self.cluster.nodes[node].online

    def _read(self) -> list[Guest]:
        return [guest for guest in self.guests.values() if self._online(guest.node)]

    def _disks(self, guest: Guest) -> dict[str, tuple[str | None, str | None]]:
        """Key to (storage, size) of everything that the guest sees as a disk."""
        found: dict[str, tuple[str | None, str | None]] = {}
        for key, text in guest.config.items():
            if not _DISK_KEY[guest.kind].fullmatch(key):
                continue
            head = next(p for p in text.split(",") if "=" not in p or p.startswith(("file=", "volume=")))
            source = re.sub(r"^(file|volume)=", "", head)
            if "media=cdrom" in text or source in ("none", "cdrom") or "cloudinit" in source:
                continue
            on_node = source.startswith("/")
            if on_node and guest.kind == "lxc" and not source.startswith("/dev/"):
                continue
            size = re.search(r"(?:^|,)size=([^,]+)", text)
            found[key] = (None if on_node else source.split(":")[0], size[1] if size else None)
        return found

    def disks(self) -> Rows:
        """(guest, key) to size in MiB and storage."""
        return {
            ((guest.kind, guest.vmid), key): {"size": max(1, math.ceil(parse_size(size) / MIB)), "storage": storage}
            for guest in self._read()
            for key, (storage, size) in self._disks(guest).items()
            if size is not None
        }

    def sizes(self) -> dict[GuestKey, int]:
        """Each machine's own size in MiB, which NetBox sums up from its disks; not of machines without any."""
        found: dict[GuestKey, int] = {}
        for (guest, _), row in self.disks().items():
            found[guest] = found.get(guest, 0) + row["size"]
        return found

    def tasks(self) -> Rows:
        """By UPID."""
        rows: Rows = {}
        for task in self.cluster.all_tasks():
            guest = self.guests.get(int(task.id)) if task.id.isdigit() else None
            if guest is None or not self._online(task.node):
                continue
            rows[task.upid] = {
                "guest": (guest.kind, guest.vmid),
                "vm_type": guest.kind,
                "node": task.node,
                "pid": task.pid,
                "pstart": task.pstart,
                "task_id": task.id,
                "task_type": task.type,
                "username": task.user,
                "start_time": moment(task.start),
                "end_time": moment(task.end),
                "status": "running" if task.end is None else task.status,
                "task_state": "running" if task.end is None else "stopped",
                "exitstatus": None if task.end is None else task.status,
            }
        return rows

    def _shown(self, backup: Backup) -> bool:
        storage = self.cluster.storages[backup.storage]
        nodes = [node for node in self.cluster.nodes if self._online(node) and storage.serves(node)]
        if not storage.shared:
            nodes = [node for node in nodes if node == backup.node]
        return "backup" in storage.content and any(node not in storage.unreachable for node in nodes)

    def backups(self) -> Rows:
        """By volume id."""
        rows: Rows = {}
        for backup in self.cluster.all_backups():
            kind = {"openvz": "lxc"}.get(backup.kind, backup.kind)
            guest = self.guests.get(backup.vmid) if backup.vmid is not None else None
            if guest is None or guest.kind != kind or not self._shown(backup):
                continue
            choice = {"tar.zst": "tzst", "vma.zst": "zst", "tar.gz": "tgz", "tar.bz2": "tbz"}
            known = {"tgz", "tar", "pbs-vm", "pbs-ct"}
            notes = [part for part in ((backup.notes or "").strip(),) if part]
            rows[backup.volid] = {
                "guest": (kind, guest.vmid),
                "vmid": guest.vmid,
                "storage": backup.storage,
                "proxmox_storage": backup.storage,
                "subtype": kind,
                "format": choice.get(backup.format, backup.format if backup.format in known else "undefined"),
                "creation_time": moment(backup.time),
                "size": None if backup.pbs and backup.size == 1 else backup.size,
                "notes": "\n".join([*notes, *(["Protected in Proxmox: not pruned, not removable."] * backup.protected)])
                or None,
                "encrypted": backup.encrypted,
                "verification_state": (backup.verification or {}).get("state"),
                "verification_upid": (backup.verification or {}).get("upid"),
            }
        return rows

    def snapshots(self) -> Rows:
        """(guest, name)."""
        rows: Rows = {}
        for guest in self._read():
            storages = {storage for storage, _ in self._disks(guest).values() if storage}
            for snapshot in guest.snapshots.values():
                rows[(guest.kind, guest.vmid), snapshot.name] = {
                    "vmid": guest.vmid,
                    "node": guest.node,
                    "subtype": guest.kind,
                    "status": "active",
                    "description": snapshot.description.strip() or None,
                    "snaptime": moment(snapshot.snaptime),
                    "parent": snapshot.parent,
                    "proxmox_storage": storages.pop() if len(storages) == 1 else None,
                }
                storages = {storage for storage, _ in self._disks(guest).values() if storage}
        return rows

    def replications(self) -> Rows:
        """By id of the job."""
        return {
            job.id: {
                "guest": (self.guests[job.guest].kind, job.guest),
                "jobnum": job.jobnum,
                "target": job.target,
                "source": job.source,
                "job_type": "local",
                "schedule": job.schedule or "*/15",
                "rate": job.rate,
                "comment": job.comment,
                "disable": job.disable,
                "remove_job": job.remove_job,
                "status": "active",
            }
            for job in self.cluster.replication.values()
            if job.guest in self.guests
        }

    def _taken(self, options: dict[str, Any]) -> list[int]:
        def numbers(name: str) -> set[int]:
            return {int(part) for part in str(options.get(name, "")).replace(" ", "").split(",") if part}

        if options.get("pool"):
            chosen = {vmid for vmid in self.cluster.guests if self.cluster.pool_of(vmid) == options["pool"]}
        elif options.get("vmid"):
            chosen = numbers("vmid")
        else:
            chosen = set(self.cluster.guests) - numbers("exclude")
        node = options.get("node")
        homes = {vmid: guest.node for vmid, guest in self.cluster.guests.items()}
        return sorted(vmid for vmid in chosen if not node or homes.get(vmid, node) == node)

    def routines(self) -> Rows:
        """By id of the job."""
        rows: Rows = {}
        for job in self.cluster.backup_jobs.values():
            options = job.options
            enabled = str(options.get("enabled", "1")) == "1"
            prune = options.get("prune-backups", {})
            pairs = prune if isinstance(prune, dict) else dict(part.split("=") for part in prune.split(","))
            kept = {name: int(value) for name, value in pairs.items()}
            if not kept and "maxfiles" in options:
                kept = {"keep-last": int(options["maxfiles"])}
            fleecing = options.get("fleecing") or {}
            if isinstance(fleecing, str):
                fleecing = dict(part.split("=") for part in fleecing.split(","))
            workers = re.search(r"max-workers\W+(\d+)", str(options.get("performance", "")))
            rows[job.id] = {
                "enabled": enabled,
                "schedule": options.get("schedule") or f"{options['dow']} {options['starttime']}",
                "next_run": moment(job.next_run) if enabled else None,
                "node": options.get("node"),
                "storage": options.get("storage"),
                "selection": self._taken(options),
                "comment": options.get("comment"),
                "status": "active",
                **{
                    f"keep_{unit}": kept.get(f"keep-{unit}")
                    for unit in ("last", "daily", "weekly", "monthly", "yearly")
                },
                "keep_all": True if kept.get("keep-all") else None,
                "notes_template": options.get("notes-template"),
                "bwlimit": int(options["bwlimit"]) if "bwlimit" in options else None,
                "zstd": int(options["zstd"]) if "zstd" in options else None,
                "io_workers": int(workers[1]) if workers else None,
                "fleecing": ",".join(f"{key}={fleecing[key]}" for key in sorted(fleecing)) or None,
                "fleecing_storage": fleecing.get("storage"),
                "repeat_missed": True if options.get("repeat-missed") else None,
                "pbs_change_detection_mode": options.get("pbs-change-detection-mode"),
            }
        return {name: row for name, row in rows.items() if row["selection"]}
