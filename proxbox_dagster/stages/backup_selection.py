"""Which guests a backup job takes, by Proxmox's own rule (``get_included_guests`` of its vzdump)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from proxbox_dagster.facts import UNOBSERVED, Fetched, GapKind
from proxbox_dagster.proxmox.parse.values import vmid_in

_SEPARATORS = re.compile(r"[,;\s]+")


def selection_of(job: Mapping[str, Any], guests: Fetched) -> tuple[Any, list[str]]:
    """The VMIDs that the job takes, ascending, and what the operator should know about them.

    A pool goes before a list, a list before ``all``; ``exclude`` only counts with ``all``. Of guests that exist only
    those on the job's node are taken; listed VMIDs of guests that do not exist stay, as in Proxmox, which then reports
    them as failed. ``UNOBSERVED`` when what the job takes could not be read.
    """
    told = {name: job[name] for name in ("pool", "vmid", "all", "exclude", "node")}
    if unread := [name for name, value in told.items() if value is UNOBSERVED]:
        return UNOBSERVED, [f"{', '.join(unread)} cannot be read: the selection is left alone"]
    rows = {row["vmid"]: row for row in guests.rows}
    notes: list[str] = []
    if told["pool"]:
        chosen, problem = _of_pool(str(told["pool"]), rows, _shortened(guests))
    elif told["vmid"]:
        chosen, problem = _vmids(told["vmid"], "vmid", notes), None
    elif told["all"]:
        problem = _shortened(guests)
        chosen = set(rows) - _vmids(told["exclude"], "exclude", notes)
    else:
        chosen, problem = set(), None
    if problem:
        return UNOBSERVED, [*notes, f"the selection is left alone: {problem}"]
    node = told["node"]
    return sorted(vmid for vmid in chosen if not node or vmid not in rows or rows[vmid]["node"] == node), notes


def _of_pool(pool: str, rows: Mapping[int, Mapping[str, Any]], shortened: str | None) -> tuple[set[int], str | None]:
    """The pool's own members; those of pools below it are not taken."""
    if any(row["pool"] is UNOBSERVED for row in rows.values()):
        return set(), f"the members of pool {pool} are not shown; the token needs Pool.Audit on /pool"
    return {vmid for vmid, row in rows.items() if row["pool"] == pool}, shortened


def _vmids(text: Any, name: str, notes: list[str]) -> set[int]:
    found: set[int] = set()
    for part in _SEPARATORS.split(str(text or "")):
        if (vmid := vmid_in(part)) is not None:
            found.add(vmid)
        elif part:
            notes.append(f"{name} has {part[:40]!r}, which is no VMID")
    return found


def _shortened(guests: Fetched) -> str | None:
    """Why the list of guests may lack some; guests of nodes that are off are listed all the same."""
    for gap in guests.gaps:
        if gap.level == "all" or (gap.level == "guest" and gap.kind is GapKind.PERMISSION):
            return gap.reason
    return None
