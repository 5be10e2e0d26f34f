"""The guests, and what is read from each of them."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ..facts import UNOBSERVED, Gap, GapKind, guest_key
from .errors import ApiError, PermissionDenied, ProxmoxError
from .fetch_cluster import out_of_scope
from .normalise import ALL, Rows, failed_gap, guest_place
from .parse import ParseProblem
from .parse.agent import (
    AgentError,
    GuestInterfaces,
    agent_enabled,
    parse_agent_interfaces,
    parse_container_interfaces,
)
from .resources import guest_entries, locations_now, resources

if TYPE_CHECKING:
    from ..scope import Scope
    from .session import ProxmoxSession

Guest = dict[str, Any]

_BROADCAST: Final = ("name", "template", "maxcpu", "maxmem", "maxdisk", "uptime", "cpu", "mem", "disk")
"""What the guest's node broadcasts; without its broadcast these are not told."""
_MOVED = re.compile(r"does not exist|unable to find configuration file|no such (?:vm|ct|guest)", re.IGNORECASE)
_SILENT = re.compile(
    r"guest agent is not running|got timeout|timed? ?out|agent not (?:running|responding)", re.IGNORECASE
)
_NOTHING_TO_ASK = re.compile(r"no qemu guest agent configured|\bis not running\b|\bnot running\b", re.IGNORECASE)


def guests(session: ProxmoxSession, out: Rows) -> None:
    """All guests that are in scope. Those of a node that is offline may lack their names."""
    scope = session.scope
    if not (scope.is_full or scope.vmids or scope.nodes):
        return out_of_scope(session, out)
    hidden = {} if session.proof().sees_pools() else {"pool": UNOBSERVED}
    for entry in guest_entries(resources(session)):
        fixed: dict[str, Any] = {key: value for key, value in hidden.items() if not entry.get(key)}
        if entry.get("status") in (None, "", "unknown"):
            fixed |= {key: UNOBSERVED for key in _BROADCAST if entry.get(key) in (None, "")}
            fixed["status"] = "unknown"
        if not entry.get("id"):
            fixed["id"] = f"{entry['type']}/{entry.get('vmid')}"
        out.add([entry], guest_place, ALL, **fixed)
    for row in out.rows:
        if not scope.guest(row["vmid"], row["node"]):
            key = guest_key(row["type"], row["vmid"])
            out.gap(("guest", key), GapKind.OUT_OF_SCOPE, f"{key} is not in scope")
    if not scope.is_full:
        _narrow(out, scope)
    for member in session.members():
        if not member.online:
            out.gap(("node", member.name), GapKind.OFFLINE, f"{member.reason}: its guests are not observed")
    return None


def _narrow(out: Rows, scope: Scope) -> None:
    """Leave the guests in scope; each tells of the others by what name it must not be called."""
    left = [row for row in out.rows if not scope.guest(row["vmid"], row["node"])]
    others = [[row["vmid"], row["type"], row["name"]] for row in left if isinstance(row["name"], str)]
    out.rows = [{**row, "others": others} for row in out.rows if scope.guest(row["vmid"], row["node"])]


def _reachable(session: ProxmoxSession, out: Rows, kinds: tuple[str, ...] = ("qemu", "lxc")) -> list[Guest]:
    """The guests whose nodes can be asked; the others, and what the list of guests lacks, become gaps."""
    read = session.fetched("guests")
    for gap in read.gaps:
        # A cell of the list that could not be read says nothing about what is read here.
        if gap.level != "guest" or gap.kind is not GapKind.UNREADABLE:
            out.gaps.append(gap)
    found = []
    for row in read.rows:
        if row["type"] not in kinds:
            continue
        if session.online(row["node"]):
            found.append(row)
        else:
            out.gap(guest_place(row), GapKind.OFFLINE, f"{_key(row)} is on node {row['node']}, which is offline")
    return found


def _key(row: Guest) -> str:
    return guest_key(row["type"], row["vmid"])


def _read(
    session: ProxmoxSession, source: str, row: Guest, *tail: str, expect: type | None, **params: Any
) -> tuple[str, Any]:
    """The answer for a guest and the node that gave it, looked up anew once when the guest has moved meanwhile."""
    place = (row["type"], row["vmid"])
    try:
        return row["node"], session.get(source, "nodes", row["node"], *place, *tail, expect=expect, **params)
    except ApiError as error:
        if isinstance(error, PermissionDenied) or not _MOVED.search(error.reason):
            raise
        node = locations_now(session).get(place)
        if node is None or node == row["node"]:
            message = f"{_key(row)} went away while it was read ({error.reason}); the next run sees what became of it"
            raise ApiError(
                message, reason=error.reason, host=error.host, path=error.path, status=error.status
            ) from None
        return node, session.get(source, "nodes", node, *place, *tail, expect=expect, **params)


def guest_configs(session: ProxmoxSession, out: Rows) -> None:
    """The configurations in force. Unless it is asked for these, Proxmox merges in what waits for a restart."""
    rows = _reachable(session, out)
    read = lambda row: _read(session, "guest_configs", row, "config", expect=dict, current=1)  # noqa: E731
    for row, answer in session.each("configs", rows, read):
        if isinstance(answer, ProxmoxError):
            out.gaps.append(failed_gap(guest_place(row), answer))
            continue
        node, config = answer
        config = {key: value for key, value in config.items() if key != "digest"}
        out.add([{**row, "node": node, "config": config}], guest_place, guest_place(row))


