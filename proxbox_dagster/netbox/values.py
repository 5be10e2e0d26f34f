"""NetBox's REST spelling of values, to and from what the planner compares. Pure.

Comparable forms: text without surrounding space, or ``None`` for empty; ids for foreign keys; frozen sets for
many-to-many, tags and members; aware UTC datetimes at whole seconds; floats for decimals; normal form for addresses.
"""

from __future__ import annotations

import ipaddress
import json
from datetime import UTC, datetime
from typing import Any

from proxbox_dagster.netbox.spec import FieldSpec, Kind, ModelSpec, ObjectClass, shorten


def raw_value(field: FieldSpec, row: dict[str, Any]) -> Any:
    """The field's value in a row as NetBox answers it."""
    if field.is_custom:
        return (row.get("custom_fields") or {}).get(field.custom_name)
    return row.get(field.column or field.name)


def decode(field: FieldSpec, row: dict[str, Any]) -> Any:
    """The comparable value of a field in a row as NetBox answers it."""
    value = raw_value(field, row)
    if field.kind is Kind.REF:
        return value.get("id") if isinstance(value, dict) else value
    if field.kind is Kind.REFS:
        return frozenset(item["id"] if isinstance(item, dict) else item for item in value or ())
    if field.kind is Kind.TAGS:
        return frozenset(item["slug"] if isinstance(item, dict) else item for item in value or ())
    if isinstance(value, dict) and field.kind is not Kind.JSON and "value" in value:
        value = value["value"]
    return normal(field, value)


def normal(field: FieldSpec, value: Any) -> Any:
    """The comparable form of a wanted (or decoded) value; references must be ids already."""
    match field.kind:
        case Kind.REFS | Kind.TAGS | Kind.MEMBERS:
            return frozenset(value or ())
        case Kind.JSON | Kind.REF:
            return value
        case Kind.NUMBER:
            return None if value is None or value == "" else float(value)
        case Kind.DATETIME:
            return _moment(value)
        case Kind.ADDRESS:
            return None if not value else str(ipaddress.ip_interface(value))
        case Kind.HOST:
            return None if not value else str(ipaddress.ip_interface(value).ip)
        case _:
            return _text(field, value) if isinstance(value, str) else value


def _text(field: FieldSpec, value: str) -> str | None:
    # NetBox trims text and refuses NUL; whatever it would change must not look like a difference.
    cleaned = value.replace("\x00", "").replace("\r\n", "\n").strip()
    return shorten(cleaned, field.limit).strip() or None


def _moment(value: Any) -> datetime | None:
    if value is None or value == "":
        return None
    if isinstance(value, int | float):
        value = datetime.fromtimestamp(value, UTC)
    elif isinstance(value, str):
        value = datetime.fromisoformat(value)
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    return aware.astimezone(UTC).replace(microsecond=0)


def has_tag(spec: ModelSpec, row: dict[str, Any], slug: str) -> bool:
    """Whether a row as NetBox answers it has this tag; false for a class without tags."""
    return "tags" in spec.by_name and slug in decode(spec.by_name["tags"], row)


def is_of(object_class: ObjectClass, row: dict[str, Any]) -> bool:
    """Where two object classes share a table (addresses of nodes and of guests): whether the row is this one's."""
    return all(decode(object_class.spec.by_name[name], row) == value for name, value in object_class.only)


def encode(field: FieldSpec, value: Any) -> Any:
    """What is sent to NetBox for a comparable value."""
    match field.kind:
        case Kind.REFS | Kind.MEMBERS:
            return sorted(value)
        case Kind.TAGS:
            return [{"slug": slug} for slug in sorted(value)]
        case Kind.DATETIME:
            return None if value is None else value.isoformat().replace("+00:00", "Z")
        case Kind.VALUE:
            # A text column takes "" for nothing; null is refused by those that are not nullable.
            return "" if value is None and field.limit is not None and not field.is_custom else value
        case _:
            return value


def is_empty(value: Any) -> bool:
    """True where NetBox holds nothing."""
    return value is None or value in ("", frozenset(), [], {})


def remembered(value: Any) -> Any:
    """A comparable value as it is kept in the JSON memory of last writes."""
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return value


def shown(value: Any) -> str:
    """A value for a table that people read."""
    if value is None:
        return "—"
    if isinstance(value, frozenset | set | tuple | list):
        return ", ".join(sorted(str(item) for item in value)) or "—"
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True, default=str)
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
