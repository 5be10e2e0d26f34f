"""What a source is: its columns, path, privilege and prerequisites."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ColumnType = Literal["int", "float", "bool", "str", "json"]
Per = Literal["cluster", "node", "guest", "storage"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a source. ``volatile`` values change by themselves and are left out of the data version."""

    name: str
    type: ColumnType
    description: str
    volatile: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """One kind of read. ``per`` is the unit that one request answers for, ``needs`` are sources it is derived from."""

    name: str
    path: str
    description: str
    columns: tuple[Column, ...]
    per: Per
    privilege: str
    needs: tuple[str, ...] = ()

    @property
    def column_names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def stable_columns(self) -> list[str]:
        return [column.name for column in self.columns if not column.volatile]


def columns_of(text: str) -> tuple[Column, ...]:
    """Columns from lines ``name type description``; a ``~`` before the type marks a volatile column."""
    columns = []
    for line in text.strip().splitlines():
        name, kind, description = line.split(None, 2)
        columns.append(Column(name, kind.lstrip("~"), description, kind.startswith("~")))  # type: ignore[arg-type]
    return tuple(columns)
