"""Answers about replication and backup jobs."""

from __future__ import annotations

from typing import Any

from .call import Call
from .errors import bad_parameters, died
from .state import BackupJob, ReplicationJob

_PROPERTIES = ("prune-backups", "performance", "fleecing")


def replication(call: Call) -> list[dict[str, Any]]:
    """The jobs of every guest that the caller may audit."""
    jobs = call.ordered(call.cluster.replication.values())
    return [_replication_row(job) for job in jobs if call.allows(f"/vms/{job.guest}", "VM.Audit")]


def replication_job(call: Call) -> dict[str, Any]:
    job = _job(call)
    call.require(f"/vms/{job.guest}", "VM.Audit")
    return _replication_row(job) | {"digest": "da39a3ee5e6b4b0d3255bfef95601890afd80709"}


def _job(call: Call) -> ReplicationJob:
    name = call.params["id"]
    if name not in call.cluster.replication:
        raise died(f"no such replication job '{name}'")
    return call.cluster.replication[name]


def _replication_row(job: ReplicationJob) -> dict[str, Any]:
    row: dict[str, Any] = {"id": job.id, "guest": job.guest, "jobnum": job.jobnum, "target": job.target}
    row["type"] = "local"
    if job.disable:
        row["disable"] = 1
    for key in ("schedule", "rate", "comment", "source", "remove_job"):
        if getattr(job, key) is not None:
            row[key] = getattr(job, key)
    return row


def node_replication(call: Call) -> list[dict[str, Any]]:
    """The jobs of guests that are on this node now, with the state of their last run."""
    node, wanted = call.node().name, call.params.get("guest")
    found = []
    for job in call.ordered(call.cluster.replication.values()):
        guest = call.cluster.guests.get(job.guest)
        if guest is None or guest.node != node or (wanted is not None and str(job.guest) != wanted):
            continue
        if call.allows(f"/vms/{job.guest}", "VM.Audit"):
            found.append(_replication_state(call, job, guest.kind))
    return found


def node_replication_status(call: Call) -> dict[str, Any]:
    job = _job(call)
    call.require(f"/vms/{job.guest}", "VM.Audit")
    guest = call.cluster.guests.get(job.guest)
    return _replication_state(call, job, guest.kind if guest else "qemu")


def _replication_state(call: Call, job: ReplicationJob, kind: str) -> dict[str, Any]:
    row = _replication_row(job) | {"vmtype": kind, "fail_count": job.fail_count}
    row["next_sync"] = call.cluster.now + 900
    if job.last_sync is not None:
        row |= {"last_sync": job.last_sync, "last_try": job.last_sync, "duration": job.duration or 1.5}
    if job.error is not None:
        row["error"] = job.error
    return row


def backup_jobs(call: Call) -> list[dict[str, Any]]:
    call.require("/", "Sys.Audit")
    return [_backup_row(job) for job in call.ordered(call.cluster.backup_jobs.values())]


def backup_job(call: Call) -> dict[str, Any]:
    call.require("/", "Sys.Audit")
    name = call.params["id"]
    if name not in call.cluster.backup_jobs:
        raise bad_parameters(id=f"No such job '{name}'")
    return {key: value for key, value in _backup_row(call.cluster.backup_jobs[name]).items() if key != "next-run"}


def _property(value: Any) -> Any:
    """``keep-last=4,keep-daily=7`` as an object whose values are text, the way jobs.cfg is read."""
    if not isinstance(value, str):
        return value
    return dict(item.split("=", 1) for item in value.split(","))


def _backup_row(job: BackupJob) -> dict[str, Any]:
    options = job.options
    if ":" not in job.id:  # jobs of the old cron file are answered as they stand
        options = {key: _property(value) if key in _PROPERTIES else value for key, value in options.items()}
    row = {"id": job.id, "type": "vzdump", **options}
    if job.next_run is not None and row.get("enabled", 1) not in (0, "0"):
        row["next-run"] = job.next_run
    return row