def guest_snapshots(session: ProxmoxSession, out: Rows) -> None:
    rows = _reachable(session, out)
    read = lambda row: _read(session, "guest_snapshots", row, "snapshot", expect=list)  # noqa: E731
    for row, answer in session.each("lists", rows, read):
        if isinstance(answer, ProxmoxError):
            out.gaps.append(failed_gap(guest_place(row), answer))
            continue
        node, entries = answer
        kept = [entry for entry in entries if not (isinstance(entry, dict) and entry.get("name") == "current")]
        out.add(kept, guest_place, guest_place(row), node=node, type=row["type"], vmid=row["vmid"])


def guest_agent(session: ProxmoxSession, out: Rows) -> None:
    """Asked are running QEMU guests with the agent enabled; of all others the addresses are not observed."""
    configs = session.fetched("guest_configs")
    enabled = {row["vmid"]: agent_enabled(row["config"]) for row in configs.rows if row["type"] == "qemu"}
    asked = []
    for row in _reachable(session, out, ("qemu",)):
        place = guest_place(row)
        if not _running(row, out):
            continue
        if row["vmid"] not in enabled:
            gap = configs.gap(*place)
            out.gaps.append(Gap(*place, gap.kind, gap.reason) if gap else _no_config(row))
        elif not enabled[row["vmid"]]:
            out.gap(place, GapKind.NOT_APPLICABLE, f"{_key(row)} has no guest agent enabled")
        elif session.proof().asks_agent(row["vmid"]):
            asked.append(row)
    read = lambda row: _read(session, "guest_agent", row, "agent", "network-get-interfaces", expect=None)  # noqa: E731
    for row, answer in session.each("guests", asked, read):
        if isinstance(answer, ProxmoxError):
            out.gaps.append(_agent_gap(row, answer))
        else:
            _add_interfaces(out, row, answer[0], parse_agent_interfaces(answer[1]))


def container_interfaces(session: ProxmoxSession, out: Rows) -> None:
    too_old = threading.Event()
    asked = [row for row in _reachable(session, out, ("lxc",)) if _running(row, out)]
    for row, answer in session.each("guests", asked, _container_reader(session, too_old)):
        place = guest_place(row)
        if isinstance(answer, ProxmoxError):
            stopped = isinstance(answer, ApiError) and _NOTHING_TO_ASK.search(answer.reason)
            kind = GapKind.OFFLINE if answer.status == 501 else GapKind.NOT_APPLICABLE if stopped else None
            out.gaps.append(Gap(*place, kind, str(answer)) if kind else failed_gap(place, answer))
        elif answer is None:
            out.gap(place, GapKind.OFFLINE, "Proxmox VE before 8.1 does not tell the addresses of containers")
        elif answer[1] is None:
            out.gap(place, GapKind.NOT_APPLICABLE, f"{_key(row)} is not running")
        else:
            _add_interfaces(out, row, answer[0], parse_container_interfaces(answer[1]))


def _container_reader(session: ProxmoxSession, too_old: threading.Event) -> Callable[[Guest], tuple[str, Any] | None]:
    """Reads a container's interfaces; ``None`` once a node has answered that it has no such method."""

    def read(row: Guest) -> tuple[str, Any] | None:
        if too_old.is_set():
            return None
        try:
            return _read(session, "container_interfaces", row, "interfaces", expect=None)
        except ApiError as error:
            if error.status != 501:
                raise
            too_old.set()
            return None

    return read


def _running(row: Guest, out: Rows) -> bool:
    if row["status"] == "running":
        return True
    if row["status"] == "unknown":
        out.gap(guest_place(row), GapKind.OFFLINE, f"node {row['node']} does not tell whether {_key(row)} is running")
    else:
        out.gap(guest_place(row), GapKind.NOT_APPLICABLE, f"{_key(row)} is not running")
    return False


def _no_config(row: Guest) -> Gap:
    reason = f"the configuration of {_key(row)} was not read, so nobody knows whether it has a guest agent"
    return Gap(*guest_place(row), GapKind.FAILED, reason)


def _agent_gap(row: Guest, error: ProxmoxError) -> Gap:
    """A silent agent is no fault of the run: what was known of the guest stays."""
    reason = error.reason if isinstance(error, ApiError) and not isinstance(error, PermissionDenied) else ""
    if _SILENT.search(reason):
        return Gap(*guest_place(row), GapKind.OFFLINE, f"the guest agent of {_key(row)} does not answer ({reason})")
    if _NOTHING_TO_ASK.search(reason):
        return Gap(*guest_place(row), GapKind.NOT_APPLICABLE, f"{_key(row)}: {reason}")
    return failed_gap(guest_place(row), error)


def _add_interfaces(out: Rows, row: Guest, node: str, parsed: GuestInterfaces | AgentError | ParseProblem) -> None:
    place = guest_place(row)
    if isinstance(parsed, AgentError):
        reason = f"the guest agent of {_key(row)} refuses: {parsed.description} ({parsed.error_class})"
        out.gap(place, GapKind.NOT_APPLICABLE, reason)
    elif isinstance(parsed, ParseProblem):
        out.gap(place, GapKind.UNREADABLE, f"the interfaces of {_key(row)}: {parsed}")
    else:
        out.rows.append({"node": node, "vmid": row["vmid"], "interfaces": list(parsed.interfaces)})
        if not parsed.whole:
            reason = f"Proxmox VE before 8.4 tells one address of each family only: {_key(row)} may have others"
            out.gap(place, GapKind.OFFLINE, reason)
        for problem in parsed.problems:
            out.gap(place, GapKind.UNREADABLE, f"the interfaces of {_key(row)}: {problem}")
