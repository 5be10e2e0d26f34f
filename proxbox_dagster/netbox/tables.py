"""What :class:`NetBoxState` is made of: a table of NetBox rows with its indexes, and what a reference comes to."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from proxbox_dagster.netbox.spec import ENDPOINT_FIELD, MEMORY_FIELD, MISSING_FIELD, ModelSpec, Ownership, Ref, Row
from proxbox_dagster.netbox.values import decode, normal

_BOOKKEEPING: Final = {Ownership.ENDPOINT: (ENDPOINT_FIELD, MEMORY_FIELD, MISSING_FIELD)}


@dataclass(frozen=True, slots=True)
class Blocked:
    """A reference that leads nowhere, with the reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Pending:
    """A reference to a row that this plan makes; it has no id yet."""

    ref: Ref


Resolved = int | Pending | Blocked


@dataclass
class Table:
    """The rows of one REST path, by id, as NetBox answered them."""

    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    loaded: bool = False
    keys: dict[str, dict[tuple[Any, ...], int]] = field(default_factory=dict)
    """Per index name: identity to id."""
    twice: dict[str, dict[tuple[Any, ...], list[int]]] = field(default_factory=dict)
    reading: threading.RLock = field(default_factory=threading.RLock)
    """Held while the table is read, so that other tables can be used meanwhile."""


def identity_of(spec: ModelSpec, row: dict[str, Any]) -> tuple[Any, ...] | None:
    """A NetBox row's identity with ids for parents; ``None`` when a part of it is empty."""
    key = tuple(decode(spec.by_name[name], row) for name in spec.identity)
    return None if any(part is None for part in key) else key


def key_of(spec: ModelSpec, row: Row) -> tuple[Any, ...]:
    """A desired row's identity in natural form (Refs stay Refs)."""
    return tuple(
        value if isinstance(value := row.values[name], Ref) else normal(spec.by_name[name], value)
        for name in spec.identity
    )


def wanted_fields(specs: Iterable[ModelSpec], path: str) -> list[str]:
    """NetBox's fields that the specs of a path need, for every read of it."""
    names = {"id"}
    for spec in specs:
        if spec.path == path:
            for item in (*(item.column or item.name for item in spec.fields), *_BOOKKEEPING.get(spec.ownership, ())):
                names.add("custom_fields" if item.startswith("cf.") else item)
            names |= {spec.shared_mark[0]} if spec.shared_mark else set()
    return sorted(names)
