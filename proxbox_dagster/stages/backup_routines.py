"""Stage 12: backup jobs, with the guests that each one takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxbox_dagster.facts import UNOBSERVED
from proxbox_dagster.netbox.spec import Desired, FieldSpec, Kind, ModelSpec, ObjectClass, Ref, Row, UniqueKey
from proxbox_dagster.proxmox.parse.problem import ParseProblem
from proxbox_dagster.proxmox.parse.prune import parse_prune
from proxbox_dagster.proxmox.parse.values import properties, to_int
from proxbox_dagster.stages.backup_selection import selection_of
from proxbox_dagster.stages.common import (
    ENDPOINT,
    TAGS,
    covered,
    endpoint_ref,
    owned,
    plain_config,
    proxmox_node_ref,
    storage_ref,
)
from proxbox_dagster.stages.stage import Inputs, Stage, StageContext

_JOB = "/cluster/backup"
_TEXT = 1_000_000
_KEPT = ("keep_all", "keep_last", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

ROUTINE = ModelSpec(
    name="backup_routines",
    path="plugins/proxbox/backup-routines",
    model="netbox_proxbox.backuproutine",
    identity=("cf.proxmox_endpoint", "job_id"),
    fields=(
        ENDPOINT,
        FieldSpec("endpoint", "—", "the plugin's endpoint row", kind=Kind.REF, required=True),
        FieldSpec("job_id", f"{_JOB} id", limit=255, required=True),
        FieldSpec("enabled", f"{_JOB} enabled", "true without one"),
        FieldSpec("schedule", f"{_JOB} schedule, else dow and starttime", "a calendar event", limit=255),
        FieldSpec("next_run", f"{_JOB} next-run", "UTC; empty while the job is off", kind=Kind.DATETIME),
        FieldSpec("node", f"{_JOB} node", "the plugin's row of the node; empty for all nodes", kind=Kind.REF),
        FieldSpec("storage", f"{_JOB} storage", "the plugin's row of the storage", kind=Kind.REF),
        FieldSpec(
            "selection",
            f"{_JOB} all, exclude, pool, vmid, node; /cluster/resources vmid, pool, node",
            "the VMIDs that Proxmox would take now: all but the excluded ones, the pool's members, or the listed "
            "ones; of these only those on the job's node. A job that takes no guest is left out: the plugin needs one",
            kind=Kind.JSON,
            required=True,
        ),
        FieldSpec("comment", f"{_JOB} comment", limit=_TEXT),
        FieldSpec("status", _JOB, "active; stale once it is missing"),
        *(
            FieldSpec(name, f"{_JOB} prune-backups {name.replace('_', '-')}", "else maxfiles (before Proxmox VE 7)")
            for name in _KEPT[:2]
        ),
        *(FieldSpec(name, f"{_JOB} prune-backups {name.replace('_', '-')}") for name in _KEPT[2:]),
        FieldSpec("notes_template", f"{_JOB} notes-template", limit=_TEXT),
        FieldSpec("bwlimit", f"{_JOB} bwlimit", "KiB/s"),
        FieldSpec("zstd", f"{_JOB} zstd"),
        FieldSpec("io_workers", f"{_JOB} performance max-workers"),
        FieldSpec("fleecing", f"{_JOB} fleecing", "as enabled=1,storage=NAME", limit=255),
        FieldSpec("fleecing_storage", f"{_JOB} fleecing storage", "the plugin's row of the storage", kind=Kind.REF),
        FieldSpec("repeat_missed", f"{_JOB} repeat-missed", "empty without one"),
        FieldSpec("pbs_change_detection_mode", f"{_JOB} pbs-change-detection-mode", limit=50),
        FieldSpec(
            "raw_config", _JOB, "the whole entry but next-run; numbers as numbers, sets in order", kind=Kind.JSON
        ),
        TAGS,
    ),
    plugin=True,
    unique=(UniqueKey(("job_id", "endpoint"), "job_id"),),
    label="job_id",
    removal="mark",
    missing_status="stale",
)

ROUTINES = ObjectClass(
    "backup_routines", ROUTINE, "Backup routines", "The backup jobs with schedule, retention and the guests they take."
)


def build(inputs: Inputs, context: StageContext) -> list[Desired]:
    """Desired rows of stage 12 from ``backup_jobs`` and ``guests``."""
    if not context.plugin:
        return []
    read = inputs["backup_jobs"]
    desired = Desired(ROUTINES, coverage=covered(context, read))
    for job in sorted(read.rows, key=lambda row: row["id"]):
        label = f"backup job {job['id']}"
        selection, notes = selection_of(job, inputs["guests"])
        desired.notes += [f"{label}: {note}" for note in notes]
        if selection == []:
            reason = "it takes no guest at present, and the plugin's row needs at least one"
            desired.skip(label, reason, (context.endpoint, job["id"]))
            continue
        values = {
            **_plain_values(job),
            **_retention(job, label, desired),
            **_fleecing(context, job, label, desired),
            "endpoint": endpoint_ref(context),
            "job_id": job["id"],
            "node": _ref_or(job["node"], proxmox_node_ref, context),
            "storage": _ref_or(job["storage"], storage_ref, context),
            "selection": selection,
            "io_workers": _workers(job, label, desired),
        }
        desired.rows.append(Row(owned(context, values), label, context.link("cluster")))
    return [desired]


def _ref_or(name: Any, ref: Any, context: StageContext) -> Ref | Any:
    return ref(context, name) if isinstance(name, str) and name else (UNOBSERVED if name is UNOBSERVED else None)


def _plain_values(job: Mapping[str, Any]) -> dict[str, Any]:
    enabled = job["enabled"]
    return {
        "enabled": True if enabled is None else enabled,
        "schedule": schedule_of(job),
        "next_run": None if enabled is False else job["next-run"],
        "comment": job["comment"],
        "status": "active",
        "notes_template": job["notes-template"],
        "bwlimit": job["bwlimit"],
        "zstd": job["zstd"],
        "repeat_missed": job["repeat-missed"],
        "pbs_change_detection_mode": job["pbs-change-detection-mode"],
        "raw_config": plain_config(
            job["raw"],
            sets=("vmid", "exclude", "mailto"),
            objects=("prune-backups", "fleecing", "performance"),
        ),
    }


def schedule_of(job: Mapping[str, Any]) -> Any:
    """The calendar event; jobs from before calendar events have days and a time, which together are one."""
    schedule, days, start = job["schedule"], job["dow"], job["starttime"]
    if UNOBSERVED in (schedule, days, start):
        return UNOBSERVED
    if schedule or not start:
        return schedule
    named = {day.strip().lower() for day in (days or "").split(",")} - {""}
    if not named or named >= set(_DAYS):
        return start
    return f"{','.join(sorted(named, key=lambda day: _DAYS.index(day) if day in _DAYS else len(_DAYS)))} {start}"


def _retention(job: Mapping[str, Any], label: str, desired: Desired) -> dict[str, Any]:
    value, files = job["prune-backups"], job["maxfiles"]
    if value is None and isinstance(files, int):
        value = {"keep-last": files} if files > 0 else {"keep-all": 1}
    prune = parse_prune(value)
    if isinstance(prune, ParseProblem):
        desired.notes.append(f"{label}: prune-backups cannot be read ({prune}): retention is left alone")
        return dict.fromkeys(_KEPT, UNOBSERVED)
    return {name: getattr(prune, name) for name in _KEPT}


def _fleecing(context: StageContext, job: Mapping[str, Any], label: str, desired: Desired) -> dict[str, Any]:
    value = job["fleecing"]
    fields = properties({} if value is None else value, default_key="enabled")
    if isinstance(fields, ParseProblem):
        desired.notes.append(f"{label}: fleecing cannot be read ({fields}): it is left alone")
        return {"fleecing": UNOBSERVED, "fleecing_storage": UNOBSERVED}
    return {
        "fleecing": ",".join(f"{key}={fields[key]}" for key in sorted(fields)) or None,
        "fleecing_storage": _ref_or(fields.get("storage"), storage_ref, context),
    }


def _workers(job: Mapping[str, Any], label: str, desired: Desired) -> Any:
    value = job["performance"]
    fields = properties({} if value is None else value)
    workers = fields if isinstance(fields, ParseProblem) else to_int(fields.get("max-workers"))
    if isinstance(workers, ParseProblem):
        desired.notes.append(f"{label}: performance cannot be read ({workers}): io_workers is left alone")
        return UNOBSERVED
    return workers


STAGE = Stage(
    number=12,
    name="backup_routines",
    group="operational",
    title="Backup routines",
    description="The backup jobs with schedule, next run, retention and the guests that each one takes.",
    sources=("backup_jobs", "guests"),
    object_classes=(ROUTINES,),
    upstream=("devices", "storage"),
    build=build,
)
