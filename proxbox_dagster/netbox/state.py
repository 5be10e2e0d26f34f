"""What NetBox holds of one endpoint: read once per run, narrowed, and kept true by our own writes.

Rows are kept as NetBox answers them, per REST path, with the union of the fields that any spec of that path needs.
Each spec's natural-key index maps identities to ids; :meth:`NetBoxState.resolve` turns a :class:`Ref` into an id.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from proxbox_dagster.netbox.lookups import look_up
from proxbox_dagster.netbox.reading import Reader, foreign_children, owner_of, portions
from proxbox_dagster.netbox.spec import (
    ENDPOINT_FIELD,
    OWNER_TAG,
    ModelSpec,
    Ownership,
    Ref,
    Row,
    UniqueKey,
)
from proxbox_dagster.netbox.tables import Blocked, Pending, Resolved, Table, identity_of, key_of, wanted_fields
from proxbox_dagster.netbox.values import decode, normal, raw_value


class NetBoxState:
    """The part of NetBox that one run over one endpoint needs. Thread-safe for loading."""

    def __init__(
        self,
        reader: Reader,
        endpoint: str,
        specs: Iterable[ModelSpec],
        since: Callable[[ModelSpec], str | None] | None = None,
        vmids: Collection[int] = (),
    ) -> None:
        """``since`` tells the ISO time before which rows of a spec with a window are not read.

        ``vmids`` narrows what is read to these guests and what belongs to them (``ModelSpec.narrow``).
        """
        self.endpoint = endpoint
        self._since = since or (lambda _spec: None)
        self._windows: dict[str, str | None] = {}
        self._vmids = sorted(vmids)
        self._learned: dict[Ref, int] = {}
        self.specs = {spec.name: spec for spec in specs}
        self._reader = reader
        self._tables: dict[str, Table] = {spec.path: Table() for spec in self.specs.values()}
        self._makers: dict[str, list[ModelSpec]] = defaultdict(list)
        """By path: the specs that make its rows."""
        self._asked: dict[str, set[tuple[Any, ...]]] = defaultdict(set)
        self._pending: set[Ref] = set()
        self._blocked: dict[Ref, str] = {}
        self._made: dict[str, set[int]] = defaultdict(set)
        self._spelt: dict[Ref, Ref] = {}
        self._by_index: dict[str, ModelSpec] = {}
        for spec in self.specs.values():
            if spec.index_name not in self._by_index or not spec.update_only:
                self._by_index[spec.index_name] = spec
            if not spec.update_only:
                self._makers[spec.path].append(spec)
        self._fields = {
            path: wanted_fields(self.specs.values(), path) for path in {spec.path for spec in self.specs.values()}
        }
        self._lock = threading.RLock()

    # -- what is read -------------------------------------------------------------------------------------------

    def fields_of(self, path: str) -> list[str]:
        """The fields that are asked for in every read of a path."""
        return self._fields[path]

    def load(self, spec: ModelSpec, *, again: bool = False) -> None:
        """Read this endpoint's rows of the spec's path, once. Shared classes are looked up by key instead."""
        table = self._tables[spec.path]
        if (table.loaded and not again) or spec.ownership is Ownership.SHARED:
            return
        with table.reading:
            # Another thread may have read it while this one waited.
            if table.loaded and not again:
                return
            for narrowed in self._filters(spec, new_too=again):
                filters: dict[str, Any] = {ENDPOINT_FILTER: self.endpoint, **narrowed}
                if since := self._window(spec):
                    filters[f"{spec.window}__gte"] = since
                rows = self._reader.read(spec.path, filters, self._fields[spec.path])
                self._take(spec.path, rows, known_too=again)
            table.loaded = True

    def load_all(self, specs: Iterable[ModelSpec]) -> None:
        """Read the tables of these specs one after the other, as :meth:`load` does; for a thread of its own."""
        for spec in specs:
            self.load(spec)

    def _filters(self, spec: ModelSpec, *, new_too: bool) -> Iterator[dict[str, Any]]:
        """What narrows the reads of a spec: nothing, or in a run over some guests their numbers or parents' ids.

        Nothing is under a parent that is new in this run, before this run has written there itself (``new_too``).
        """
        narrow = self.base(spec.index_name).narrow
        if not self._vmids or narrow is None:
            yield {}
            return
        name, index = narrow
        values: list[Any] = list(self._vmids)
        if index:
            parent = self.base(index)
            self.load(parent)
            values = [row["id"] for row in self.rows(parent) if new_too or not self.is_new(index, row["id"])]
        for part in portions(values, name):
            yield {name: part}

    def _window(self, spec: ModelSpec) -> str | None:
        """From when on the rows of a spec are read; asked for once, when they are."""
        if spec.window is None:
            return None
        if spec.name not in self._windows:
            self._windows[spec.name] = self._since(spec)
        return self._windows[spec.name]

    def look_up(
        self, spec: ModelSpec, key: UniqueKey, rows: Iterable[Row], *, new_too: bool = False
    ) -> list[dict[str, Any]]:
        """NetBox rows, ours or not, that hold a unique key of ``rows``; read in requests of many values each.

        Rows whose parent is new in this run are left out, as NetBox cannot hold anything under it; unless this run has
        written there itself (``new_too``).
        """
        if key.windowed_only and self._window(spec) is None and not new_too:
            return []
        return look_up(self, self._reader, spec, key, rows, new_too=new_too)

    def load_shared(self, spec: ModelSpec, rows: Sequence[Row]) -> None:
        """Look up the rows of a shared class by its first unique key, each key once per run."""
        with self._tables[spec.path].reading:
            asked = self._asked[spec.index_name]
            fresh = {key: row for row in rows if (key := key_of(spec, row)) not in asked}
            self._take(spec.path, self.look_up(spec, spec.unique[0], fresh.values()))
            asked.update(fresh)

    def reload(self, spec: ModelSpec, rows: Sequence[Row]) -> None:
        """Read again after a write without an answer."""
        if spec.ownership is Ownership.SHARED:
            self.look_again(spec, rows)
        else:
            self.load(spec, again=True)

    def look_again(self, spec: ModelSpec, rows: Sequence[Row]) -> None:
        """Take in those of ``rows`` that NetBox has by now, made by another run or an earlier request of this one."""
        for key in spec.unique:
            # Not under the lock: a table that is being read takes it while this thread may wait for that table.
            for found in self.look_up(spec, key, rows, new_too=True):
                if spec.ownership is Ownership.SHARED or self.owner_of(found) == self.endpoint:
                    self.put(spec, found)

    # -- what is known ------------------------------------------------------------------------------------------

    def put(self, spec: ModelSpec, row: dict[str, Any], *, made: bool = False) -> None:
        """Take in a row as NetBox answered it to a write."""
        with self._lock:
            self._put(spec.path, row)
            if made:
                self._made[spec.index_name].add(row["id"])

    def _take(self, path: str, rows: Iterable[dict[str, Any]], *, known_too: bool = False) -> None:
        """Take in rows as read. One that is known stays as it is: while a page was on its way here, a step may have
        written the row (``known_too``: unless it is read again for what NetBox has now).
        """
        table = self._tables[path]
        with self._lock:
            for row in rows:
                if known_too or row["id"] not in table.rows:
                    self._put(path, row)

    def _put(self, path: str, row: dict[str, Any]) -> None:
        table = self._tables[path]
        wanted = self._fields[path]
        row = table.rows[row["id"]] = {name: row[name] for name in wanted if name in row}
        for spec in self._makers[path]:
            if self._vmids:
                self._learn(spec, row)
            key = identity_of(spec, row)
            if key is None:
                continue
            index = table.keys.setdefault(spec.index_name, {})
            other = index.setdefault(key, row["id"])
            if other != row["id"]:
                twice = table.twice.setdefault(spec.index_name, {}).setdefault(key, [other])
                if row["id"] not in twice:
                    twice.append(row["id"])

    def _learn(self, spec: ModelSpec, row: dict[str, Any]) -> None:
        """Note the ids of rows that a row of ours refers to, by what NetBox's nested answer tells of them."""
        if spec.ownership is not Ownership.ENDPOINT or self.owner_of(row) != self.endpoint:
            return
        for item in spec.fields:
            nested = raw_value(item, row) if item.learn else None
            if item.learn and isinstance(nested, dict) and nested.get(item.learn[1]):
                index, attribute = item.learn
                target = self._by_index.get(index)
                if target is not None:
                    named: tuple[Any, ...] = (nested[attribute],)
                    if target.ownership is Ownership.ENDPOINT:
                        named = (self.endpoint,) if len(target.identity) == 1 else (self.endpoint, *named)
                    self._learned[Ref(index, named)] = nested["id"]

    def forget(self, spec: ModelSpec, row_id: int) -> None:
        """Drop a row that was deleted."""
        with self._lock:
            row = self._tables[spec.path].rows.pop(row_id, None)
            if row:
                self.release(spec, row)

    def release(self, spec: ModelSpec, row: dict[str, Any]) -> None:
        """Take a row out of the index: its identity is another object's from now on."""
        with self._lock:
            key = identity_of(spec, row)
            index = self._tables[spec.path].keys.get(spec.index_name, {})
            if key is not None and index.get(key) == row["id"]:
                del index[key]

    def find(self, spec: ModelSpec, row: Row) -> dict[str, Any] | None:
        """The NetBox row of this identity, or ``None``."""
        key = self._resolved_key(key_of(spec, row))
        row_id = self._tables[spec.path].keys.get(spec.index_name, {}).get(key) if key is not None else None
        return None if row_id is None else self._tables[spec.path].rows.get(row_id)

    def is_row_of(self, spec: ModelSpec, found: dict[str, Any], row: Row) -> bool:
        """True where a NetBox row has the identity of a desired one."""
        key = self._resolved_key(key_of(spec, row))
        return key is not None and identity_of(spec, found) == key

    def _resolved_key(self, key: tuple[Any, ...]) -> tuple[Any, ...] | None:
        parts: list[Any] = []
        for part in key:
            target = self.resolve(part) if isinstance(part, Ref) else part
            if isinstance(target, Blocked):
                target = self._known(part)
            if target is None or isinstance(target, Pending):
                return None
            parts.append(target)
        return tuple(parts)

    def _known(self, ref: Ref) -> int | None:
        """The id of a row that NetBox has, whether or not this run may use it."""
        spec = self._by_index.get(ref.index)
        if spec is None:
            return None
        key = self._resolved_key(self._canonical(spec, ref).key)
        return None if key is None else self._tables[spec.path].keys.get(spec.index_name, {}).get(key)

    def duplicates(self, spec: ModelSpec) -> dict[tuple[Any, ...], list[int]]:
        """Identities that several NetBox rows hold."""
        return self._tables[spec.path].twice.get(spec.index_name, {})

    def foreign_children(
        self, spec: ModelSpec, row_ids: Sequence[int], looked: dict[tuple[str, int], str | None] | None = None
    ) -> dict[int, str]:
        """Of these rows, those under which NetBox has something that is not this endpoint's, with what it is."""
        makers = {path: specs[-1] for path, specs in self._makers.items()}
        return foreign_children(self._reader, self.endpoint, spec, row_ids, makers, looked)

    @property
    def narrowed(self) -> bool:
        """Whether only some guests and what belongs to them are read."""
        return bool(self._vmids)

    def ours_under(
        self, path: str, name: str, row_ids: Sequence[int], owner: str | None = None
    ) -> list[dict[str, Any]]:
        """Rows that belong to an endpoint (this one unless ``owner`` is given) under others, read past the tables."""
        filters: dict[str, Any] = {ENDPOINT_FILTER: owner or self.endpoint}
        return [
            row
            for part in portions(list(row_ids), name)
            for row in self._reader.read(path, {**filters, name: part})
            if owner_of(row) == (owner or self.endpoint)
        ]

    def there(self, spec: ModelSpec, row_ids: Sequence[int]) -> set[int]:
        """Which of these rows NetBox still has."""
        found: set[int] = set()
        for part in portions(list(row_ids), "id"):
            found |= {row["id"] for row in self._reader.read(spec.path, {"id": part}, ("id",))}
        return found

    def rows(self, spec: ModelSpec) -> list[dict[str, Any]]:
        """All rows known of the spec's path."""
        return list(self._tables[spec.path].rows.values())

    def row(self, spec: ModelSpec, row_id: int) -> dict[str, Any] | None:
        return self._tables[spec.path].rows.get(row_id)

    def base(self, index: str) -> ModelSpec:
        """The spec that makes the rows of an index. Raises :class:`KeyError`."""
        return self._by_index[index]

    def is_gone(self, index: str, row_id: int) -> bool:
        """True when this endpoint had a row of this id and NetBox has it no more."""
        spec = self._by_index.get(index)
        if spec is None or spec.ownership is not Ownership.ENDPOINT or (self._vmids and spec.narrow):
            return False
        self.load(spec)
        return row_id not in self._tables[spec.path].rows

    def is_new(self, index: str, row_id: int) -> bool:
        """True for a row that this run made."""
        return row_id in self._made[index]

    # -- references ---------------------------------------------------------------------------------------------

    def resolve(self, ref: Ref) -> Resolved:
        """A reference's id, or that the row is still to be made, or why it leads nowhere."""
        spec = self._by_index.get(ref.index)
        if spec is None:
            return Blocked(f"{ref.index} is not written by this run's settings")
        ref = self._canonical(spec, ref)
        if ref in self._blocked:
            return Blocked(self._blocked[ref])
        if ref in self._learned:
            return self._learned[ref]
        if spec.ownership is Ownership.ENDPOINT:
            self.load(spec)
        parts: list[Any] = []
        for part in ref.key:
            target = self.resolve(part) if isinstance(part, Ref) else part
            if isinstance(target, Blocked):
                return target
            if isinstance(target, Pending):
                return Pending(ref) if ref in self._pending else Blocked(f"{ref} is not in NetBox")
            parts.append(target)
        row_id = self._tables[spec.path].keys.get(spec.index_name, {}).get(tuple(parts))
        if row_id is None and spec.ownership is Ownership.SHARED and spec.unique:
            row_id = self._ask_shared(spec, ref, tuple(parts))
        if row_id is not None:
            return row_id
        if ref in self._pending:
            return Pending(ref)
        return Blocked(f"{ref} is not in NetBox")

    def _canonical(self, spec: ModelSpec, ref: Ref) -> Ref:
        """The reference with every part of its key as NetBox keeps it: rows are expected and blocked by that."""
        found = self._spelt.get(ref)
        if found is None:
            parts: list[Any] = []
            for name, part in zip(spec.identity, ref.key, strict=True):
                if isinstance(part, Ref):
                    parent = self._by_index.get(part.index)
                    parts.append(self._canonical(parent, part) if parent else part)
                else:
                    parts.append(normal(spec.by_name[name], part))
            found = self._spelt[ref] = Ref(ref.index, tuple(parts))
        return found

    def _ask_shared(self, spec: ModelSpec, ref: Ref, parts: tuple[Any, ...]) -> int | None:
        if ref not in self._pending:
            self.load_shared(spec, [Row(dict(zip(spec.identity, ref.key, strict=True)), str(ref))])
        return self._tables[spec.path].keys.get(spec.index_name, {}).get(parts)

    def expect(self, ref: Ref) -> None:
        """Note that this plan makes the row of ``ref``."""
        self._pending.add(self._spelling(ref))

    def is_expected(self, ref: Ref) -> bool:
        """True while the row of ``ref`` is planned and not yet made."""
        return self._spelling(ref) in self._pending

    def block(self, ref: Ref, reason: str) -> None:
        """Note that the row of ``ref`` will not come, so that what refers to it says why."""
        ref = self._spelling(ref)
        self._pending.discard(ref)
        self._blocked.setdefault(ref, reason)

    def _spelling(self, ref: Ref) -> Ref:
        spec = self._by_index.get(ref.index)
        return self._canonical(spec, ref) if spec else ref

    # -- ownership ----------------------------------------------------------------------------------------------

    def owner_of(self, row: dict[str, Any]) -> str | None:
        """The endpoint that the row says it belongs to."""
        return owner_of(row)

    def is_ours(self, spec: ModelSpec, row: dict[str, Any]) -> bool:
        """True where the row may be changed: see :class:`Ownership`."""
        if spec.ownership is Ownership.SHARED and spec.shared_mark:
            name, value = spec.shared_mark
            return decode(spec.by_name[name], row) == value.format(endpoint=self.endpoint)
        # A class that only patches another's rows has no tags of its own: the row's count.
        tags = spec.by_name.get("tags") or self._by_index.get(spec.index_name, spec).by_name.get("tags")
        tagged = tags is None or OWNER_TAG in decode(tags, row)
        if spec.ownership is Ownership.SHARED:
            return tagged
        return tagged and self.owner_of(row) == self.endpoint


ENDPOINT_FILTER = "cf_" + ENDPOINT_FIELD.removeprefix("cf.")
