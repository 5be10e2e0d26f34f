"""Clusters described in YAML, by hand: see ``demo/data/clusters``.

A description names things as Proxmox does. Guests' ``config`` keys are verbatim those of Proxmox. Sizes may be
written ``64G``, times as ISO 8601 (UTC unless they say otherwise). Rows of a node's network may leave out what follows
from the rest (method, families, address of a cidr, ...).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from .changes import config_text
from .cluster import Cluster
from .flavours import FLAVOURS
from .job_changes import make_backup, sort_tasks
from .state import (
    Agent,
    BackupJob,
    ContainerInterface,
    Guest,
    Node,
    Pool,
    ReplicationJob,
    Snapshot,
    Storage,
    Task,
    parse_size,
    words,
)

DEMO_CLUSTERS = ("ams1", "lab")
"""The clusters of the demonstration, by the names of their descriptions."""

_TOP = words("""
    name flavour standalone now nodes storages pools options guests tasks backups replication backup_jobs ha
""")
_STORAGE_KEYS = words("type content shared nodes disable total used unreachable")


_YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is ten times as fast


class DescriptionError(ValueError):
    """A cluster's description is wrong; says where and why."""


def load_cluster(source: str | Path) -> Cluster:
    """The cluster described in a YAML file, or by the name of one that is shipped.

    Raises FileNotFoundError where there is none, DescriptionError naming the entry that is wrong.
    """
    if isinstance(source, Path):
        text = source.read_text(encoding="utf-8")
    else:
        shipped = resources.files("proxbox_dagster.demo") / "data" / "clusters" / f"{source}.yaml"
        if not shipped.is_file():
            raise FileNotFoundError(f"no cluster description {source!r} is shipped (data/clusters/{source}.yaml)")
        text = shipped.read_text(encoding="utf-8")
    return read_cluster(yaml.load(text, Loader=_YAML))


def read_cluster(described: Mapping[str, Any]) -> Cluster:
    """The cluster of a description. Raises DescriptionError."""
    _only(described, _TOP, "cluster")
    flavour = FLAVOURS[str(described.get("flavour", "9.1"))]
    cluster = Cluster(str(described["name"]), flavour.name, bool(described.get("standalone", False)))
    if "now" in described:
        cluster.now = epoch(described["now"])
    for number, (name, values) in enumerate(described["nodes"].items(), start=1):
        cluster.nodes[name] = _node(cluster, name, number, values or {})
    for name, values in described.get("storages", {}).items():
        cluster.storages[name] = _storage(name, values)
    for values in described.get("guests", []):
        _add_guest(cluster, dict(values))
    for name, values in described.get("pools", {}).items():
        cluster.pools[name] = Pool(
            name, values.get("comment", ""), set(values.get("guests", [])), set(values.get("storages", []))
        )
    cluster.index_pools()
    cluster.options = dict(described.get("options", {}))
    cluster.ha_resources = dict(described.get("ha", {}))
    for values in described.get("backups", []):
        _add_backup(cluster, None, dict(values))
    for values in described.get("tasks", []):
        _add_task(cluster, None, dict(values))
    for values in described.get("replication", []):
        job = _make(ReplicationJob, values, "replication job", times=("last_sync",))
        cluster.replication[job.id] = job
    for name, values in described.get("backup_jobs", {}).items():
        options = dict(values)
        next_run = options.pop("next-run", None)
        cluster.backup_jobs[name] = BackupJob(name, options, epoch(next_run) if next_run else None)
    for tasks in cluster.tasks.values():
        sort_tasks(tasks)
    return cluster


def epoch(value: Any) -> int:
    """Epoch seconds of a number, an ISO 8601 text or what YAML made of one. Raises DescriptionError."""
    if isinstance(value, int):
        return value
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError as error:
        raise DescriptionError(f"{value!r} is no time: {error}") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _only(values: Mapping[str, Any], known: frozenset[str] | set[str], where: str) -> None:
    unknown = set(values) - known
    if unknown:
        raise DescriptionError(f"{where}: unknown key {', '.join(sorted(map(str, unknown)))}")


