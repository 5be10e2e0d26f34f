"""Removing what this project made, and nothing else: listed first, removed only when told so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from proxbox_dagster import stages
from proxbox_dagster.lock import EndpointLock
from proxbox_dagster.netbox.client import NetBoxClient
from proxbox_dagster.netbox.errors import RowsRefused
from proxbox_dagster.netbox.spec import KEEP_TAG, ModelSpec
from proxbox_dagster.netbox.state import NetBoxState
from proxbox_dagster.netbox.values import has_tag
from proxbox_dagster.parallel import in_lists
from proxbox_dagster.settings import Settings

RUN_ID = "purge"
SHARED_STAYS = (
    "What endpoints share stays, since others and people may use it: sites, types, roles, platforms, VLANs, the "
    "plugin's endpoints, tags and custom fields of this project. Delete it in NetBox when nobody does."
)


@dataclass
class Owned:
    """The rows of one class that an endpoint owns; ``kept`` are those that stay, with the reason."""

    spec: ModelSpec
    rows: list[dict[str, Any]] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    deleted: int = 0

    def label(self, row: dict[str, Any]) -> str:
        return str(row.get("display") or row.get(self.spec.label) or row["id"])


def owned_rows(state: NetBoxState) -> list[Owned]:
    """Everything of the state's endpoint, what hangs on others first: the order in which it can be removed."""
    endpoint = state.endpoint
    found: list[Owned] = []
    looked: dict[tuple[str, int], str | None] = {}
    for spec in children_first(list(state.specs.values())):
        state.load(spec)
        item = Owned(spec)
        for row in state.rows(spec):
            if not state.is_ours(spec, row) or state.owner_of(row) != endpoint:
                continue
            if has_tag(spec, row, KEEP_TAG):
                item.kept.append(f"{item.label(row)}: tagged {KEEP_TAG}")
            else:
                item.rows.append(row)
        _keep_what_people_use(state, item, looked)
        if item.rows or item.kept:
            found.append(item)
    return found


def children_first(specs: Sequence[ModelSpec]) -> list[ModelSpec]:
    """One spec of each path: the last stage's first, but none before what NetBox deletes along with its rows."""
    last = {spec.path: spec for spec in specs if not spec.update_only}
    order: dict[str, ModelSpec] = {}
    begun: set[str] = set()

    def take(path: str) -> None:
        if path in begun or path not in last:
            return
        begun.add(path)
        for child, _filter in last[path].children:
            take(child)
        order[path] = last[path]

    for spec in reversed(specs):
        take(spec.path)
    return list(order.values())


def purge(
    settings: Settings, endpoint: str, *, yes: bool, tell: Callable[[Owned], None], warn: Callable[[str], None]
) -> bool:
    """List, and with ``yes`` remove, what an endpoint owns. True when nothing that should go is left.

    The endpoint need not be in the settings any more: NetBox's rows say whose they are.
    Raises :class:`NetBoxError` and :class:`EndpointBusy`.
    """
    file = settings.require()
    connection = settings.netbox_connection()
    lock = EndpointLock(connection.url, endpoint)
    client = NetBoxClient(connection, RUN_ID, warn)
    try:
        if yes:
            lock.acquire(RUN_ID)
        client.check(plugin=file.plugin)
        specs = stages.specs(plugin=file.plugin)
        state = NetBoxState(client, endpoint, specs)
        found = owned_rows(state)
        clean = True
        if not found:
            known = ", ".join(settings.endpoint_names)
            warn(f"nothing in NetBox belongs to endpoint {endpoint} (in the settings are: {known})")
        for item in found:
            if yes:
                clean = remove(client, state, item) and clean
            tell(item)
        if found:
            warn(SHARED_STAYS)
        return clean
    finally:
        client.close()
        lock.release()


def _keep_what_people_use(state: NetBoxState, item: Owned, looked: dict[tuple[str, int], str | None]) -> None:
    """What people made under a row keeps the row: NetBox would delete it along."""
    foreign = state.foreign_children(item.spec, [row["id"] for row in item.rows], looked) if item.rows else {}
    item.kept += [
        f"{item.label(row)}: {foreign[row['id']]} under it is not ours" for row in item.rows if row["id"] in foreign
    ]
    item.rows = [row for row in item.rows if row["id"] not in foreign]


def remove(client: NetBoxClient, state: NetBoxState, item: Owned) -> bool:
    """Remove the rows of one class. False where NetBox did not let one go."""
    for part in in_lists(item.rows, 50, workers=1):
        item.deleted += _delete(client, state, item, part)
    return item.deleted == len(item.rows)


def _delete(client: NetBoxClient, state: NetBoxState, item: Owned, rows: list[dict[str, Any]]) -> int:
    """How many of the rows are gone now. One that NetBox does not have any more is, whoever deleted it."""
    try:
        client.delete(item.spec.path, [row["id"] for row in rows])
        return len(rows)
    except RowsRefused as refusal:
        there = state.there(item.spec, [row["id"] for row in rows])
        left = [row for row in rows if row["id"] in there]
        gone = len(rows) - len(left)
        if len(rows) == 1:
            item.kept += [f"{item.label(row)}: {refusal}" for row in left]
            return gone
        middle = len(left) if gone else len(left) // 2
        parts = [part for part in (left[:middle], left[middle:]) if part]
        return gone + sum(_delete(client, state, item, part) for part in parts)
