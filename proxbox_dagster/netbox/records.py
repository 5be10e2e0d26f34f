"""What we note on a row itself, in custom fields: what we last wrote, and since when its source is gone. Pure.

A record that is missing or damaged reads as empty. That is the safe side: without the memory a value that differs
counts as a person's, and without the record of absence a grace period begins anew.
"""

from __future__ import annotations

from typing import Any

from proxbox_dagster.netbox.spec import MEMORY_FIELD, MISSING_FIELD


def memory_of(row: dict[str, Any]) -> dict[str, Any]:
    """The managed values as last written, by field; empty when there are none."""
    return _record(row, MEMORY_FIELD)


def missing_record(row: dict[str, Any]) -> dict[str, Any]:
    """Our record that the row's source is gone; empty when it is there."""
    return _record(row, MISSING_FIELD)


def _record(row: dict[str, Any], name: str) -> dict[str, Any]:
    record = (row.get("custom_fields") or {}).get(name.removeprefix("cf."))
    return dict(record) if isinstance(record, dict) else {}
