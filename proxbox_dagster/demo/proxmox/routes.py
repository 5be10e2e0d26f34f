"""The table of the endpoints: path, parameters, the answer. Whatever is not in it is answered 501.

Parameters are those of the published API schema (releases 7.4 to 9.1); one that is not listed is refused with 400.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import answers_cluster as cluster
from . import answers_guests as guests
from . import answers_jobs as jobs
from . import answers_nodes as nodes
from . import answers_storage as storage
from .call import Call
from .errors import PveError
from .flavours import Flavour


@dataclass(frozen=True)
class Parameter:
    """What a parameter may be: ``kind`` str, int or bool; one of ``choices``; not less than ``least``."""

    kind: str = "str"
    choices: tuple[str, ...] = ()
    least: int | None = None
    greatest: int | None = None


def one_of(choices: str) -> Parameter:
    """A parameter with these values."""
    return Parameter(choices=tuple(choices.split()))


_RESOURCE_TYPES = one_of("vm storage node sdn")
_INTERFACE_TYPES = one_of("bridge bond eth alias vlan OVSBridge OVSBond OVSPort OVSIntPort any_bridge any_local_bridge")
_STORAGE_TYPES = one_of("btrfs cephfs cifs dir esxi glusterfs iscsi iscsidirect lvm lvmthin nfs pbs rbd zfs zfspool")
_CONTENTS = one_of("images rootdir vztmpl iso backup snippets import none")
_POOL_TYPES = one_of("qemu lxc storage")
STRING, INTEGER, FLAG = Parameter(), Parameter("int", least=0), Parameter("bool")
VMID = Parameter("int", least=100, greatest=999_999_999)
_ON_PATH: Mapping[str, Parameter] = {"vmid": VMID}


@dataclass(frozen=True)
class Endpoint:
    """One path with its answer. ``exists`` tells whether a release has it; ``command`` is the agent's."""

    path: str
    answer: Callable[[Call], Any]
    query: Mapping[str, Parameter] = field(default_factory=dict)
    exists: Callable[[Flavour], bool] = lambda flavour: True
    command: str = ""


_TASKS = {
    "start": INTEGER,
    "limit": INTEGER,
    "since": INTEGER,
    "until": INTEGER,
    "source": one_of("archive active all"),
    "vmid": VMID,
    "errors": FLAG,
    "typefilter": STRING,
    "userfilter": STRING,
    "statusfilter": STRING,
}
_NODE_STORAGE = {"content": STRING, "enabled": FLAG, "format": FLAG, "storage": STRING, "target": STRING}
_CONFIG = {"current": FLAG, "snapshot": STRING}


def _guest_endpoints(kind: str) -> list[Endpoint]:
    base = f"/nodes/{{node}}/{kind}"
    return [
        Endpoint(base, guests.list_guests(kind), {"full": FLAG} if kind == "qemu" else {}),
        Endpoint(f"{base}/{{vmid}}/config", guests.config(kind), _CONFIG),
        Endpoint(f"{base}/{{vmid}}/status/current", guests.current(kind)),
        Endpoint(f"{base}/{{vmid}}/snapshot", guests.snapshots(kind)),
    ]


