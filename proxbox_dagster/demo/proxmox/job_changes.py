"""What tests do to a cluster's backups, tasks, replication and backup jobs. Every method takes the lock."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from .state import Backup, BackupJob, ReplicationJob, Storage, Task

if TYPE_CHECKING:
    from .state import Guest


class JobChanges:
    """Changes of backups, tasks and jobs; mixed into Cluster."""

    lock: threading.RLock
    guests: dict[int, Guest]
    storages: dict[str, Storage]
    backups: dict[str, list[Backup]]
    tasks: dict[str, list[Task]]
    replication: dict[str, ReplicationJob]
    backup_jobs: dict[str, BackupJob]
    now: int

    def add_backup(self, storage: str, vmid: int, time: int | None = None, **fields: Any) -> Backup:
        """Add a backup of a guest (of now); kind, format and node are the guest's and the storage's unless given."""
        with self.lock:
            guest = self.guests.get(vmid)
            target = self.storages[storage]
            fields.setdefault("kind", guest.kind if guest else "qemu")
            backup = make_backup(target, vmid, time if time is not None else self.now, **fields)
            if not target.shared and backup.node is None and guest:
                backup.node = guest.node
            self.backups.setdefault(storage, []).append(backup)
            return backup

    def prune_backup(self, volid: str) -> None:
        """Remove a backup. Raises KeyError when there is none of that volume id."""
        with self.lock:
            storage = volid.split(":", 1)[0]
            kept = [backup for backup in self.backups.get(storage, []) if backup.volid != volid]
            if len(kept) == len(self.backups.get(storage, [])):
                raise KeyError(volid)
            self.backups[storage] = kept

    def add_task(self, node: str, type: str, id: str | int = "", **fields: Any) -> Task:
        """Add a task that runs since now, or with ``end`` and ``status`` a finished one."""
        with self.lock:
            tasks = self.tasks.setdefault(node, [])
            number = sum(len(own) for own in self.tasks.values()) + 1
            fields = {"user": "root@pam", "start": self.now, **fields}
            fields = {"pid": 1_000_000 + number, "pstart": 50_000_000 + number * 7919, **fields}
            task = Task(node, type, str(id), **fields)
            tasks.append(task)
            sort_tasks(tasks)
            return task

    def finish_task(self, upid: str, status: str = "OK", end: int | None = None) -> Task:
        """Let a running task end. Raises KeyError when there is none of that UPID."""
        with self.lock:
            for tasks in self.tasks.values():
                for task in tasks:
                    if task.upid == upid:
                        task.end, task.status = end if end is not None else task.start + 5, status
                        sort_tasks(tasks)
                        return task
            raise KeyError(upid)

    def set_replication(self, guest: int, jobnum: int, target: str, **fields: Any) -> ReplicationJob:
        """Add or replace a replication job."""
        with self.lock:
            job = ReplicationJob(guest, jobnum, target, **fields)
            self.replication[job.id] = job
            return job

    def remove_replication(self, id: str) -> None:
        with self.lock:
            del self.replication[id]

    def set_backup_job(self, id: str, *, next_run: int | None = None, **options: Any) -> BackupJob:
        """Add or replace a backup job; options with ``_`` for ``-`` in their names."""
        with self.lock:
            job = BackupJob(id, {key.replace("_", "-"): value for key, value in options.items()}, next_run)
            self.backup_jobs[id] = job
            return job

    def remove_backup_job(self, id: str) -> None:
        with self.lock:
            del self.backup_jobs[id]


def make_backup(storage: Storage, vmid: int | None, time: int, **fields: Any) -> Backup:
    """A backup as ``storage`` would hold it: the format follows from the storage's and the guest's kind."""
    pbs = storage.type == "pbs"
    kind = fields.get("kind", "qemu")
    if "format" not in fields:
        vm = kind == "qemu"
        fields["format"] = ("pbs-vm" if vm else "pbs-ct") if pbs else ("vma.zst" if vm else "tar.zst")
    fields.setdefault("size", 1 << 30)
    return Backup(storage.name, time, vmid=vmid, pbs=pbs, **fields)


def sort_tasks(tasks: list[Task]) -> None:
    """Newest first: running tasks by their start, finished ones by their end, as the task list is written."""
    tasks.sort(key=lambda task: (task.end is None, task.end or task.start, task.start, task.pid), reverse=True)
