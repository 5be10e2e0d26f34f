"""Stage 5: what Proxmox did to each guest, in the plugin's task history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from proxbox_dagster.facts import UNOBSERVED
from proxbox_dagster.netbox.spec import (
    Coverage,
    Desired,
    FieldSpec,
    Kind,
    ModelSpec,
    ObjectClass,
    Policy,
    Row,
    UniqueKey,
)
from proxbox_dagster.proxmox.parse.problem import ParseProblem
from proxbox_dagster.proxmox.parse.upid import parse_upid
from proxbox_dagster.proxmox.parse.values import vmid_in
from proxbox_dagster.stages.common import ENDPOINT, TAGS, owned, vm_ref
from proxbox_dagster.stages.guests import Guest, guests
from proxbox_dagster.stages.stage import Inputs, Stage, StageContext

_TASKS = "/nodes/{node}/tasks"
_FROM_UPID = "else decoded from the UPID"

TASK = ModelSpec(
    name="task_history",
    path="plugins/proxbox/task-history",
    model="netbox_proxbox.vmtaskhistory",
    identity=("upid",),
    fields=(
        ENDPOINT,
        FieldSpec(
            "virtual_machine", f"{_TASKS} id", "the guest that had that VMID when the task was first seen; other tasks "
            "are left out", Policy.CREATE_ONLY, Kind.REF, required=True,
        ),
        FieldSpec("vm_type", "/cluster/resources type", "qemu or lxc", limit=16),
        FieldSpec("upid", f"{_TASKS} upid", limit=255, required=True),
        FieldSpec("node", f"{_TASKS} node", _FROM_UPID, limit=255, required=True),
        FieldSpec("pid", f"{_TASKS} pid", _FROM_UPID),
        FieldSpec("pstart", f"{_TASKS} pstart", _FROM_UPID),
        FieldSpec("task_id", f"{_TASKS} id", limit=255),
        FieldSpec("task_type", f"{_TASKS} type", _FROM_UPID, limit=255, required=True),
        FieldSpec("username", f"{_TASKS} user", f"without the API token; {_FROM_UPID}", limit=255, required=True),
        FieldSpec("start_time", f"{_TASKS} starttime", f"UTC; {_FROM_UPID}", kind=Kind.DATETIME, required=True),
        FieldSpec("end_time", f"{_TASKS} endtime", "UTC; empty while the task runs", kind=Kind.DATETIME),
        FieldSpec(
            "description", f"{_TASKS} type, id", "QEMU VMID - ACTION or CT VMID - ACTION, actions as in Proxmox's UI",
            required=True,
        ),
        FieldSpec(
            "status", f"{_TASKS} status", "OK, WARNINGS: n or the error; 'running' while it runs; else 'unknown'",
            required=True,
        ),
        FieldSpec("task_state", f"{_TASKS} endtime", "running without one, else stopped", limit=255),
        FieldSpec("exitstatus", f"{_TASKS} status", "empty while the task runs"),
        TAGS,
    ),
    plugin=True,
    unique=(UniqueKey(("upid",), "upid"),),
    label="upid",
    parent="virtual_machine",
    removal="ignore",
    window="start_time",
)  # fmt: skip

TASK_HISTORY = ObjectClass(
    "task_history", TASK, "Task history", "The tasks of guests, in the plugin's task history. It only grows."
)

_ACTIONS = {
    "clone": "Clone",
    "config": "Configure",
    "create": "Create",
    "delsnapshot": "Delete snapshot",
    "destroy": "Destroy",
    "migrate": "Migrate",
    "mount": "Mount",
    "move": "Move disk",
    "pause": "Pause",
    "reboot": "Reboot",
    "reset": "Reset",
    "restore": "Restore",
    "resume": "Resume",
    "rollback": "Rollback",
    "shutdown": "Shutdown",
    "snapshot": "Snapshot",
    "start": "Start",
    "stop": "Stop",
    "suspend": "Suspend",
    "template": "Convert to template",
    "umount": "Unmount",
}
_OTHER_ACTIONS = {
    "vzdump": "Backup",
    "qmigrate": "Migrate",
    "qmsuspend": "Hibernate",
    "resize": "Resize",
    "move_volume": "Move volume",
    "vncproxy": "Console",
    "vncshell": "Console",
    "termproxy": "Console",
    "spiceproxy": "Console (SPICE)",
    "hamigrate": "HA: migrate",
    "harelocate": "HA: relocate",
    "hastart": "HA: start",
    "hastop": "HA: stop",
    "hashutdown": "HA: shutdown",
    "pull_file": "Pull file",
    "push_file": "Push file",
}
_DESTROYED = ("qmdestroy", "vzdestroy")


def action_of(task_type: str) -> str:
    """What Proxmox's UI calls a task of this type; a type that is not known is shown capitalised."""
    if task_type in _OTHER_ACTIONS:
        return _OTHER_ACTIONS[task_type]
    if task_type[:2] in ("qm", "vz") and task_type[2:] in _ACTIONS:
        return _ACTIONS[task_type[2:]]
    return task_type[:1].upper() + task_type[1:]


