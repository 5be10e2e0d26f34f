"""A Proxmox and a NetBox that are played back from a file: what a run of 10,000 guests costs in processor and memory.

:func:`make` lets a run make its rows in a NetBox in memory and writes down every answer of both sides; :func:`replayed`
runs against the answers, so that neither server's memory nor time is counted. The rows are as NetBox answers them:
foreign keys, tags and choices as nested objects.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from proxbox_dagster import stages
from proxbox_dagster.demo.proxmox import ProxmoxSimulator, make_cluster
from proxbox_dagster.demo.proxmox.errors import PveError
from proxbox_dagster.netbox.client import PAGE
from proxbox_dagster.netbox.spec import Kind, ModelSpec
from proxbox_dagster.proxmox.errors import ApiError
from proxbox_dagster.run import EndpointRun, RunOptions
from proxbox_dagster.settings import Settings, SettingsFile

ENDPOINT = "bench"
Row = dict[str, Any]


def settings() -> Settings:
    """Settings that lead nowhere: nothing is contacted."""
    endpoint = {"name": ENDPOINT, "hosts": ["pve"], "user": "bench@pve", "token_name": "bench"}
    secret = {"env": "HOME"}
    data = {"netbox": {"url": "http://netbox", "token": secret}, "endpoints": [endpoint | {"token_value": secret}]}
    return Settings(SettingsFile.model_validate(data), "the bench")


class _Calls:
    """What a client has been asked, by method and path."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.rows: Counter[str] = Counter()

    def count(self, method: str, path: str, rows: int) -> None:
        self.requests[f"{method} {path}"] += 1
        self.rows[f"{method} {path}"] += rows


class MemoryNetBox(_Calls):
    """The rows of one endpoint in an otherwise empty NetBox."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[str, dict[int, Row]] = {}
        self._numbers = itertools.count(1)
        self._specs: dict[str, list[ModelSpec]] = {}
        for spec in stages.specs():
            self._specs.setdefault(spec.path, []).append(spec)

    def read(self, path: str, filters: Row | None = None, fields: Sequence[str] = ()) -> list[Row]:
        rows = [row for row in self.tables.get(path, {}).values() if _fits(row, filters or {})]
        self.count("GET", path, len(rows))
        return [{name: row[name] for name in fields if name in row} if fields else row for row in rows]

    def newest(self, path: str, field: str, filters: Row) -> Any:
        return max((row[field] for row in self.read(path, filters)), default=None)

    def may(self, action: str, path: str) -> bool:
        return True

    def create(self, path: str, rows: Sequence[Row]) -> list[Row]:
        made = [self._answered(path, {"custom_fields": {}, **row, "id": next(self._numbers)}) for row in rows]
        self.tables.setdefault(path, {}).update({row["id"]: row for row in made})
        self.count("POST", path, len(rows))
        return made

    def update(self, path: str, rows: Sequence[Row]) -> list[Row]:
        table = self.tables[path]
        for row in rows:
            old = table[row["id"]]
            custom = {**old["custom_fields"], **row.get("custom_fields", {})}
            table[row["id"]] = self._answered(path, {**old, **row, "custom_fields": custom})
        self.count("PATCH", path, len(rows))
        return [table[row["id"]] for row in rows]

    def delete(self, path: str, ids: Sequence[int]) -> None:
        raise AssertionError("nothing is gone")

    def pause(self, seconds: float) -> None:
        raise AssertionError("nothing is worth waiting for")

    def close(self, grace: float = 0.0) -> None:
        pass

    def _answered(self, path: str, row: Row) -> Row:
        """With nested objects, as long as NetBox's own."""
        for spec in self._specs[path]:
            for item in spec.fields:
                value = row.get(item.name)
                if item.kind is Kind.REF and isinstance(value, int):
                    row[item.name] = _nested(item.name, value)
                elif item.kind in (Kind.TAGS, Kind.REFS) and value and isinstance(value, list):
                    row[item.name] = [_nested(item.name, part) if isinstance(part, int) else part for part in value]
        row.pop("changelog_message", None)
        return row


def _nested(name: str, number: int) -> Row:
    url = f"http://netbox/api/things/{name}/{number}/"
    return {"id": number, "url": url, "display": f"{name} {number}", "name": f"{name} {number}", "description": ""}


def _fits(row: Row, filters: Row) -> bool:
    for name, wanted in filters.items():
        field = name.removesuffix("_id").removesuffix("__gte").removesuffix("__ie")
        value = row["custom_fields"].get(name[3:]) if name.startswith("cf_") else row.get(field, row.get(name))
        value = value["id"] if isinstance(value, dict) else value
        if name.endswith("__gte"):
            if value < wanted:
                return False
        elif value not in (wanted if isinstance(wanted, list) else [wanted]):
            return False
    return True


class _Direct:
    """In place of the Proxmox client: asks a simulator's cluster without a connection, and keeps what it answers."""

    def __init__(self, simulator: ProxmoxSimulator, kept: sqlite3.Connection, like: Any) -> None:
        self._simulator, self._kept = simulator, kept
        self.credentials = like.credentials
        self._lock = threading.Lock()

    def get(self, path: str, /, *, expect: type | None = None, **params: Any) -> Any:
        query = {key: str(value) for key, value in params.items() if value is not None}
        cluster = self._simulator.cluster
        local = cluster.first_online
        assert local is not None
        with self._lock:
            try:
                body = self._simulator._content("GET", path, query, self._simulator.user, local)
            except PveError as error:
                body = json.dumps({"error": error.text.strip(), "status": error.status}).encode()
            self._kept.execute("insert or replace into proxmox values (?, ?)", (_name(path, query), body))
        return _answer(path, body)

    def close(self) -> None:
        pass


