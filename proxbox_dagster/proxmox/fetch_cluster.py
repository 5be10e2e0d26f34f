"""Sources that one request answers for the whole cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..facts import GapKind
from .normalise import ALL, Rows
from .resources import locations

if TYPE_CHECKING:
    from .session import ProxmoxSession

_NOT_NARROWED = "the run is narrowed to {scope}, which holds none of these"


def out_of_scope(session: ProxmoxSession, out: Rows) -> None:
    """Nothing of this source is in the scope of the run."""
    out.gap(ALL, GapKind.OUT_OF_SCOPE, _NOT_NARROWED.format(scope=session.scope))


def cluster_status(session: ProxmoxSession, out: Rows) -> None:
    """Without quorum the answering node is cut off, and what it knows of the others is old."""
    out.add(session.get("cluster_status", "cluster", "status"), lambda row: (row["type"], row["name"]), ALL)
    for row in out.rows:
        if row["type"] == "cluster" and row["quorate"] is not True:
            reason = f"cluster {row['name']} has no quorum; nothing that is missing is taken for gone"
            out.gap(ALL, GapKind.OFFLINE, reason)


def cluster_options(session: ProxmoxSession, out: Rows) -> None:
    options = session.get("cluster_options", "cluster", "options", expect=None)
    if options is None or isinstance(options, dict):
        out.add([{"options": options or {}}], lambda row: ALL, ALL)
    else:
        out.gap(ALL, GapKind.UNREADABLE, f"/cluster/options is a {type(options).__name__} instead of an object")


def storage(session: ProxmoxSession, out: Rows) -> None:
    if not (session.scope.is_full or session.scope.storages):
        return out_of_scope(session, out)
    entries = session.get("storage", "storage")
    out.add(entries, lambda row: ("storage", row["storage"]), ALL)
    for row in out.rows:
        if not session.scope.storage(row["storage"]):
            out.gap(("storage", row["storage"]), GapKind.OUT_OF_SCOPE, f"storage {row['storage']} is not in scope")
    out.rows = [row for row in out.rows if session.scope.storage(row["storage"])]
    return None


def replication_jobs(session: ProxmoxSession, out: Rows) -> None:
    scope = session.scope
    if not (scope.is_full or scope.vmids or scope.nodes):
        return out_of_scope(session, out)
    out.add(session.get("replication_jobs", "cluster", "replication"), lambda row: ("job", row["id"]), ALL)
    if not scope.is_full:
        nodes = {vmid: node for (_, vmid), node in locations(session).items()}
        out.rows = [row for row in out.rows if scope.guest(row["guest"], nodes.get(row["guest"]))]
    return None


def backup_jobs(session: ProxmoxSession, out: Rows) -> None:
    if not session.scope.is_full:
        return out_of_scope(session, out)
    out.add(session.get("backup_jobs", "cluster", "backup"), lambda row: ("job", row["id"]), ALL)
    return None
