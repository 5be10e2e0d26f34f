"""Stage 11: replication jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxbox_dagster.facts import UNOBSERVED
from proxbox_dagster.netbox.spec import Desired, FieldSpec, Kind, ModelSpec, ObjectClass, Row, UniqueKey
from proxbox_dagster.proxmox.parse.values import vmid_in
from proxbox_dagster.stages.common import (
    ENDPOINT,
    TAGS,
    covered,
    endpoint_ref,
    owned,
    plain_config,
    proxmox_node_ref,
    vm_ref,
)
from proxbox_dagster.stages.guests import guests, hidden
from proxbox_dagster.stages.stage import Inputs, Stage, StageContext

_JOB = "/cluster/replication"
DEFAULT_SCHEDULE = "*/15"
"""Proxmox's own, for a job without one (its API schema)."""

REPLICATION = ModelSpec(
    name="replications",
    path="plugins/proxbox/replications",
    model="netbox_proxbox.replication",
    identity=("cf.proxmox_endpoint", "replication_id"),
    fields=(
        ENDPOINT,
        FieldSpec("endpoint", "—", "the plugin's endpoint row", kind=Kind.REF, required=True),
        FieldSpec("replication_id", f"{_JOB} id", limit=255, required=True),
        FieldSpec("virtual_machine", f"{_JOB} guest", "the guest's virtual machine", kind=Kind.REF, required=True),
        FieldSpec("guest", f"{_JOB} guest", required=True),
        FieldSpec("jobnum", f"{_JOB} jobnum", "else the number behind the hyphen of the id", required=True),
        FieldSpec("target", f"{_JOB} target", limit=255, required=True),
        FieldSpec("proxmox_node", f"{_JOB} target", "the plugin's row of the target node", kind=Kind.REF),
        FieldSpec("source", f"{_JOB} source", limit=255),
        FieldSpec("job_type", f"{_JOB} type", "local, the only one there is"),
        FieldSpec("schedule", f"{_JOB} schedule", f"{DEFAULT_SCHEDULE} (Proxmox's default) without one", limit=128),
        FieldSpec("rate", f"{_JOB} rate", "MB/s", kind=Kind.NUMBER),
        FieldSpec("comment", f"{_JOB} comment"),
        FieldSpec("disable", f"{_JOB} disable", "false without one"),
        FieldSpec("remove_job", f"{_JOB} remove_job", "local or full while the job is being removed"),
        FieldSpec("status", _JOB, "active; stale once it is missing"),
        FieldSpec("raw_config", _JOB, "the whole entry; numbers as numbers", kind=Kind.JSON),
        TAGS,
    ),
    plugin=True,
    unique=(UniqueKey(("replication_id", "endpoint"), "replication_id"),),
    label="replication_id",
    removal="mark",
    missing_status="stale",
)

REPLICATIONS = ObjectClass("replications", REPLICATION, "Replications", "The replication jobs of guests.")


def build(inputs: Inputs, context: StageContext) -> list[Desired]:
    """Desired rows of stage 11 from ``replication_jobs`` and ``guests``."""
    if not context.plugin:
        return []
    read = inputs["replication_jobs"]
    by_vmid = {guest.vmid: guest for guest in guests(inputs, context)}
    desired = Desired(REPLICATIONS, coverage=covered(context, read))
    for job in sorted(read.rows, key=lambda row: row["id"]):
        name, vmid = job["id"], _number(job["guest"], name=job["id"], part=0)
        key = (context.endpoint, name)
        guest = by_vmid.get(vmid) if vmid is not None else None
        if guest is None:
            gap = hidden(inputs, vmid) if vmid is not None else None
            reason = f"is not observed: {gap.reason}" if gap else "is not in the cluster any more"
            desired.skip(f"replication job {name}", f"its guest {vmid} {reason}", key)
            continue
        values = _values(context, job)
        values["virtual_machine"] = vm_ref(context, guest.kind, guest.vmid)
        values["guest"] = vmid
        desired.rows.append(Row(owned(context, values), f"{guest.label} {name}", context.link(guest.key)))
    return [desired]


def _values(context: StageContext, job: Mapping[str, Any]) -> dict[str, Any]:
    target, disable, schedule = job["target"], job["disable"], job["schedule"]
    return {
        "endpoint": endpoint_ref(context),
        "replication_id": job["id"],
        "jobnum": _number(job["jobnum"], name=job["id"], part=1),
        "target": target,
        "proxmox_node": proxmox_node_ref(context, target) if isinstance(target, str) else UNOBSERVED,
        "source": job["source"],
        "job_type": "local" if job["type"] in (None, "local") else UNOBSERVED,
        "schedule": DEFAULT_SCHEDULE if schedule in (None, "") else schedule,
        "rate": job["rate"],
        "comment": job["comment"],
        "disable": False if disable is None else disable,
        "remove_job": job["remove_job"] if job["remove_job"] in (None, "local", "full") else UNOBSERVED,
        "status": "active",
        "raw_config": plain_config(job["raw"]),
    }


def _number(told: Any, *, name: str, part: int) -> int | None:
    """A number of the job; the id ``GUEST-JOBNUM`` has both."""
    if isinstance(told, int):
        return told
    pieces = name.split("-")
    return vmid_in(pieces[part]) if len(pieces) == 2 else None


STAGE = Stage(
    number=11,
    name="replications",
    group="operational",
    title="Replications",
    description="The replication jobs of guests, with their target nodes.",
    sources=("replication_jobs", "guests"),
    object_classes=(REPLICATIONS,),
    upstream=("virtual_machines",),
    build=build,
)
