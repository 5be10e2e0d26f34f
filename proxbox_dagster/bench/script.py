"""From the recorded writes of a first run to the shortest list of writes that makes the same rows.

A row that was made and changed afterwards is made as it ended, except where the change refers to a row that came
later (a primary address): that is the second pass which nobody can do without.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from graphlib import TopologicalSorter
from typing import Any
from urllib.parse import urlsplit

from proxbox_dagster.parallel import in_groups

Key = tuple[str, int]
Row = dict[str, Any]


def script_of(
    record: Iterable[dict[str, Any]],
    full: Callable[[str], dict[int, Row]],
    size: int,
    summed_in: Mapping[str, str] | None = None,
) -> list[Row]:
    """Lists of ``size`` rows: ``method``, ``path``, ``rows``, ``ids`` (of the recorded run), ``needs`` (positions).

    ``full`` gives the rows of a path as NetBox answers them in full: it tells where a number in a row leads. By path,
    ``summed_in`` names the field of which the rows with one value stay together (``ModelSpec.summed_in``).
    """
    made: dict[Key, Row] = {}
    later: list[tuple[str, Row]] = []
    for entry in record:
        if entry["method"] == "POST":
            for number, row in zip(entry["ids"], entry["rows"], strict=True):
                made[entry["path"], number] = dict(row)
        elif entry["method"] == "PATCH":
            for row in entry["rows"]:
                later.append((entry["path"], dict(row)))
        else:
            raise ValueError("a first run deletes nothing")
    order = {key: position for position, key in enumerate(made)}
    answers = {path: full(path) for path in {path for path, _ in made} | {path for path, _ in later}}
    second: list[tuple[str, Row]] = []
    for path, row in later:
        key = (path, row["id"])
        linked = _linked(row, answers[path][row["id"]], order)
        newer = any(order[target] > order.get(key, -1) for target in _targets(linked))
        if key in made and not newer:
            _merge(made[key], {name: value for name, value in row.items() if name != "id"})
        else:
            second.append((path, linked | {"id": {"$row": [*key]} if key in made else row["id"]}))
    linked_rows = {key: _linked(row, answers[key[0]][key[1]], order) for key, row in made.items()}
    return _in_lists(linked_rows, second, size, summed_in or {})


def _merge(row: Row, change: Row) -> None:
    for name, value in change.items():
        if name == "custom_fields":
            row[name] = {**row.get(name, {}), **value}
        else:
            row[name] = value


def _linked(row: Row, answer: Row, known: dict[Key, int]) -> Row:
    """The row with ``{"$row": [path, id]}`` for every number that leads to a row which the script makes."""
    return {
        name: _link(value, answer.get(name.removesuffix("_id") if name.endswith("_id") else name), known)
        if name not in ("id", "custom_fields", "tags")
        else value
        for name, value in row.items()
    }


def _link(value: Any, answer: Any, known: dict[Key, int]) -> Any:
    if isinstance(value, list) and isinstance(answer, list):
        by_id = {part.get("id"): part for part in answer if isinstance(part, dict)}
        return [_link(part, by_id.get(part), known) if isinstance(part, int) else part for part in value]
    if isinstance(value, int) and isinstance(answer, dict) and answer.get("url") and answer.get("id") == value:
        path = urlsplit(answer["url"]).path.split("/api/", 1)[1].strip("/").rsplit("/", 1)[0]
        if (path, value) in known:
            return {"$row": [path, value]}
    return value


def _targets(value: Any) -> Iterator[Key]:
    if isinstance(value, dict):
        if "$row" in value:
            yield value["$row"][0], value["$row"][1]
            return
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _targets(part)


def _in_lists(
    rows: dict[Key, Row], second: list[tuple[str, Row]], size: int, summed_in: Mapping[str, str]
) -> list[Row]:
    """Path by path in the order of dependency; within a path, first the rows that others of it refer to."""
    parents = {key: list(_targets(row)) for key, row in rows.items()}
    graph: dict[str, set[str]] = defaultdict(set)
    for (path, _), targets in parents.items():
        graph[path] |= {target for target, _ in targets} - {path}
    lists: list[Row] = []
    where: dict[Key, int] = {}

    def add(method: str, path: str, part: list[tuple[int | None, Row]]) -> None:
        needs = sorted({where[target] for _, row in part for target in _targets(row)})
        ids = [number for number, _ in part if number is not None]
        lists.append({"method": method, "path": path, "rows": [row for _, row in part], "ids": ids, "needs": needs})
        where.update({(path, number): len(lists) - 1 for number in ids})

    for path in TopologicalSorter(graph).static_order():
        for level in _levels({key: parents[key] for key in rows if key[0] == path}):
            for keys in in_groups(level, size, lambda key: str(rows[key].get(summed_in.get(key[0], ""), key))):
                add("POST", path, [(key[1], rows[key]) for key in keys])
    by_path: dict[str, list[Row]] = defaultdict(list)
    for path, row in second:
        by_path[path].append(row)
    for path, changes in by_path.items():
        for round_ in _rounds(changes):
            for part in _parts(round_, size):
                add("PATCH", path, [(None, row) for row in part])
    return lists


def _levels(parents: dict[Key, list[Key]]) -> Iterator[list[Key]]:
    """The rows of one path, those first that the others refer to."""
    waiting = dict(parents)
    while waiting:
        ready = [key for key, targets in waiting.items() if not any(target in waiting for target in targets)]
        if not ready:
            raise ValueError("rows refer to one another in a circle")
        yield ready
        for key in ready:
            del waiting[key]


def _rounds(changes: list[Row]) -> Iterator[list[Row]]:
    """A list names a row once: what changes one again comes in the next round."""
    while changes:
        first = {str(row["id"]): row for row in reversed(changes)}
        chosen = {id(row) for row in first.values()}
        yield [row for row in changes if id(row) in chosen]
        changes = [row for row in changes if id(row) not in chosen]


def _parts(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
