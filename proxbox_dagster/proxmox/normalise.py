"""Rows of Proxmox's answers with every cell in the type that its source declares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..facts import UNOBSERVED, Gap, GapKind, guest_key
from .errors import NodeUnreachable, NotApplied, PermissionDenied, ProxmoxError
from .parse import ParseProblem
from .parse.values import to_bool, to_float, to_int, to_str
from .sources import SOURCES

Place = tuple[str, str]

_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "cluster_status": ("type", "name"),
    "nodes": ("node",),
    "storage": ("storage",),
    "node_storage": ("storage",),
    "guests": ("node", "type", "vmid"),
    "node_tasks": ("upid",),
    "storage_content": ("volid",),
    "guest_snapshots": ("name",),
    "node_networks": ("iface",),
    "replication_jobs": ("id",),
    "backup_jobs": ("id",),
}
"""What a row must have to be a row at all."""

_NOT_RAW: Final = frozenset({"digest", "next-run"})
"""Not part of what was configured: the digest changes with every other entry of the same file."""


def _property_string(value: Any) -> str | ParseProblem | None:
    """Text; a dictionary of scalars becomes the property string that Proxmox shows elsewhere."""
    if isinstance(value, Mapping):
        items = {str(key): to_str(item) for key, item in value.items()}
        if all(isinstance(item, str) for item in items.values()):
            return ",".join(f"{key}={items[key]}" for key in sorted(items))
    return to_str(value)


_CONVERT: Final[Mapping[str, Callable[[Any], Any]]] = {
    "int": to_int,
    "float": to_float,
    "bool": to_bool,
    "str": _property_string,
    "json": lambda value: value,
}


@dataclass
class Rows:
    """The rows and gaps that a fetch has gathered; one writer at a time."""

    source: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)

    def gap(self, place: Place, kind: GapKind, reason: str) -> None:
        self.gaps.append(Gap(*place, kind, reason))

    def add(self, entries: Iterable[Any], place: Callable[[dict[str, Any]], Place], whole: Place, **fixed: Any) -> None:
        """Add entries of an answer, each with the ``fixed`` cells.

        A cell that cannot be read becomes UNOBSERVED and a gap at the row's ``place``; an entry without its key is
        left out with a gap at ``whole``, because nobody can tell which object it is.
        """
        for entry in entries:
            row, problems = normalised(self.source, entry, fixed)
            if row is None:
                self.gap(whole, GapKind.UNREADABLE, f"{SOURCES[self.source].path}: {problems[0]}")
                continue
            self.rows.append(row)
            for problem in problems:
                self.gap(place(row), GapKind.UNREADABLE, f"{SOURCES[self.source].path}: {problem}")


def normalised(source: str, entry: Any, fixed: Mapping[str, Any]) -> tuple[dict[str, Any] | None, list[str]]:
    """One entry as a row, and what could not be read in it; no row when the key is missing or unreadable."""
    if not isinstance(entry, Mapping):
        return None, [str(ParseProblem.of(entry, "an entry is no object"))]
    row: dict[str, Any] = {}
    problems = []
    for column in SOURCES[source].columns:
        if column.name == "raw":
            row["raw"] = {key: entry[key] for key in sorted(map(str, entry)) if key not in _NOT_RAW}
            continue
        value = fixed[column.name] if column.name in fixed else entry.get(column.name)
        cell = value if value is UNOBSERVED else _CONVERT[column.type](value)
        if isinstance(cell, ParseProblem):
            problems.append(f"{column.name}: {cell}")
            cell = UNOBSERVED
        row[column.name] = cell
    missing = [name for name in _KEYS.get(source, ()) if row[name] is UNOBSERVED or row[name] in (None, "")]
    if missing:
        return None, problems or [str(ParseProblem.of(dict(entry), f"an entry has no {missing[0]}"))]
    return row, problems


def guest_place(row: Mapping[str, Any]) -> Place:
    return ("guest", guest_key(row["type"], row["vmid"]))


def node_place(row: Mapping[str, Any]) -> Place:
    return ("node", str(row["node"]))


ALL: Final[Place] = ("all", "")


def failed_gap(place: Place, error: ProxmoxError) -> Gap:
    """The gap that a failed read leaves."""
    if isinstance(error, NodeUnreachable):
        return Gap(*place, GapKind.OFFLINE, str(error))
    if isinstance(error, NotApplied):
        return Gap(*place, GapKind.PENDING, f"{' '.join(place)} {error}")
    return Gap(*place, GapKind.PERMISSION if isinstance(error, PermissionDenied) else GapKind.FAILED, str(error))
