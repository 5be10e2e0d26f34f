"""NetBox's REST lists in memory, for the pure tests of planner and writer: both protocols, without HTTP.

It behaves as NetBox 4.7 was seen to: lists are all or none, rows of a list are applied one after the other, refusals
name the position (POST) or the id (PATCH, DELETE), choices are answered as ``{"value", "label"}``, foreign keys and
tags as nested objects, custom fields are merged. It is stricter where NetBox is silent: an unknown filter or field is
a fault of the test or of the code under it. Tests of NetBox itself use the real one.
"""

from __future__ import annotations

import copy
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from proxbox_dagster.netbox.errors import RowsRefused

REQUEST_LINE = 4094
"""Bytes of a request line that gunicorn takes."""


@dataclass(frozen=True)
class Model:
    """One NetBox table. ``unique`` names columns; ``__ie`` after one: without regard to case."""

    path: str
    columns: tuple[str, ...]
    required: tuple[str, ...] = ()
    refs: tuple[tuple[str, str], ...] = ()
    many: tuple[tuple[str, str], ...] = ()
    choices: tuple[str, ...] = ()
    decimals: tuple[str, ...] = ()
    custom: tuple[str, ...] = ()
    unique: tuple[tuple[str, ...], ...] = ()
    defaults: tuple[tuple[str, Any], ...] = ()
    limits: tuple[tuple[str, int], ...] = ()
    cascade: tuple[str, ...] = ()
    """Foreign keys whose target takes this row along when it is deleted; others are cleared."""


@dataclass
class _Table:
    model: Model
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    taken: dict[tuple[Any, ...], int] = field(default_factory=dict)


