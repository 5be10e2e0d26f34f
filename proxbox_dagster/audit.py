"""What is asserted of an object class after it was written, from what the run has read anyway: no request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from proxbox_dagster.netbox.spec import ModelSpec, Ownership
from proxbox_dagster.netbox.state import NetBoxState


@dataclass(frozen=True)
class Audit:
    """``doubles`` maps identities to the ids of the rows that share them; ``orphans`` are rows without their parent.

    ``held`` is the number of this endpoint's rows in NetBox; ``None`` where the run has not read them all.
    """

    doubles: dict[tuple[Any, ...], list[int]] = field(default_factory=dict)
    orphans: list[str] = field(default_factory=list)
    held: int | None = None


def is_ours(spec: ModelSpec) -> bool:
    """Whether this project alone makes the rows of the class."""
    return spec.ownership is Ownership.ENDPOINT and not spec.update_only


def audit(spec: ModelSpec, state: NetBoxState, *, whole: bool) -> Audit:
    """``whole`` is False in a run that has read or written a part only."""
    if not is_ours(spec):
        return Audit()
    rows = state.rows(spec)
    orphans = [
        f"{row.get('display') or row.get('name') or spec.name} (id {row['id']})"
        for row in rows
        if spec.parent and spec.parent in row and row[spec.parent] is None
    ]
    counted = whole and spec.window is None
    return Audit(state.duplicates(spec), orphans, len(rows) if counted else None)
