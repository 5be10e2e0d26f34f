"""What we note on a row itself, in custom fields: what we last wrote, and since when its source is gone. Pure.

A record that is missing or damaged reads as empty. That is the safe side: without the memory a value that differs
counts as a person's, and without the record of absence a grace period begins anew.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from proxbox_dagster.netbox.spec import MEMORY_FIELD, MISSING_FIELD, MISSING_TAG


def memory_of(row: dict[str, Any]) -> dict[str, Any]:
    """The managed values as last written, by field; empty when there are none."""
    return _record(row, MEMORY_FIELD)


def missing_record(row: dict[str, Any]) -> dict[str, Any]:
    """Our record that the row's source is gone; empty when it is there."""
    return _record(row, MISSING_FIELD)


def can_remember(row: dict[str, Any]) -> bool:
    """Whether NetBox has the custom field for the memory; an administrator may have deleted it."""
    return MEMORY_FIELD.removeprefix("cf.") in (row.get("custom_fields") or {})


def is_marked(row: dict[str, Any]) -> bool:
    """Whether the row is marked as missing; by the tag alone where the record is lost."""
    return bool(missing_record(row)) or any(
        (tag.get("slug") if isinstance(tag, dict) else tag) == MISSING_TAG for tag in row.get("tags") or ()
    )


def missing_since(record: dict[str, Any]) -> datetime | None:
    """When the source was first found gone; ``None`` in a damaged record."""
    try:
        moment = datetime.fromisoformat(str(record.get("since")))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def confirmations(record: dict[str, Any]) -> int:
    """How many complete reads agreed that the source is gone; 0 in a damaged record."""
    count = record.get("confirmed")
    return count if isinstance(count, int) and not isinstance(count, bool) and count > 0 else 0


def _record(row: dict[str, Any], name: str) -> dict[str, Any]:
    record = (row.get("custom_fields") or {}).get(name.removeprefix("cf."))
    return dict(record) if isinstance(record, dict) else {}