def _make(kind: type[Any], values: Mapping[str, Any], where: str, times: tuple[str, ...] = ()) -> Any:
    """A record of ``values``, whose ``times`` are converted. Raises DescriptionError for keys that it has not."""
    _only(values, {known.name for known in fields(kind)}, where)
    converted = {key: epoch(value) if key in times and value is not None else value for key, value in values.items()}
    try:
        return kind(**converted)
    except TypeError as error:
        raise DescriptionError(f"{where}: {error}") from None


def _node(cluster: Cluster, name: str, number: int, values: Mapping[str, Any]) -> Node:
    given = {key: parse_size(value) if key in ("memory", "disk") else value for key, value in values.items()}
    rows: list[dict[str, Any]] = list(values.get("network", []))
    given.pop("network", None)
    flavour = cluster.flavour
    defaults = {"nodeid": number, "version": flavour.version, "repoid": flavour.repoid}
    node = _make(Node, {**defaults, "started": cluster.now - 864_000 * number, **given, "name": name}, f"node {name}")
    node.network = [interface_row(row, priority) for priority, row in enumerate(rows, start=3)]
    if not node.fingerprint:
        digest = hashlib.sha256(f"{cluster.name}/{name}".encode()).hexdigest().upper()
        node.fingerprint = ":".join(digest[index : index + 2] for index in range(0, 64, 2))
    return node


def interface_row(given: Mapping[str, Any], priority: int) -> dict[str, Any]:
    """A row of /nodes/{node}/network with what follows from ``given`` filled in, as Proxmox's parser does."""
    row: dict[str, Any] = {"active": 1, "priority": priority, "method": "manual", "method6": "manual"}
    families = []
    for family, cidr_key, suffix in (("inet", "cidr", ""), ("inet6", "cidr6", "6")):
        if cidr_key in given:
            address, _, length = str(given[cidr_key]).partition("/")
            row |= {f"method{suffix}": "static", f"address{suffix}": address, f"netmask{suffix}": length}
            families.append(family)
    row["families"] = families or ["inet"]
    kind = given["type"]
    if kind == "eth":
        row["exists"] = 1
    else:
        row["autostart"] = 1
    if kind == "bridge":
        row |= {"bridge_fd": "0", "bridge_stp": "off"}
    if kind == "vlan":
        row["exists"] = None
    if kind.startswith("OVS"):
        row["ovs_type"] = kind
    return row | dict(given)


def _storage(name: str, values: Mapping[str, Any]) -> Storage:
    known = {key: value for key, value in values.items() if key in _STORAGE_KEYS}
    for key in ("total", "used"):
        if key in known:
            known[key] = parse_size(known[key])
    for key in ("content", "nodes"):
        if isinstance(known.get(key), str):
            known[key] = [item.strip() for item in known[key].split(",") if item.strip()]
    if "unreachable" in known:
        known["unreachable"] = set(known["unreachable"])
    options = {key: value for key, value in values.items() if key not in _STORAGE_KEYS}
    return _make(Storage, {"name": name, "options": options, **known}, f"storage {name}")


