"""The task history of nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..facts import GapKind
from .errors import ProxmoxError
from .fetch_cluster import out_of_scope
from .fetch_nodes import per_node
from .normalise import Rows, failed_gap, node_place

if TYPE_CHECKING:
    from .session import ProxmoxSession

PAGE: Final = 500
"""Tasks in one request; Proxmox's own default is 50."""


def node_tasks(session: ProxmoxSession, out: Rows) -> None:
    """Running tasks and the archive. The history only grows here: what Proxmox rotated out is not gone."""
    scope = session.scope
    if scope.vmids:
        return _of_guests(session, out)
    if not (scope.is_full or scope.nodes):
        return out_of_scope(session, out)
    per_node(session, out, lambda name: _of_node(session, name), node_place)
    for name, since in sorted(session.cursor.items()):
        out.gap(("node", name), GapKind.OUT_OF_SCOPE, f"tasks of node {name} that started before {since} are not read")
    return None


def _of_node(session: ProxmoxSession, node: str) -> list[Any]:
    """All tasks of a node. The running ones first: one that ends in between is then in both, and the end counts."""
    since = {"since": session.cursor[node]} if node in session.cursor else {}
    return _merged(_pages(session, node, source="active") + _pages(session, node, source="archive", **since))


def _of_guests(session: ProxmoxSession, out: Rows) -> None:
    """The tasks of the guests in scope on the nodes that they are on; one request for a guest with few tasks."""
    guests = [row for row in session.fetched("guests").rows if session.online(row["node"])]
    found = session.each(
        "guests", guests, lambda row: _merged(_pages(session, row["node"], source="all", vmid=row["vmid"]))
    )
    for row, answer in found:
        place = ("node", row["node"])
        if isinstance(answer, ProxmoxError):
            out.gaps.append(failed_gap(place, answer))
        else:
            out.add(answer, node_place, place, node=row["node"])
    for member in session.members():
        out.gap(("node", member.name), GapKind.OUT_OF_SCOPE, f"of node {member.name} only tasks in scope are read")


def _pages(session: ProxmoxSession, node: str, **params: Any) -> list[Any]:
    """Every page. Ends at a short page, and at one without news, should the server not know ``start``."""
    found: list[Any] = []
    seen: set[str] = set()
    while True:
        page = session.get("node_tasks", "nodes", node, "tasks", start=len(found), limit=PAGE, **params)
        names = {str(entry.get("upid")) for entry in page if isinstance(entry, dict)}
        found += page
        if len(page) < PAGE or names <= seen:
            return found
        seen |= names


def _merged(entries: list[Any]) -> list[Any]:
    """Entries with user and token apart and the state of running ones named; of a task seen twice, the ended one."""
    tasks: dict[str, dict[str, Any]] = {}
    odd: list[Any] = []
    for entry in entries:
        if not isinstance(entry, dict) or not entry.get("upid"):
            odd.append(entry)
            continue
        task = _task(entry)
        known = tasks.get(str(task["upid"]))
        if known is None or known["running"]:
            tasks[str(task["upid"])] = task
    return [*tasks.values(), *odd]


def _task(entry: dict[str, Any]) -> dict[str, Any]:
    user, _, token = str(entry.get("user") or "").partition("!")
    running = entry.get("endtime") in (None, "")
    return {
        **entry,
        "user": user or None,
        "tokenid": entry.get("tokenid") or token or None,
        "running": running,
        "status": None if running else entry.get("status"),
    }
