"""The answer of ``/cluster/resources``, read once and shared.

A narrowed run asks for all types: the same request then also tells the storages of every node, which would otherwise
cost one request for each node.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from .parse import ParseProblem
from .parse.values import to_int

if TYPE_CHECKING:
    from .session import ProxmoxSession

GUEST_TYPES: Final = ("qemu", "lxc")
_FRESH: Final = 5.0
"""Seconds for which a second look at the guests' places is good for all who need one."""


def resources(session: ProxmoxSession) -> list[Any]:
    """The entries as Proxmox gave them; of guests alone in a full run."""
    only = "vm" if session.scope.is_full else None
    return session.once("resources", lambda: session.get("guests", "cluster", "resources", type=only))


def guest_entries(entries: list[Any]) -> list[dict[str, Any]]:
    """The guests among resources, each with its type."""
    found = []
    for entry in entries:
        if isinstance(entry, dict):
            kind = entry.get("type") or str(entry.get("id", "")).split("/")[0]
            if kind in GUEST_TYPES:
                found.append({**entry, "type": kind})
    return found


def locations(session: ProxmoxSession) -> dict[tuple[str, int], str]:
    """Type and VMID to node, as first seen."""
    return _locations(resources(session))


def locations_now(session: ProxmoxSession) -> dict[tuple[str, int], str]:
    """The same, read again; shared by everybody who asks within a few seconds."""
    key = f"resources again {int(time.monotonic() / _FRESH)}"
    return _locations(session.once(key, lambda: session.get("guests", "cluster", "resources", type="vm")))


def _locations(entries: list[Any]) -> dict[tuple[str, int], str]:
    found = {}
    for entry in guest_entries(entries):
        vmid = to_int(entry.get("vmid"))
        if isinstance(vmid, int) and not isinstance(vmid, ParseProblem) and entry.get("node"):
            found[entry["type"], vmid] = str(entry["node"])
    return found
