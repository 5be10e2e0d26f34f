"""Sources that are read from each node."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..facts import UNOBSERVED, GapKind
from .errors import ProxmoxError
from .fetch_cluster import out_of_scope
from .normalise import ALL, Rows, failed_gap, node_place
from .resources import resources

if TYPE_CHECKING:
    from .session import ProxmoxSession

_SIZES = ("maxcpu", "maxmem", "maxdisk", "cpu", "mem", "disk", "uptime", "level", "ssl_fingerprint")
_VERSION = ("version", "release", "repoid")


def nodes(session: ProxmoxSession, out: Rows) -> None:
    if not session.scope.is_full and (session.scope.vmids or not session.scope.nodes):
        return out_of_scope(session, out)
    entries = {str(entry.get("node")): entry for entry in session.get("nodes", "nodes") if isinstance(entry, dict)}
    members = {row["name"]: row for row in session.fetched("cluster_status").rows if row["type"] == "node"}
    up: list[str] = []
    for name in sorted({*entries, *members}):
        place = ("node", name)
        if not session.scope.node(name):
            out.gap(place, GapKind.OUT_OF_SCOPE, f"node {name} is not in scope")
        elif name not in entries:
            out.gap(place, GapKind.UNREADABLE, f"node {name} is a member of the cluster, but /nodes does not list it")
        elif entries[name].get("status") == "offline" or (name in members and members[name]["online"] is not True):
            out.gap(place, GapKind.OFFLINE, f"node {name} is offline")
        else:
            up.append(name)
    versions = dict(session.each("guests", up, lambda name: _version(session, name)))
    for name in sorted(entries):
        if session.scope.node(name):
            _add_node(out, entries[name], versions.get(name))
    return None


def _version(session: ProxmoxSession, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = session.get("nodes", "nodes", name, "version", expect=dict)
    return answer


def _add_node(out: Rows, entry: dict[str, Any], version: Any) -> None:
    """A node's row. What a node that is off or may not be looked into does not say is not observed."""
    name = str(entry["node"])
    fixed: dict[str, Any] = {key: UNOBSERVED for key in _SIZES if entry.get(key) in (None, "") and key != "level"}
    if isinstance(version, dict):
        fixed |= {key: version.get(key) for key in _VERSION}
    else:
        fixed |= dict.fromkeys(_VERSION, UNOBSERVED)
        if isinstance(version, ProxmoxError):
            out.gaps.append(failed_gap(("node", name), version))
    if version is not None and "maxmem" in fixed:
        if entry.get("status") == "online":
            reason = f"the size of node {name} is not shown: the token lacks Sys.Audit on /nodes/{name}"
            out.gap(("node", name), GapKind.PERMISSION, reason)
        else:
            reason = (
                f"node {name} has told the cluster nothing of itself for minutes (its pvestatd): its size is not shown"
            )
            out.gap(("node", name), GapKind.OFFLINE, reason)
    out.add([entry], node_place, ALL, **fixed)


def per_node(
    session: ProxmoxSession, out: Rows, read: Callable[[str], list[Any]], place: Callable[[Any], tuple[str, str]]
) -> None:
    """Add what ``read`` gives for each node that is online and in scope, and a gap for each other one."""
    asked = []
    for member in session.members():
        if not session.scope.node(member.name):
            out.gap(("node", member.name), GapKind.OUT_OF_SCOPE, f"node {member.name} is not in scope")
        elif not member.online:
            out.gap(("node", member.name), GapKind.OFFLINE, member.reason)
        else:
            asked.append(member.name)
    for name, answer in session.each("guests", asked, read):
        if isinstance(answer, ProxmoxError):
            out.gaps.append(failed_gap(("node", name), answer))
        else:
            out.add(answer, place, ("node", name), node=name)


def node_networks(session: ProxmoxSession, out: Rows) -> None:
    if not session.scope.is_full and (session.scope.vmids or not session.scope.nodes):
        return out_of_scope(session, out)
    per_node(session, out, lambda name: _list(session, "node_networks", name, "network"), node_place)
    return None


def node_storage(session: ProxmoxSession, out: Rows) -> None:
    if session.scope.is_full:
        read = lambda name: _list(session, "node_storage", name, "storage")  # noqa: E731
        return per_node(session, out, read, lambda row: ("storage", f"{row['node']}/{row['storage']}"))
    if session.scope.vmids:
        return out_of_scope(session, out)
    return _narrow_storage(session, out)


def _list(session: ProxmoxSession, source: str, node: str, what: str) -> list[Any]:
    answer: list[Any] = session.get(source, "nodes", node, what)
    return answer


def _narrow_storage(session: ProxmoxSession, out: Rows) -> None:
    """The storages in scope from the resources that a narrowed run reads anyway, whatever the number of nodes."""
    for entry in storage_entries(session):
        name, node = str(entry.get("storage")), str(entry.get("node"))
        place = ("storage", f"{node}/{name}")
        if not (session.scope.storage(name) or session.scope.node(node)):
            out.gap(place, GapKind.OUT_OF_SCOPE, f"storage {name} of node {node} is not in scope")
            continue
        active = entry.get("status") == "available"
        sizes = {"total": entry.get("maxdisk"), "used": entry.get("disk"), "avail": UNOBSERVED}
        if not active:
            sizes = dict.fromkeys(sizes, UNOBSERVED)
        fixed = {**sizes, "type": entry.get("plugintype"), "active": active, "used_fraction": UNOBSERVED}
        out.add([entry], lambda row, place=place: place, place, enabled=True, **fixed)  # type: ignore[misc]


def storage_entries(session: ProxmoxSession) -> list[dict[str, Any]]:
    """The storages of each node among the resources of a narrowed run."""
    return [entry for entry in resources(session) if isinstance(entry, dict) and entry.get("type") == "storage"]
