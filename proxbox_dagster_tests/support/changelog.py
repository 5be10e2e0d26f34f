"""NetBox's own change log as the witness of what was written, read from its database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# Ours beside every managed field (what was written last); and NetBox's own notes of a change.
BOOKKEEPING = frozenset({"last_updated", "cf.proxbox_last_written"})


@dataclass(frozen=True)
class Entry:
    """One row of the change log: ``fields`` maps what differs to (before, after), custom fields as ``cf.NAME``."""

    model: str
    action: str
    label: str
    object_id: int
    message: str
    fields: dict[str, tuple[Any, Any]]

    def __str__(self) -> str:
        return f"{self.action} {self.model} {self.label} {self.fields}"


class ChangeLog:
    """The entries since it was made, or since :meth:`forget`."""

    def __init__(self, netbox: Any) -> None:
        self.netbox = netbox
        self.since = 0
        self.forget()

    def forget(self) -> None:
        self.since = int(self.netbox.sql("select coalesce(max(id), 0) from core_objectchange")[0][0])

    def entries(self) -> list[Entry]:
        """In the order of the writes."""
        rows = self.netbox.sql(
            "select t.app_label || '.' || t.model, c.action, c.object_repr, c.changed_object_id, c.message,"
            " c.prechange_data, c.postchange_data from core_objectchange c"
            " join django_content_type t on t.id = c.changed_object_type_id where c.id > %s order by c.id",
            self.since,
        )
        return [
            Entry(model, action, label, number, message, _difference(before, after))
            for model, action, label, number, message, before, after in rows
        ]

    def writes(self) -> set[tuple[str, str, str, frozenset[str]]]:
        """(model, action, label, names of the fields that differ) of each entry; no fields for a deleted row."""
        return {
            (
                entry.model.split(".")[1],
                entry.action,
                entry.label,
                frozenset(entry.fields) if entry.action == "update" else frozenset(),
            )
            for entry in self.entries()
        }


def _difference(before: dict[str, Any] | None, after: dict[str, Any] | None) -> dict[str, tuple[Any, Any]]:
    one, other = dict(_flat(before)), dict(_flat(after))
    return {
        name: (one.get(name), other.get(name))
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name) and name not in BOOKKEEPING
    }


def _flat(data: dict[str, Any] | None) -> Iterator[tuple[str, Any]]:
    for name, value in (data or {}).items():
        if name == "custom_fields":
            yield from ((f"cf.{key}", item) for key, item in (value or {}).items())
        else:
            yield name, value
