"""Looking for rows by NetBox's own unique keys: rivals, shared rows, rows made in the meantime."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from proxbox_dagster.facts import UNOBSERVED
from proxbox_dagster.netbox.reading import Reader, portions
from proxbox_dagster.netbox.spec import Kind, ModelSpec, Ref, Row, UniqueKey
from proxbox_dagster.netbox.values import normal

if TYPE_CHECKING:
    from proxbox_dagster.netbox.state import NetBoxState


def look_up(
    state: NetBoxState, reader: Reader, spec: ModelSpec, key: UniqueKey, rows: Iterable[Row], *, new_too: bool
) -> list[dict[str, Any]]:
    """NetBox rows, ours or not, that hold a unique key of ``rows``.

    Rows whose parent is new in this run are left out, as NetBox cannot hold anything under it; unless this run has
    written there itself (``new_too``).
    """
    groups: dict[tuple[tuple[str, Any], ...], set[Any]] = defaultdict(set)
    first, *others = key.fields
    for row in rows:
        value = _asked_value(state, spec, first, row, new_too=new_too)
        narrow = _narrow(state, others, spec, row, new_too=new_too)
        if value is not None and narrow is not None:
            groups[narrow].add(value)
    found: list[dict[str, Any]] = []
    for narrow, values in groups.items():
        for part in portions(sorted(values, key=str), key.lookup):
            filters: dict[str, Any] = {key.lookup: part}
            filters.update(narrow)
            filters.update(dict(key.fixed))
            found += reader.read(spec.path, filters, state.fields_of(spec.path))
    return found


def _asked_value(state: NetBoxState, spec: ModelSpec, name: str, row: Row, *, new_too: bool) -> Any:
    """What a filter asks for; ``None`` when nothing in NetBox can match it."""
    value = row.values.get(name)
    if not isinstance(value, Ref):
        return None if value is UNOBSERVED else normal(spec.by_name[name], value)
    target = state.resolve(value)
    return target if isinstance(target, int) and (new_too or not state.is_new(value.index, target)) else None


def _narrow(
    state: NetBoxState, fields: Sequence[str], spec: ModelSpec, row: Row, *, new_too: bool
) -> tuple[tuple[str, Any], ...] | None:
    narrow: list[tuple[str, Any]] = []
    for name in fields:
        value = _asked_value(state, spec, name, row, new_too=new_too)
        if value is None:
            return None
        narrow.append((f"{name}_id" if spec.by_name[name].kind is Kind.REF else name, value))
    return tuple(narrow)
