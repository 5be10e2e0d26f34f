"""Answers about guests: lists of a node, configuration, state, snapshots, the guest agent, container interfaces."""

from __future__ import annotations

import hashlib
import ipaddress
import json
from typing import Any

from .call import Call
from .errors import died
from .figures import guest_figures
from .spelling import flipped, mac_on_wire, respelled, tags_on_wire, typed
from .state import Agent, Guest


def list_guests(kind: str) -> Any:
    """The answer of /nodes/{node}/qemu or /lxc: the guests whose configuration lies on that node."""

    def answer(call: Call) -> list[dict[str, Any]]:
        guests = call.cluster.guests_on(call.node().name, kind)
        return call.ordered(_row(call, g) for g in guests if call.allows(f"/vms/{g.vmid}", "VM.Audit"))

    return answer


def _row(call: Call, guest: Guest) -> dict[str, Any]:
    figures = guest_figures(call, guest)
    row: dict[str, Any] = {
        "vmid": guest.vmid,
        "name": guest.broadcast_name,
        "status": "running" if guest.running else "stopped",
        "cpus": figures.pop("maxcpu"),
        **figures,
    }
    if guest.template:
        row["template"] = 1
    for key in ("lock", "tags"):
        if key in guest.config:
            row[key] = guest.config[key]
    if "tags" in row:
        row["tags"] = tags_on_wire(call, row["tags"])
    if guest.kind == "lxc":
        row |= {"type": "lxc", "swap": 0, "maxswap": int(guest.config.get("swap", "512")) << 20}
    elif guest.config.get("serial0"):
        row["serial"] = 1
    if guest.running:
        row["pid"] = 10_000 + guest.vmid % 50_000
    return flipped(call, row, {"vmid", "template", "maxmem", "maxdisk", "cpus"})


def current(kind: str) -> Any:
    """The answer of .../status/current."""

    def answer(call: Call) -> dict[str, Any]:
        call.require(f"/vms/{call.params['vmid']}", "VM.Audit")
        guest = call.guest(kind)
        row = _row(call, guest)
        row["ha"] = {"managed": 1, "state": guest.hastate} if guest.hastate else {"managed": 0}
        if kind == "qemu":
            row["qmpstatus"] = guest.status
            if agent_enabled(guest):
                row["agent"] = 1
        return row

    return answer


def config(kind: str) -> Any:
    """The answer of .../config: with waiting changes merged in unless ``current=1``; or of a snapshot."""

    def answer(call: Call) -> dict[str, Any]:
        call.require(f"/vms/{call.params['vmid']}", "VM.Audit")
        guest = call.guest(kind)
        return _config(call, guest)

    return answer


def _config(call: Call, guest: Guest) -> dict[str, Any]:
    name_key = "name" if guest.kind == "qemu" else "hostname"
    stored: dict[str, str | None] = {**({name_key: guest.name} if guest.name else {}), **guest.config}
    extra: dict[str, Any] = {}
    snapshot_name = call.params.get("snapshot")
    if snapshot_name is not None:
        if snapshot_name not in guest.snapshots:
            raise died(f"snapshot '{snapshot_name}' does not exist")
        snapshot = guest.snapshots[snapshot_name]
        stored = {**({name_key: guest.name} if guest.name else {}), **(snapshot.config or guest.config)}
        extra = {"snaptime": snapshot.snaptime} | ({"parent": snapshot.parent} if snapshot.parent else {})
    else:
        if not call.flag("current"):
            stored |= guest.pending
        if guest.parent is not None:
            extra["parent"] = guest.parent
    if guest.template:
        extra["template"] = 1
    if guest.lxc_raw:
        extra["lxc"] = [list(pair) for pair in guest.lxc_raw]
    answered = {key: typed(call, guest.kind, key, value) for key, value in stored.items() if value is not None}
    if "cipassword" in answered:
        answered["cipassword"] = "**********"
    if guest.kind == "lxc" and answered.get("description"):
        answered["description"] = str(answered["description"]).rstrip("\n") + "\n"
    answered |= extra
    answered["digest"] = hashlib.sha1(json.dumps([guest.name, guest.config], sort_keys=True).encode()).hexdigest()
    if "tags" in answered:
        answered["tags"] = tags_on_wire(call, answered["tags"])
    return respelled(call, guest, answered)