class _Played:
    """In place of the Proxmox client: the answers that were kept."""

    def __init__(self, kept: Path, like: Any) -> None:
        self._kept = sqlite3.connect(kept, check_same_thread=False)
        self.credentials = like.credentials
        self._lock = threading.Lock()
        self.requests = 0

    def get(self, path: str, /, *, expect: type | None = None, **params: Any) -> Any:
        query = {key: str(value) for key, value in params.items() if value is not None and key != "since"}
        with self._lock:
            self.requests += 1
            row = self._kept.execute("select body from proxmox where name = ?", (_name(path, query),)).fetchone()
        if row is None:
            raise AssertionError(f"{path} {query} was not asked before")
        found = _answer(path, row[0])
        since = params.get("since")
        return [task for task in found if task["starttime"] >= since] if since else found

    def close(self) -> None:
        self._kept.close()


def _name(path: str, query: dict[str, str]) -> str:
    return f"{path}?{json.dumps(query, sort_keys=True)}"


def _answer(path: str, body: bytes) -> Any:
    found = json.loads(body)
    if "error" in found:
        raise ApiError(found["error"], reason=found["error"], host="pve", path=path, status=found["status"])
    return found["data"]


class PlayedNetBox(_Calls):
    """The tables that were kept, a page at a time; refuses to be written to."""

    def __init__(self, kept: Path, *, empty: bool) -> None:
        super().__init__()
        self._kept = sqlite3.connect(kept, check_same_thread=False)
        self._empty = empty
        self._lock = threading.Lock()

    def read(self, path: str, filters: Row | None = None, fields: Sequence[str] = ()) -> list[Row]:
        return list(self.stream(path, filters, fields))

    def stream(self, path: str, filters: Row | None = None, fields: Sequence[str] = ()) -> Iterator[Row]:
        for page in [] if self._empty else self._pages(path):
            rows = [row for row in json.loads(page) if _fits(row, filters or {})]
            self.count("GET", path, len(rows))
            yield from ({name: row[name] for name in fields if name in row} if fields else row for row in rows)

    def newest(self, path: str, field: str, filters: Row) -> Any:
        return max((row[field] for row in self.stream(path, filters)), default=None)

    def close(self, grace: float = 0.0) -> None:
        self._kept.close()

    def _pages(self, path: str) -> Iterator[bytes]:
        number = 0
        while True:
            with self._lock:
                query = "select body from netbox where path = ? and page = ?"
                row = self._kept.execute(query, (path, number)).fetchone()
            if row is None:
                return
            yield row[0]
            number += 1

    def __getattr__(self, name: str) -> Any:
        if name in ("create", "update", "delete"):
            raise AssertionError("a run without changes wrote")
        raise AttributeError(name)


def make(guests: int, kept: Path) -> int:
    """Have a first run make its rows of a cluster, and keep all answers in the file ``kept``; the number of rows."""
    database = sqlite3.connect(kept, check_same_thread=False)
    database.execute("create table proxmox (name text primary key, body blob)")
    database.execute("create table netbox (path text, page integer, body blob, primary key (path, page))")
    cluster = make_cluster(ENDPOINT, max(3, guests // 100), guests, 1, odd=False)
    netbox = MemoryNetBox()
    for _ in range(2):  # the second run asks for what it looks up in a NetBox that has it
        run = _run(netbox)
        run.proxmox.client = _Direct(ProxmoxSimulator(cluster), database, run.proxmox.client)  # type: ignore[assignment]
        run_stages(run)
        run.close()
    for path, table in netbox.tables.items():
        rows = list(table.values())
        for number, start in enumerate(range(0, len(rows), PAGE)):
            body = json.dumps(rows[start : start + PAGE]).encode()
            database.execute("insert into netbox values (?, ?, ?)", (path, number, body))
    database.commit()
    database.close()
    return sum(len(table) for table in netbox.tables.values())


def replayed(kept: Path, *, empty: bool) -> EndpointRun:
    """A dry run over the kept answers: without changes, or (``empty``) against a NetBox that has nothing."""
    run = _run(PlayedNetBox(kept, empty=empty), dry_run=True)
    run.proxmox.client = _Played(kept, run.proxmox.client)  # type: ignore[assignment]
    return run


def _run(netbox: Any, *, dry_run: bool = False) -> EndpointRun:
    run = EndpointRun(settings(), ENDPOINT, "bench", RunOptions(dry_run=dry_run), lambda _line: None)
    run.__dict__["netbox"] = netbox
    return run


def run_stages(run: EndpointRun) -> None:
    """What the steps of a run do, without Dagster around it."""
    run.prefetch(list(dict.fromkeys(source for stage in stages.STAGES for source in stage.sources)))
    for stage in stages.STAGES:
        desired = run.build(stage, {source: run.fetched(source) for source in stage.sources})
        for item in stage.classes(plugin=True):
            run.write(stage.name, desired[item.name])