_AGENT = "/nodes/{node}/qemu/{vmid}/agent/"
ENDPOINTS = [
    Endpoint("/version", cluster.version),
    Endpoint("/cluster/status", cluster.status),
    Endpoint("/cluster/resources", cluster.resources, {"type": _RESOURCE_TYPES}),
    Endpoint("/cluster/options", cluster.options),
    Endpoint("/cluster/config/join", cluster.join_information, {"node": STRING}),
    Endpoint("/cluster/replication", jobs.replication),
    Endpoint("/cluster/replication/{id}", jobs.replication_job),
    Endpoint("/cluster/backup", jobs.backup_jobs),
    Endpoint("/cluster/backup/{id}", jobs.backup_job),
    Endpoint("/cluster/ha/resources", cluster.ha_resources, {"type": one_of("ct vm")}),
    Endpoint("/cluster/ha/groups", cluster.ha_groups),
    Endpoint("/cluster/ha/rules", cluster.ha_rules, {"type": STRING, "resource": STRING}, lambda f: f.ha_rules),
    Endpoint("/cluster/ha/status/current", cluster.ha_status),
    Endpoint("/access/permissions", cluster.permissions, {"path": STRING, "userid": STRING}),
    Endpoint("/pools", cluster.pools, {"poolid": STRING, "type": _POOL_TYPES}),
    Endpoint("/pools/{poolid}", cluster.pool, {"type": _POOL_TYPES}),
    Endpoint("/storage", storage.definitions, {"type": _STORAGE_TYPES}),
    Endpoint("/storage/{storage}", storage.definition),
    Endpoint("/nodes", nodes.nodes),
    Endpoint("/nodes/{node}/version", nodes.version),
    Endpoint("/nodes/{node}/status", nodes.status),
    Endpoint("/nodes/{node}/network", nodes.network, {"type": _INTERFACE_TYPES}),
    Endpoint("/nodes/{node}/network/{iface}", nodes.network_interface),
    Endpoint("/nodes/{node}/tasks", nodes.tasks, _TASKS),
    Endpoint("/nodes/{node}/tasks/{upid}/status", nodes.task_status),
    Endpoint("/nodes/{node}/storage", storage.on_node, _NODE_STORAGE),
    Endpoint("/nodes/{node}/storage/{storage}/status", storage.state),
    Endpoint("/nodes/{node}/storage/{storage}/content", storage.content, {"content": _CONTENTS, "vmid": VMID}),
    Endpoint("/nodes/{node}/replication", jobs.node_replication, {"guest": VMID}),
    Endpoint("/nodes/{node}/replication/{id}/status", jobs.node_replication_status),
    *_guest_endpoints("qemu"),
    *_guest_endpoints("lxc"),
    Endpoint(f"{_AGENT}network-get-interfaces", guests.agent_interfaces, command="network-get-interfaces"),
    Endpoint(f"{_AGENT}get-host-name", guests.agent_host_name, command="get-host-name"),
    Endpoint(f"{_AGENT}get-osinfo", guests.agent_osinfo, command="get-osinfo"),
    Endpoint(
        "/nodes/{node}/lxc/{vmid}/interfaces",
        guests.container_interfaces,
        exists=lambda flavour: flavour.container_interfaces != "missing",
    ),
]


class _Branch:
    """One segment of the paths: fixed names first, else the named placeholder."""

    def __init__(self) -> None:
        self.fixed: dict[str, _Branch] = {}
        self.open: tuple[str, _Branch] | None = None
        self.endpoint: Endpoint | None = None

    def grow(self, segment: str) -> _Branch:
        if not segment.startswith("{"):
            return self.fixed.setdefault(segment, _Branch())
        if self.open is None:
            self.open = (segment[1:-1], _Branch())
        return self.open[1]


def _tree() -> _Branch:
    root = _Branch()
    for endpoint in ENDPOINTS:
        branch = root
        for segment in endpoint.path.strip("/").split("/"):
            branch = branch.grow(segment)
        branch.endpoint = endpoint
    return root


_ROOT = _tree()


def find(path: str, flavour: Flavour) -> tuple[Endpoint, dict[str, str]] | None:
    """The endpoint of a path, with the parameters that stand in the path; None when the release has none there."""
    branch, found = _ROOT, {}
    for segment in path.strip("/").split("/"):
        if segment in branch.fixed:
            branch = branch.fixed[segment]
        elif branch.open is not None and segment:
            found[branch.open[0]] = segment
            branch = branch.open[1]
        else:
            return None
    endpoint = branch.endpoint
    if endpoint is None or not endpoint.exists(flavour):
        return None
    return endpoint, found


def verify(endpoint: Endpoint, on_path: Mapping[str, str], query: Mapping[str, str]) -> dict[str, str]:
    """All parameters of a request. Raises PveError 400 with the reason for each that is not as the schema says."""
    errors = {}
    for name, value in [*on_path.items(), *query.items()]:
        if name in on_path and name in query:
            errors[name] = "duplicate parameter (already defined in URI)"
        elif name in query and name not in endpoint.query:
            errors[name] = "property is not defined in schema and the schema does not allow additional properties"
        else:
            reason = _reason(value, endpoint.query.get(name) or _ON_PATH.get(name, STRING))
            if reason:
                errors[name] = reason
    if errors:
        raise PveError(
            400, "Parameter verification failed.\n", {name: f"{reason}\n" for name, reason in errors.items()}
        )
    return {**on_path, **query, **({"command": endpoint.command} if endpoint.command else {})}


def _reason(value: str, parameter: Parameter) -> str | None:
    """Why ``value`` is refused; None when it is not."""
    if parameter.kind == "int":
        if not re.fullmatch(r"[+-]?\d+", value):
            return f"type check ('integer') failed - got '{value}'"
        if parameter.least is not None and int(value) < parameter.least:
            return f"value must have a minimum value of {parameter.least}"
        if parameter.greatest is not None and int(value) > parameter.greatest:
            return f"value must have a maximum value of {parameter.greatest}"
    if parameter.kind == "bool" and not re.fullmatch(r"(?i)1|on|yes|true|0|off|no|false", value):
        return f"type check ('boolean') failed - got '{value}'"
    if parameter.choices and value not in parameter.choices:
        return f"value '{value}' does not have a value in the enumeration '{', '.join(parameter.choices)}'"
    return None
