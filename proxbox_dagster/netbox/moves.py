"""Rows that change their parent (addresses) or come along with it: who has to let go first, what follows, what stays.

NetBox refuses to move an address that is the primary one of the machine it is leaving. So that machine's field is
cleared before, together with our memory of it; the class that chooses primary addresses fills it again afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from proxbox_dagster.netbox.records import memory_of
from proxbox_dagster.netbox.spec import ENDPOINT_FIELD, Desired, Kind, ModelSpec, Ownership, Ref, Row
from proxbox_dagster.netbox.state import NetBoxState
from proxbox_dagster.netbox.values import decode, is_of


@dataclass(frozen=True)
class Release:
    """A row (of ``spec``'s path) that lets go of rows that move away. ``changes`` as in an update."""

    spec: ModelSpec
    row_id: int
    label: str
    changes: dict[str, tuple[Any, Any]]
    memory: dict[str, Any] | None = None
    along: int = 0
    """Id of the row that this one goes along with, to another endpoint; 0 where it only lets go."""


def releases(spec: ModelSpec, moving: Mapping[int, Row], state: NetBoxState) -> list[Release]:
    """What must let go before the rows ``moving`` (id to desired row) can leave their parents."""
    found: dict[tuple[str, int], Release] = {}
    for index, name in spec.primary_of if moving else ():
        for holder, row in _holders(index, name, state):
            target = decode(holder.by_name[name], row)
            if target not in moving or _stays_under(moving[target].values, index, row["id"], state):
                continue
            label = str(row.get(state.base(index).label) or row["id"])
            release = found.setdefault((holder.path, row["id"]), Release(holder, row["id"], label, {}, memory_of(row)))
            release.changes[name] = (target, None)
            if release.memory is not None:
                release.memory[name] = None
    return list(found.values())


def followers(spec: ModelSpec, row_id: int, owner: str, state: NetBoxState) -> list[Release]:
    """What lies under a row that comes from the endpoint ``owner``: from now on it is this endpoint's too."""
    found: list[Release] = []
    under: dict[str, list[int]] = {spec.index_name: [row_id]}
    for other in state.specs.values():
        if other.update_only or other.ownership is not Ownership.ENDPOINT or other.path == spec.path:
            continue
        for index, ids in list(under.items()):
            name = _filter_under(other, index)
            if name is None or not ids:
                continue
            column = other.by_name.get(name.removesuffix("_id"))
            for row in state.ours_under(other.path, name, ids, owner):
                if column is not None and decode(column, row) not in ids:
                    continue  # NetBox ignores a filter that it does not know, and answers all rows
                label = str(row.get("display") or row["id"])
                found.append(Release(other, row["id"], label, {ENDPOINT_FIELD: (owner, state.endpoint)}, along=row_id))
                under.setdefault(other.index_name, []).append(row["id"])
    return found


def _filter_under(spec: ModelSpec, index: str) -> str | None:
    """The filter that gives the rows of a spec under a row of an index; ``None`` where they are not under it."""
    if spec.narrow and spec.narrow[1] == index:
        return spec.narrow[0]
    name = index.removesuffix("s")
    return f"{name}_id" if name in spec.by_name and spec.by_name[name].kind is Kind.REF else None


def _holders(index: str, name: str, state: NetBoxState) -> Iterator[tuple[ModelSpec, dict[str, Any]]]:
    """The rows that may point at a moving row by this field, with the spec that writes the field."""
    for spec in state.specs.values():
        if spec.index_name == index and name in spec.by_name:
            state.load(spec)
            yield from ((spec, row) for row in state.rows(spec))
            return


def _stays_under(values: Mapping[str, Any], index: str, row_id: int, state: NetBoxState) -> bool:
    """True where the new parent belongs to the same row: an address that moves between two cards of one machine."""
    parents = [part for value in values.values() if isinstance(value, Ref) for part in (value, *value.key)]
    return any(isinstance(part, Ref) and part.index == index and state.resolve(part) == row_id for part in parents)


def is_elsewhere(desired: Desired, row: Row, found: dict[str, Any], state: NetBoxState) -> bool:
    """True where NetBox has the row under another parent than the desired one."""
    spec = desired.object_class.spec
    current = decode(spec.by_name[spec.parent], found) if spec.parent else None
    if spec.parent is None or current is None:
        return False
    wanted = row.values.get(spec.parent)
    target = state.resolve(wanted) if isinstance(wanted, Ref) else wanted
    return current != target or not is_of(desired.object_class, found)


def held(desired: Desired, row: Row, found: dict[str, Any], state: NetBoxState) -> str | None:
    """Why a row stays under its present parent although it is desired under another; ``None`` where it may move."""
    spec = desired.object_class.spec
    if not (row.only_new or desired.hold) or spec.parent is None or not is_elsewhere(desired, row, found, state):
        return None
    parent = decode(spec.by_name[spec.parent], found)
    if row.only_new:
        return f"it is only configured here; NetBox has it elsewhere ({spec.parent} {parent}), and there it stays"
    covered = {state.resolve(ref) for ref in desired.coverage.parents}
    if parent in covered and is_of(desired.object_class, found):
        return None
    return (
        f"NetBox has it elsewhere ({spec.parent} {parent}), where this run does not look ({desired.hold}): "
        "a run over everything decides"
    )
