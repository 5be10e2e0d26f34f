"""Values of NetBox rows in words: a reference by the name of the row it leads to, not by its id."""

from __future__ import annotations

from typing import Any

from proxbox_dagster.netbox.changes import Create
from proxbox_dagster.netbox.errors import NetBoxError
from proxbox_dagster.netbox.spec import Desired, FieldSpec, Kind, ModelSpec, Ref, Row
from proxbox_dagster.netbox.state import NetBoxState
from proxbox_dagster.netbox.values import raw_value, shown


class Names:
    """Names the rows that values refer to, from what a run has read of NetBox and is about to make there."""

    def __init__(self, state: NetBoxState | None = None) -> None:
        self._state = state
        self._planned: dict[Ref, str] = {}
        self._indexes: dict[str, str] = {}

    def learn(self, desired: Desired, creates: list[Create]) -> None:
        """Take note of an object class: where its fields lead to, and how its new rows are called."""
        spec = desired.object_class.spec
        self._indexes = {}
        for field in spec.fields:
            if field.kind in (Kind.REF, Kind.REFS):
                found = (_index(row.values.get(field.name)) for row in desired.rows)
                index = next((item for item in found if item), None)
                self._indexes |= {field.name: index} if index else {}
        for item in creates:
            name = item.values.get(spec.label)
            if isinstance(name, str) and name:
                self._planned[item.ref] = name

    def value(self, field: FieldSpec | None, row: Row | None, value: Any) -> str:
        """``value`` of one field in words. The references of ``row``, the desired one, say of which class ids are."""
        if field is None or field.kind not in (Kind.REF, Kind.REFS):
            return shown(value)
        wanted = row.values.get(field.name) if row else None
        index = _index(wanted) or self._indexes.get(field.name)
        if field.kind is Kind.REF:
            return self._reference(index, value)
        return shown(frozenset(self._reference(index, item) for item in value or ()))

    def _reference(self, index: str | None, value: Any) -> str:
        if isinstance(value, Ref):
            return self._named(value)
        if not isinstance(value, int) or index is None:
            return shown(value)
        return self._row_name(index, value) or f"id {value}"

    def _named(self, ref: Ref) -> str:
        """The name of a row that may still have to be made."""
        if ref in self._planned:
            return self._planned[ref]
        try:
            target = self._state.resolve(ref) if self._state else None
        except NetBoxError:  # it is being told how far a run came that lost NetBox
            target = None
        found = self._row_name(ref.index, target) if isinstance(target, int) else None
        last = ref.key[-1]
        return found or (self._named(last) if isinstance(last, Ref) else str(last))

    def _row_name(self, index: str, row_id: int) -> str | None:
        if self._state is None:
            return None
        try:
            spec = self._state.base(index)
        except KeyError:
            return None
        row = self._state.row(spec, row_id)
        return _label(spec, row) if row else None


def _index(wanted: Any) -> str | None:
    """The index that a reference, or the first of several, points into."""
    if isinstance(wanted, tuple | list | frozenset):
        wanted = next(iter(wanted), None)
    return wanted.index if isinstance(wanted, Ref) else None


def _label(spec: ModelSpec, row: dict[str, Any]) -> str | None:
    field = spec.by_name.get(spec.label)
    value = raw_value(field, row) if field else None
    return str(value) if isinstance(value, str | int) and value != "" else None