def build(inputs: Inputs, context: StageContext) -> list[Desired]:
    """Desired rows of stage 5 from ``node_tasks`` and ``guests``."""
    if not context.plugin:
        return []
    desired = Desired(TASK_HISTORY, coverage=Coverage(reason="history only grows: Proxmox rotates its own out"))
    by_vmid = {guest.vmid: guest for guest in guests(inputs, context)}
    tasks: dict[str, Mapping[str, Any]] = {}
    for row in inputs["node_tasks"].rows:
        known = tasks.get(row["upid"])
        if known is None or known["running"] is True:
            tasks[row["upid"]] = row
    ended = _ends_of_earlier_guests(tasks.values())
    earlier = 0
    for upid in sorted(tasks, key=lambda upid: (_start(tasks[upid]), upid)):
        task = tasks[upid]
        vmid = vmid_in(task["id"])
        guest = by_vmid.get(vmid) if vmid is not None else None
        if guest is None:
            continue
        values = _values(task, guest)
        if _of_another_guest(values, guest, ended.get(guest.vmid)):
            earlier += 1
        elif unknown := [name for name in ("start_time", "task_type", "username", "status") if not values[name]]:
            desired.skip(f"{guest.label} {upid}", f"Proxmox does not tell its {', '.join(unknown)}", (upid,))
        else:
            values["virtual_machine"] = vm_ref(context, guest.kind, guest.vmid)
            label = f"{values['description']} ({upid})"
            desired.rows.append(Row(owned(context, values), label, context.link(guest.key)))
    if earlier:
        desired.notes.append(f"{earlier} tasks were of earlier guests whose VMIDs are in use again: they are left out")
    return [desired]


def _start(task: Mapping[str, Any]) -> int:
    """For the order in which tasks are written: the newest one that NetBox has tells that it has those before it."""
    start = task["starttime"]
    if isinstance(start, int):
        return start
    upid = parse_upid(task["upid"])
    return 0 if isinstance(upid, ParseProblem) else upid.starttime


def _ends_of_earlier_guests(tasks: Iterable[Mapping[str, Any]]) -> dict[int, int]:
    """By VMID the time of the last successful destruction: whatever was before happened to another guest."""
    ended: dict[int, int] = {}
    for task in tasks:
        vmid, status = vmid_in(task["id"]), task["status"]
        if vmid is None or task["type"] not in _DESTROYED or not isinstance(status, str):
            continue
        if (status == "OK" or status.startswith("WARNINGS")) and isinstance(task["starttime"], int):
            ended[vmid] = max(ended.get(vmid, 0), task["starttime"])
    return ended


def _of_another_guest(values: Mapping[str, Any], guest: Guest, ended: int | None) -> bool:
    """True where the VMID was another guest's then: of the other type, or one that was destroyed since."""
    start, kind = values["start_time"], str(values["task_type"] or "")[:2]
    if values["task_type"] != "vzdump" and {"qm": "qemu", "vz": "lxc"}.get(kind, guest.kind) != guest.kind:
        return True
    return ended is not None and isinstance(start, int) and start <= ended


def _values(task: Mapping[str, Any], guest: Guest) -> dict[str, Any]:
    upid = parse_upid(task["upid"])
    decoded = None if isinstance(upid, ParseProblem) else upid

    def told(column: str) -> Any:
        value = task[column]
        return getattr(decoded, column, None) if value in (None, "") or value is UNOBSERVED else value

    running = task["running"] is True
    status = task["status"]
    task_type = told("type")
    word = "CT" if guest.kind == "lxc" else "QEMU"
    return {
        "vm_type": guest.kind,
        "upid": task["upid"],
        "node": told("node"),
        "pid": told("pid"),
        "pstart": told("pstart"),
        "task_id": task["id"],
        "task_type": task_type,
        "username": str(told("user") or "").partition("!")[0],
        "start_time": told("starttime"),
        "end_time": None if running else task["endtime"],
        "description": f"{word} {guest.vmid} - {action_of(str(task_type or 'unknown'))}",
        "status": "running" if running else (status if status is UNOBSERVED else status or "unknown"),
        "task_state": "running" if running else "stopped",
        "exitstatus": None if running else status,
    }


STAGE = Stage(
    number=5,
    name="task_history",
    group="guest_data",
    title="Task history",
    description="What Proxmox did to each guest: starts, backups, migrations, ... with outcome and times in UTC.",
    sources=("node_tasks", "guests"),
    object_classes=(TASK_HISTORY,),
    upstream=("virtual_machines",),
    build=build,
)