def snapshots(kind: str) -> Any:
    """The answer of .../snapshot: in no order, with a row ``current`` for the present state."""

    def answer(call: Call) -> list[dict[str, Any]]:
        call.require(f"/vms/{call.params['vmid']}", "VM.Audit")
        guest = call.guest(kind)
        rows = []
        for snapshot in guest.snapshots.values():
            row: dict[str, Any] = {"name": snapshot.name, "description": snapshot.description}
            row["snaptime"] = snapshot.snaptime
            if kind == "qemu":
                row["vmstate"] = int(snapshot.vmstate)
            if snapshot.parent:
                row["parent"] = snapshot.parent
            if snapshot.snapstate:
                row["snapstate"] = snapshot.snapstate
            rows.append(row)
        call.rng.shuffle(rows)
        present: dict[str, Any] = {"name": "current", "description": "You are here!", "running": int(guest.running)}
        present["digest"] = hashlib.sha1(json.dumps(guest.config, sort_keys=True).encode()).hexdigest()
        if guest.parent:
            present["parent"] = guest.parent
        return [*rows, present]

    return answer


def agent_enabled(guest: Guest) -> bool:
    """``agent: 1``, ``agent: enabled=1,...``."""
    first = guest.config.get("agent", "0").split(",")[0]
    return first.removeprefix("enabled=").lower() in ("1", "on", "yes", "true")


def _agent(call: Call) -> Agent:
    """The agent of the guest of the path. Raises PveError 403, or 500 in Proxmox's words when it cannot be asked."""
    vmid = call.params["vmid"]
    call.require_any(f"/vms/{vmid}", call.flavour.agent_privileges)
    guest = call.guest("qemu")
    if "agent" not in guest.config:
        raise died("No QEMU guest agent configured")
    if not guest.running:
        raise died(f"VM {vmid} is not running")
    answers = agent_enabled(guest) and guest.status == "running" and guest.agent is not None and guest.agent.running
    if guest.agent is None or not answers:
        raise died("QEMU guest agent is not running")
    if guest.agent.hangs:
        raise died(f"VM {vmid} qmp command 'guest-{call.params['command']}' failed - got timeout")
    return guest.agent


def agent_interfaces(call: Call) -> dict[str, Any]:
    """Rows as the agent gives them; an agent that may not be asked answers an error inside a 200."""
    agent = _agent(call)
    if agent.error:
        return {"result": {"error": agent.error}}
    rows = []
    for row in call.ordered(agent.interfaces):
        answered = dict(row)
        if "hardware-address" in row:
            answered["hardware-address"] = mac_on_wire(call, row["hardware-address"])
        if "ip-addresses" in row:
            answered["ip-addresses"] = call.ordered(row["ip-addresses"])
        if "statistics" in row:
            answered["statistics"] = {key: int(1e9 * call.noise(row["name"] + key)) for key in row["statistics"]}
        rows.append(answered)
    return {"result": rows}


def agent_host_name(call: Call) -> dict[str, Any]:
    agent = _agent(call)
    if agent.error or agent.host_name is None:
        error = agent.error or {
            "class": "CommandNotFound",
            "desc": "The command guest-get-host-name has not been found",
        }
        return {"result": {"error": error}}
    return {"result": {"host-name": agent.host_name}}


def agent_osinfo(call: Call) -> dict[str, Any]:
    agent = _agent(call)
    if agent.error or not agent.osinfo:
        error = agent.error or {"class": "Unsupported", "desc": "this feature or command is not currently supported"}
        return {"result": {"error": error}}
    return {"result": dict(agent.osinfo)}


def container_interfaces(call: Call) -> list[dict[str, Any]] | None:
    """A running container's interfaces; null for a stopped one. The old shape shows the last address per family."""
    call.require(f"/vms/{call.params['vmid']}", "VM.Audit")
    guest = call.guest("lxc")
    if not guest.running:
        return None
    rows = []
    for interface in call.ordered(guest.interfaces):
        mac = mac_on_wire(call, interface.mac)
        row: dict[str, Any] = {"name": interface.name, "hwaddr": mac}
        listed = []
        for text in call.ordered(interface.addresses):
            address = ipaddress.ip_interface(text)
            family = "inet" if address.version == 4 else "inet6"
            row[family] = text
            listed.append(
                {"ip-address": str(address.ip), "prefix": address.network.prefixlen, "ip-address-type": family}
            )
        if call.flavour.container_interfaces == "new":
            row |= {"hardware-address": mac, "ip-addresses": listed}
        rows.append(row)
    return rows
