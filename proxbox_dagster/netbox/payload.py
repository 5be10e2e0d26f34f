"""A row's values as NetBox is sent them: references as ids, custom fields in their own object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxbox_dagster.netbox.spec import FieldSpec, Kind, ModelSpec, Ref
from proxbox_dagster.netbox.state import NetBoxState
from proxbox_dagster.netbox.values import encode


def payload_of(spec: ModelSpec, values: dict[str, Any], state: NetBoxState) -> dict[str, Any]:
    """The JSON object of these values. A reference that leads to no row is ``None`` in it, and left out of a set."""
    body: dict[str, Any] = {}
    custom: dict[str, Any] = {}
    for name, value in values.items():
        item = spec.by_name.get(name) or FieldSpec(name, "", kind=Kind.JSON)
        sent = encode(item, _ids(value, state))
        if item.is_custom:
            custom[item.custom_name] = sent
        else:
            body[name] = sent
    if custom:
        body["custom_fields"] = custom
    return body


def changes_of(spec: ModelSpec, changes: Mapping[str, tuple[Any, Any]], state: NetBoxState) -> dict[str, Any]:
    """The JSON object of changed fields, each (before, after). Of tags only those that come and go are in it.

    With the whole list, a tag that a person has put on since the row was read would be lost.
    """
    body = payload_of(spec, {name: after for name, (_before, after) in changes.items()}, state)
    for name in [name for name in changes if name in spec.by_name and spec.by_name[name].kind is Kind.TAGS]:
        del body[name]
        before, after = changes[name]
        for verb, slugs in (("add", after - before), ("remove", before - after)):
            if slugs:
                body[f"{verb}_tags"] = encode(spec.by_name[name], slugs)
    return body


def _ids(value: Any, state: NetBoxState) -> Any:
    """References as ids, also inside of sets and the memory."""
    if isinstance(value, Ref):
        target = state.resolve(value)
        return target if isinstance(target, int) else None
    if isinstance(value, frozenset):
        return frozenset(found for part in value if (found := _ids(part, state)) is not None)
    if isinstance(value, dict):
        return {key: _ids(part, state) for key, part in value.items()}
    return value
