"""The backups on all storages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..facts import Gap, GapKind
from .errors import NodeUnreachable, ProxmoxError
from .fetch_nodes import storage_entries
from .normalise import ALL, Place, Rows, failed_gap
from .parse.values import to_bool, to_int
from .parse.volid import holds_backups

if TYPE_CHECKING:
    from .session import ProxmoxSession


@dataclass(frozen=True, slots=True)
class Target:
    """A storage to be read: ``node`` is its owner (``None``: shared), ``through`` are the nodes that can be asked."""

    storage: str
    node: str | None
    through: tuple[str, ...]

    @property
    def places(self) -> list[Place]:
        """Where a failure leaves gaps: a volume id names its storage without the node, so both are named."""
        return places(self.storage, self.node)


def places(storage: str, node: str | None) -> list[Place]:
    named: list[Place] = [("storage", f"{node}/{storage}")] if node else []
    return [*named, ("storage", storage)]


def storage_content(session: ProxmoxSession, out: Rows) -> None:
    targets = _all_targets(session, out) if session.scope.is_full else _narrow_targets(session, out)
    vmids = _vmids(session)
    params = {"vmid": min(vmids)} if vmids is not None and len(vmids) == 1 else {}
    for target, answer in session.in_batches(targets, lambda target: _read(session, target, params)):
        if isinstance(answer, ProxmoxError):
            out.gaps += [failed_gap(place, answer) for place in target.places]
            continue
        kept = [entry for entry in answer if vmids is None or _vmid(entry) in vmids]
        out.add(kept, lambda row, to=target: to.places[-1], target.places[-1],  # type: ignore[misc]
                storage=target.storage, node=target.node)  # fmt: skip


def _read(session: ProxmoxSession, target: Target, params: dict[str, Any]) -> list[Any]:
    """Through the first node that answers; a node that has just gone down is passed over."""
    for node in target.through[:-1]:
        try:
            return _content(session, node, target.storage, params)
        except NodeUnreachable:
            continue
    return _content(session, target.through[-1], target.storage, params)


def _content(session: ProxmoxSession, node: str, storage: str, params: dict[str, Any]) -> list[Any]:
    answer: list[Any] = session.get(
        "storage_content", "nodes", node, "storage", storage, "content", content="backup", **params
    )
    return answer


def _all_targets(session: ProxmoxSession, out: Rows) -> list[Target]:
    """Every storage that holds backups, with gaps for what no node that is online can show."""
    seen = session.fetched("node_storage")
    defined = {row["storage"]: row for row in session.fetched("storage").rows}
    out.gaps += [gap for gap in seen.gaps if (gap.level, gap.name) == ALL or gap.level == "node"]
    serving = [row for row in seen.rows if holds_backups(row["content"]) and row["enabled"] is not False]
    targets = _targets(out, serving, {name for name, row in defined.items() if row["shared"] is True})
    blind = [member.name for member in session.members() if seen.gap("node", member.name)]
    for name, row in sorted(defined.items()):
        if not holds_backups(row["content"]):
            continue
        if row["disable"] is True:
            out.gap(("storage", name), GapKind.OFFLINE, f"storage {name} is switched off: its backups are not observed")
            continue
        served = any(item["storage"] == name for item in serving)
        if row["shared"] is True:
            if not served:
                out.gap(("storage", name), GapKind.OFFLINE, f"no node that is online serves storage {name}")
            continue
        allowed = {node.strip() for node in str(row["nodes"] or "").split(",") if node.strip()}
        for node in blind:
            if not allowed or node in allowed:
                _gaps(out, name, node, f"storage {name} of node {node} is not observed: the node did not answer")
    return targets


def _targets(out: Rows, serving: Iterable[dict[str, Any]], shared: set[str]) -> list[Target]:
    """One target for each local storage, and one for each shared storage through all nodes where it is active."""
    targets: list[Target] = []
    through: dict[str, list[str]] = {}
    for row in sorted(serving, key=lambda row: (row["storage"], row["node"])):
        name, node = row["storage"], row["node"]
        if row["shared"] is True or name in shared:
            through.setdefault(name, [])
            if row["active"] is True:
                through[name].append(node)
        elif row["active"] is True:
            targets.append(Target(name, node, (node,)))
        else:
            reason = f"storage {name} is not active on node {node}: its backups are not observed"
            # Proxmox itself says so: a state, like a node that is offline, not a read that failed.
            out.gaps += [Gap(*place, GapKind.OFFLINE, reason) for place in places(name, node)]
    for name, nodes in through.items():
        if nodes:
            targets.append(Target(name, None, tuple(nodes)))
        else:
            out.gap(
                ("storage", name), GapKind.OFFLINE, f"storage {name} is active on no node: its backups are not observed"
            )
    return targets


def _narrow_targets(session: ProxmoxSession, out: Rows) -> list[Target]:
    """The storages in scope; for a scope of guests the shared ones and those of the guests' own nodes."""
    scope = session.scope
    homes = {row["node"] for row in session.fetched("guests").rows}
    serving = []
    for entry in storage_entries(session):
        if not holds_backups(entry.get("content")):
            continue
        name, node, shared = str(entry.get("storage")), str(entry.get("node")), to_bool(entry.get("shared")) is True
        of_scope = name in scope.storages if scope.storages else (shared or node in homes)
        if not of_scope:
            _gaps(out, name, node, f"storage {name} of node {node} is not in scope", GapKind.OUT_OF_SCOPE)
        elif session.online(node):
            active = entry.get("status") == "available"
            serving.append({"storage": name, "node": node, "shared": shared, "active": active})
    return _targets(out, serving, set())


def _gaps(out: Rows, storage: str, node: str, reason: str, kind: GapKind = GapKind.OFFLINE) -> None:
    for place in places(storage, node):
        out.gap(place, kind, reason)


def _vmids(session: ProxmoxSession) -> set[int] | None:
    """The guests whose backups are in scope; ``None`` for all."""
    scope = session.scope
    if not (scope.vmids or scope.nodes):
        return None
    return {row["vmid"] for row in session.fetched("guests").rows} | set(scope.vmids if not scope.nodes else ())


def _vmid(entry: Any) -> Any:
    return to_int(entry.get("vmid")) if isinstance(entry, dict) else None