def _add_guest(cluster: Cluster, values: dict[str, Any]) -> None:
    kind = "qemu" if "qemu" in values else "lxc"
    if kind not in values:
        raise DescriptionError(f"guest {values.get('name')}: say qemu: VMID or lxc: VMID")
    vmid = values.pop(kind)
    where = f"guest {kind}/{vmid}"
    if vmid in cluster.guests:
        raise DescriptionError(f"{where}: VMID taken twice")
    if values.get("node") not in cluster.nodes:
        raise DescriptionError(f"{where}: no node {values.get('node')!r}")
    backups, tasks = values.pop("backups", []), values.pop("tasks", [])
    agent, interfaces = values.pop("agent", None), values.pop("interfaces", [])
    snapshots, raw = values.pop("snapshots", []), values.pop("lxc_raw", [])
    for key in ("config", "pending"):
        stored = values.get(key, {})
        values[key] = {name: None if value is None else config_text(value) for name, value in stored.items()}
    guest = _make(Guest, {"kind": kind, "vmid": vmid, **values}, where, times=("started",))
    guest.lxc_raw = [(str(key), str(value)) for key, value in raw]
    for snapshot in snapshots:
        given = {"config": dict(guest.config), **snapshot}
        guest.snapshots[snapshot["name"]] = _make(Snapshot, given, f"{where}: snapshot", times=("snaptime",))
        if "parent" not in values:
            guest.parent = snapshot["name"]
    if guest.running and not guest.started:
        guest.started = cluster.now - 3600 * (vmid % 500 + 1)
    guest.agent = _agent(agent) if agent is not None else None
    guest.interfaces = [_make(ContainerInterface, row, f"{where}: interface") for row in interfaces]
    cluster.guests[vmid] = guest
    for backup in backups:
        _add_backup(cluster, guest, dict(backup))
    for task in tasks:
        _add_task(cluster, guest, dict(task))


def _agent(values: Mapping[str, Any]) -> Agent:
    given = {key.replace("-", "_"): value for key, value in values.items()}
    given["osinfo"] = given.pop("os", {})
    rows = given.pop("interfaces", [])
    agent: Agent = _make(Agent, given, "agent")
    agent.interfaces = [agent_row(row) for row in rows]
    return agent


def agent_row(given: Mapping[str, Any]) -> dict[str, Any]:
    """A row of network-get-interfaces; ``raw`` gives it verbatim, else from name, mac and addresses with length."""
    if "raw" in given:
        return dict(given["raw"])
    row: dict[str, Any] = {"name": given["name"]}
    if given.get("mac"):
        row["hardware-address"] = str(given["mac"]).lower()
    if "addresses" in given:
        row["ip-addresses"] = [_agent_address(text) for text in given["addresses"]]
    row["statistics"] = dict.fromkeys(("rx-bytes", "rx-packets", "tx-bytes", "tx-packets", "rx-errs", "tx-errs"), 0)
    return row


def _agent_address(text: str) -> dict[str, Any]:
    address, _, length = text.rpartition("/")
    return {
        "ip-address-type": "ipv6" if ":" in address else "ipv4",
        "ip-address": address,
        "prefix": int(length),
    }


def _add_backup(cluster: Cluster, guest: Guest | None, values: dict[str, Any]) -> None:
    storage = cluster.storages.get(values.pop("storage", ""))
    where = f"backup of {guest.vmid}" if guest else "backup"
    if storage is None:
        raise DescriptionError(f"{where}: its storage is not described")
    time, vmid = epoch(values.pop("time")), values.pop("vmid", guest.vmid if guest else None)
    if guest is not None:
        values.setdefault("kind", guest.kind)
    if "size" in values:
        values["size"] = parse_size(values["size"])
    try:
        backup = make_backup(storage, vmid, time, **values)
    except TypeError as error:
        raise DescriptionError(f"{where}: {error}") from None
    if not storage.shared and backup.node is None and guest is not None:
        backup.node = guest.node
    cluster.backups.setdefault(storage.name, []).append(backup)


def _add_task(cluster: Cluster, guest: Guest | None, values: dict[str, Any]) -> None:
    """``seconds`` tells how long it took; a task with neither ``seconds`` nor ``end`` still runs."""
    start = epoch(values.pop("start"))
    seconds = values.pop("seconds", None)
    if seconds is not None:
        values["end"] = start + seconds
        values.setdefault("status", "OK")
    elif "end" in values:
        values["end"] = epoch(values["end"])
    if guest is not None:
        values = {"node": guest.node, "id": guest.vmid, **values}
    number = sum(len(tasks) for tasks in cluster.tasks.values()) + 1
    given = {"user": "root@pam", "id": "", "pid": 1_000_000 + number, "pstart": 50_000_000 + 7919 * number, **values}
    task = _make(Task, {**given, "start": start, "id": str(given["id"])}, "task")
    cluster.tasks.setdefault(task.node, []).append(task)
