"""Answers about one node: its state, network, tasks, replication."""

from __future__ import annotations

import difflib
from typing import Any

from .answers_cluster import node_row, node_version
from .call import Call, Rows
from .errors import bad_parameters
from .figures import node_figures
from .spelling import flipped
from .state import Node, Task

_BRIDGES = ("bridge", "OVSBridge")
_INTERFACES = "/etc/network/interfaces"
_TOLD = frozenset({"iface", "type", "method", "method6", "families", "active", "exists", "autostart", "priority"})
"""Keys of an interface's row that are no line of the file, or its first ones."""


def nodes(call: Call) -> list[dict[str, Any]]:
    return [
        node_row(call, node) | {"ssl_fingerprint": node.fingerprint}
        for node in call.ordered(call.cluster.nodes.values())
    ]


def version(call: Call) -> dict[str, Any]:
    return node_version(call.node())


def status(call: Call) -> dict[str, Any]:
    node = call.node()
    call.require(f"/nodes/{node.name}", "Sys.Audit")
    figures = node_figures(call, node)
    memory, disk = {"total": node.memory, "used": figures["mem"]}, {"total": node.disk, "used": figures["disk"]}
    return {
        "pveversion": f"pve-manager/{node.version}/{node.repoid}",
        "uptime": figures["uptime"],
        "cpu": figures["cpu"],
        "wait": 0,
        "idle": 0,
        "loadavg": [f"{figures['cpu'] * node.cpus:.2f}"] * 3,
        "cpuinfo": {"cpus": node.cpus, "cores": node.cpus // 2 or 1, "sockets": 1, "model": "Generic x86-64 processor"},
        "memory": memory | {"free": node.memory - figures["mem"], "available": node.memory - figures["mem"]},
        "rootfs": disk | {"free": node.disk - figures["disk"], "avail": node.disk - figures["disk"]},
        "swap": {"total": 0, "used": 0, "free": 0},
        "ksm": {"shared": 0},
        "boot-info": {"mode": "efi", "secureboot": 0},
        "current-kernel": {"sysname": "Linux", "release": "6.17.2-1-pve", "version": "#1 SMP", "machine": "x86_64"},
        "kversion": "Linux 6.17.2-1-pve #1 SMP",
    }


def network(call: Call) -> list[dict[str, Any]] | Rows:
    """The interfaces; bridges only for a caller who may see the local network.

    While a changed configuration waits to be applied (``interfaces.new``), the rows are of that one, and what it
    changes stands beside them.
    """
    node = call.node()
    wanted = call.params.get("type")
    rows = []
    for row in node.configured:
        kind = row["type"]
        if wanted == "any_bridge" or wanted == "any_local_bridge":
            if kind not in _BRIDGES:
                continue
        elif wanted not in (None, "include_sdn", kind):
            continue
        if kind in _BRIDGES and not _may_see_bridge(call, row["iface"]):
            continue
        rows.append(_interface(call, row))
    listed = call.ordered(rows)
    return listed if node.network_new is None else Rows(listed, {"changes": network_diff(node)})


def network_diff(node: Node) -> str:
    """What ``diff -u`` says of the file in use and the one that waits."""
    old, new = (_file_lines(rows) for rows in (node.network, node.configured))
    return "".join(difflib.unified_diff(old, new, _INTERFACES, f"{_INTERFACES}.new"))


def _file_lines(rows: list[dict[str, Any]]) -> list[str]:
    """The interfaces file, as far as a difference shows."""
    lines: list[str] = []
    for row in rows:
        lines += [f"auto {row['iface']}\n"] if row.get("autostart") else []
        lines.append(f"iface {row['iface']} inet {row.get('method', 'manual')}\n")
        named = ((key.replace("_", "-"), value) for key, value in sorted(row.items()) if key not in _TOLD)
        lines += [f"\t{key} {str(value).strip()}\n" for key, value in named]
        lines.append("\n")
    return lines


def _may_see_bridge(call: Call, name: str) -> bool:
    if call.flavour.name == "7.4":
        return True
    return call.allows_any(f"/sdn/zones/localnetwork/{name}", ("SDN.Audit", "SDN.Use"))


def _interface(call: Call, row: dict[str, Any]) -> dict[str, Any]:
    """Members stand in the order of the interfaces file; a test may have asked for another order."""
    shuffled = flipped(call, row, {"mtu", "vlan-id", "active", "autostart", "bridge_vlan_aware", "netmask6"})
    if call.cluster.order_seed is None:
        return dict(shuffled)
    shuffled = dict(shuffled)
    for key in ("bridge_ports", "slaves", "ovs_ports", "ovs_bonds"):
        if isinstance(row.get(key), str):
            shuffled[key] = " ".join(call.ordered(row[key].split()))
    return shuffled


def network_interface(call: Call) -> dict[str, Any]:
    node = call.node()
    call.require(f"/nodes/{node.name}", "Sys.Audit")
    for row in node.configured:
        if row["iface"] == call.params["iface"]:
            return {key: value for key, value in _interface(call, row).items() if key != "iface"}
    raise bad_parameters(iface="interface does not exist")


def tasks(call: Call) -> Rows:
    """The archive of finished tasks unless ``source`` says otherwise; 50 rows unless ``limit`` does; newest first."""
    node, params = call.node(), call.params
    source = params.get("source", "archive")
    start, limit = int(params.get("start", 0)), int(params.get("limit", 50)) or 50
    audit = call.allows(f"/nodes/{node.name}", "Sys.Audit")
    found = [
        task
        for task in call.cluster.tasks.get(node.name, [])
        if (source == "all" or (task.end is None) == (source == "active"))
        and (audit or task.user == call.user)
        and _wanted(call, task)
    ]
    return Rows([task_row(task) for task in found[start : start + limit]], {"total": len(found)})


def _wanted(call: Call, task: Task) -> bool:
    params = call.params
    checks = (
        "vmid" not in params or task.id == params["vmid"],
        "typefilter" not in params or task.type == params["typefilter"],
        "userfilter" not in params or params["userfilter"].lower() in task.user.lower(),
        "since" not in params or task.start >= int(params["since"]),
        "until" not in params or task.start <= int(params["until"]),
        not call.flag("errors") or task.status not in (None, "OK"),
        "statusfilter" not in params or _status_kind(task) in params["statusfilter"].split(","),
    )
    return all(checks)


def _status_kind(task: Task) -> str:
    status = task.status
    if status is None or status == "unexpected status":
        return "unknown"
    if status == "OK":
        return "ok"
    return "warning" if status.startswith("WARNINGS: ") else "error"


def task_row(task: Task) -> dict[str, Any]:
    row: dict[str, Any] = {
        "upid": task.upid,
        "node": task.node,
        "pid": task.pid,
        "pstart": task.pstart,
        "starttime": task.start,
        "type": task.type,
        "id": task.id,
        "user": task.user,
    }
    if task.tokenid:
        row["tokenid"] = task.tokenid
    if task.end is None:
        return row | {"status": "RUNNING"}
    return row | {"endtime": task.end, "status": task.status}


def task_status(call: Call) -> dict[str, Any]:
    node, upid = call.node(), call.params["upid"]
    if not upid.startswith("UPID:"):
        raise bad_parameters(upid="unable to parse worker upid")
    for task in call.cluster.tasks.get(node.name, []):
        if task.upid == upid:
            if task.user != call.user:
                call.require(f"/nodes/{node.name}", "Sys.Audit")
            row = {key: value for key, value in task_row(task).items() if key not in ("status", "endtime")}
            if task.end is None:
                return row | {"status": "running"}
            return row | {"status": "stopped", "exitstatus": task.status}
    raise bad_parameters(upid="no such task")