class FakeNetBox:
    """``requests`` counts by ``(method, path)``, ``changes`` rows written, ``log`` every write in order.

    ``before_write`` is called with (method, path, rows) and may raise what a client would.
    """

    def __init__(self, models: Iterable[Model]) -> None:
        self.tables = {model.path: _Table(model) for model in models}
        self.requests: Counter[tuple[str, str]] = Counter()
        self.log: list[tuple[str, str, list[Any]]] = []
        self.changes = 0
        self.says_which = True
        """False: refusals name no row, as some of the plugin's lists do."""
        self.before_write: Callable[[str, str, Sequence[Any]], None] | None = None
        self.refuse: Callable[[str, dict[str, Any]], str | None] = lambda _path, _row: None
        """Further validation: why a row is refused, or ``None``."""
        self._next = 0
        self._lock = threading.RLock()

    # -- what tests do ------------------------------------------------------------------------------------------

    def add(self, path: str, **values: Any) -> int:
        """A row put in by a person; ``cf_NAME`` are custom fields. Returns its id and counts nothing."""
        custom = {name.removeprefix("cf_"): values.pop(name) for name in list(values) if name.startswith("cf_")}
        before = self.changes
        [answer] = self._write("POST", path, [{**values, "custom_fields": custom}])
        self.changes = before
        return int(answer["id"])

    def edit(self, path: str, row_id: int, **values: Any) -> None:
        """A row changed by a person; counts nothing."""
        custom = {name.removeprefix("cf_"): values.pop(name) for name in list(values) if name.startswith("cf_")}
        before = self.changes
        self._write("PATCH", path, [{"id": row_id, **values, **({"custom_fields": custom} if custom else {})}])
        self.changes = before

    def all(self, path: str) -> list[dict[str, Any]]:
        """All rows as kept: plain ids, slugs and values."""
        return [copy.deepcopy(row) for _id, row in sorted(self.tables[path].rows.items())]

    def one(self, path: str, **values: Any) -> dict[str, Any]:
        """The only row with these columns."""
        [row] = [row for row in self.all(path) if all(row[name] == value for name, value in values.items())]
        return row

    def snapshot(self) -> str:
        """Everything, byte for byte."""
        return json.dumps({path: sorted(table.rows.items()) for path, table in self.tables.items()}, sort_keys=True)

    # -- Reader -------------------------------------------------------------------------------------------------

    def read(
        self, path: str, filters: dict[str, Any] | None = None, fields: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        query = {**(filters or {}), **({"fields": ",".join(fields)} if fields else {})}
        line = f"GET /api/{path}/?{urlencode(query, doseq=True)}&limit=1000&start=12345678 HTTP/1.1"
        assert len(line) <= REQUEST_LINE, f"{len(line)} bytes are too long for a request line"
        with self._lock:
            self.requests["GET", path] += 1
            table = self.tables[path]
            tests = [_filter(table.model, name, value) for name, value in (filters or {}).items()]
            rows = [row for _id, row in sorted(table.rows.items()) if all(test(row) for test in tests)]
            answers = [self._answer(table.model, row) for row in rows]
        return [{name: row[name] for name in fields if name in row} for row in answers] if fields else answers

    # -- Sender -------------------------------------------------------------------------------------------------

    def create(self, path: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return self._send("POST", path, rows)

    def update(self, path: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return self._send("PATCH", path, rows)

    def delete(self, path: str, ids: Sequence[int]) -> None:
        self._send("DELETE", path, [{"id": row_id} for row_id in ids])

    def _send(self, method: str, path: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        json.dumps(list(rows))  # what cannot be sent is a fault of the writer
        with self._lock:
            self.requests[method, path] += 1
            if self.before_write:
                self.before_write(method, path, rows)
            self.log.append((method, path, copy.deepcopy(list(rows))))
            return self._write(method, path, rows)

    def _write(self, method: str, path: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """All or none."""
        table = self.tables[path]
        kept = {name: (dict(each.rows), dict(each.taken)) for name, each in self.tables.items()}
        errors: list[dict[str, Any]] = []
        done: list[int] = []
        twice = Counter(row["id"] for row in rows if "id" in row)
        order = list(enumerate(rows))
        if method == "PATCH":
            order.sort(key=lambda pair: pair[1]["id"])  # NetBox goes by its own order, not by the list's
        for index, row in order:
            where = {"index": index} if method == "POST" else {"id": row["id"]}
            reason = f"Each object may be specified only once; ID {row.get('id')}" if twice[row.get("id")] > 1 else None
            if reason is None and method != "POST" and row["id"] not in table.rows:
                reason = f"Object with ID {row['id']} does not exist"
            if reason is None and method == "DELETE":
                self._delete(path, row["id"])
            elif reason is None:
                reason = self._save(table, row, done)
            if reason is not None:
                errors.append({**where, "errors": {"__all__": [reason]}})
        if errors:
            for name, (old, taken) in kept.items():
                self.tables[name].rows, self.tables[name].taken = old, taken
            raise self._refusal(errors)
        self.changes += len(rows)
        return [] if method == "DELETE" else [self._answer(table.model, table.rows[row_id]) for row_id in done]

    def _refusal(self, errors: list[dict[str, Any]]) -> RowsRefused:
        text = "; ".join(str(entry["errors"]["__all__"][0]) for entry in errors)
        if not self.says_which:
            return RowsRefused(text, {}, {})
        by = {
            key: {entry[key]: entry["errors"]["__all__"][0] for entry in errors if key in entry}
            for key in ("index", "id")
        }
        return RowsRefused(text, by["index"], by["id"])

    def _save(self, table: _Table, sent: dict[str, Any], done: list[int]) -> str | None:
        """Make or change one row; the reason when it is refused."""
        model = table.model
        sent = {name: value for name, value in sent.items() if name != "changelog_message"}
        old = table.rows.get(sent.get("id", 0))
        blank: dict[str, Any] = dict.fromkeys(model.columns)
        blank.update(dict(model.defaults), tags=[], custom_fields=dict.fromkeys(model.custom))
        row = copy.deepcopy(old) if old else blank
        for name, value in sent.items():
            reason = self._put(model, row, name, value)
            if reason:
                return reason
        for name in model.required:
            if row.get(name) in (None, ""):
                return f"{name}: This field is required."
        keys = {key: row.get("id") for key in _keys(model, row)}
        clash = next((key for key in keys if table.taken.get(key, row.get("id")) != row.get("id")), None)
        if clash:
            return f"The fields {', '.join(clash[0])} must make a unique set."
        reason = self.refuse(model.path, row)
        if reason:
            return reason
        if old is None:
            self._next += 1
            row["id"] = self._next
        else:
            for key in _keys(model, old):
                table.taken.pop(key, None)
        table.rows[row["id"]] = row
        table.taken.update(dict.fromkeys(keys, row["id"]))
        done.append(row["id"])
        return None

    def _put(self, model: Model, row: dict[str, Any], name: str, value: Any) -> str | None:
        if name == "id":
            return None
        if name == "custom_fields":
            unknown = set(value) - set(model.custom)
            row[name] = {**row[name], **copy.deepcopy(value)}
            return f"Unknown field name '{min(unknown)}' in custom field data." if unknown else None
        if name in ("add_tags", "remove_tags"):
            slugs = {item["slug"] for item in value}
            row["tags"] = sorted(set(row["tags"]) | slugs if name == "add_tags" else set(row["tags"]) - slugs)
            return None
        assert name in model.columns, f"{model.path} has no field {name}"
        target = dict(model.refs).get(name)
        if target and value is not None and value not in self.tables[target].rows:
            return f"{name}: Related object not found using the provided numeric ID: {value}"
        if name == "tags":
            value = sorted({item["slug"] if isinstance(item, dict) else item for item in value})
        elif name in dict(model.many):
            value = sorted(value)
        elif isinstance(value, str):
            value = value.strip()
            if len(value) > dict(model.limits).get(name, 10_000):
                return f"{name}: Ensure this field has no more than {dict(model.limits)[name]} characters."
        row[name] = copy.deepcopy(value)
        return None

    def _delete(self, path: str, row_id: int) -> None:
        table = self.tables[path]
        row = table.rows.pop(row_id)
        for key in _keys(table.model, row):
            table.taken.pop(key, None)
        for other_path, other in self.tables.items():
            for name, target in other.model.refs:
                for child in [child for child in other.rows.values() if target == path and child[name] == row_id]:
                    if name in other.model.cascade:
                        self._delete(other_path, child["id"])
                    else:
                        other.rows[child["id"]] = {**child, name: None}

    # -- spelling -----------------------------------------------------------------------------------------------

    def _answer(self, model: Model, row: dict[str, Any]) -> dict[str, Any]:
        answer = copy.deepcopy(row)
        for name, target in (*model.refs, *model.many):
            value = row[name]
            nested = [self._nested(target, item) for item in (value if isinstance(value, list) else [value]) if item]
            answer[name] = nested if name in dict(model.many) else (nested[0] if nested else None)
        for name in model.choices:
            answer[name] = {"value": row[name], "label": str(row[name]).title()} if row[name] else None
        for name in model.decimals:
            answer[name] = None if row[name] is None else f"{float(row[name]):.2f}"
        answer["tags"] = [{"id": 1, "name": slug.title(), "slug": slug} for slug in row["tags"]]
        answer["display"] = str(row.get("name") or row["id"])
        answer["url"] = f"http://netbox/api/{model.path}/{row['id']}/"
        return answer

    def _nested(self, path: str, row_id: int) -> dict[str, Any]:
        return {"id": row_id, "display": str(self.tables[path].rows[row_id].get("name")), "url": f"/api/{path}/"}


def _keys(model: Model, row: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The unique keys that a row holds; one with an empty column does not bind."""
    found = []
    for columns in model.unique:
        parts = []
        for column in columns:
            name, _, fold = column.partition("__")
            value = row.get(name)
            parts.append(value.casefold() if fold and isinstance(value, str) else value)
        if all(part is not None for part in parts):
            found.append((columns, *parts))
    return found


def _filter(model: Model, name: str, value: Any) -> Callable[[dict[str, Any]], bool]:
    values = value if isinstance(value, list | tuple | set | frozenset) else [value]
    texts = {str(item) for item in values}
    if name.startswith("cf_"):
        custom = name.removeprefix("cf_")
        assert custom in model.custom, f"{model.path} has no custom field {custom}"
        return lambda row: str(row["custom_fields"].get(custom)) in texts
    column, _, lookup = name.partition("__")
    if lookup == "ie":
        folded = {text.casefold() for text in texts}
        return lambda row: str(row[column]).casefold() in folded
    if lookup == "gte":
        [limit] = values
        return lambda row: datetime.fromisoformat(row[column]) >= datetime.fromisoformat(limit)
    assert not lookup, f"unknown lookup {name}"
    plain = column.removesuffix("_id") if column.removesuffix("_id") in dict(model.refs) else column
    assert plain == "id" or plain in model.columns, f"{model.path} has no filter {name}"
    return lambda row: ("null" if row[plain] is None else str(row[plain])) in texts
