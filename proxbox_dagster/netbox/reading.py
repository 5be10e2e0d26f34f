"""Reads of NetBox that the state and the planner share: many values in one request, and who owns what is found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol
from urllib.parse import quote_plus

from proxbox_dagster.netbox.errors import NetBoxRefused
from proxbox_dagster.netbox.spec import ENDPOINT_FIELD, KEEP_TAG, OWNER_TAG, ModelSpec

VALUES_PER_REQUEST = 80
"""Values of one filter in one GET."""

QUERY_LENGTH = 3000
"""Bytes of one filter in one GET: keeps the request line under the 4,094 bytes that gunicorn takes."""


class Reader(Protocol):
    """The reading half of :class:`proxbox_dagster.netbox.client.NetBoxClient`."""

    def read(
        self, path: str, filters: dict[str, Any] | None = ..., fields: Sequence[str] = ...
    ) -> list[dict[str, Any]]: ...


def portions(values: Sequence[Any], lookup: str) -> Iterator[list[Any]]:
    """``values`` in parts that fit into one request line each."""
    part: list[Any] = []
    length = 0
    for value in values:
        size = len(quote_plus(str(value))) + len(lookup) + 2
        if part and (length + size > QUERY_LENGTH or len(part) == VALUES_PER_REQUEST):
            yield part
            part, length = [], 0
        part.append(value)
        length += size
    if part:
        yield part


def owner_of(row: dict[str, Any]) -> str | None:
    """The endpoint that a row says it belongs to."""
    value = (row.get("custom_fields") or {}).get(ENDPOINT_FIELD.removeprefix("cf."))
    return str(value) if value else None


_JOURNAL = ("extras/journal-entries", "assigned_object_*")
_IMAGES = ("extras/image-attachments", "object_*")
_CONTACTS = ("tenancy/contact-assignments", "object_*")
ATTACHED: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "virtualization.virtualmachine": (_IMAGES, _CONTACTS),
    "virtualization.cluster": (_CONTACTS,),
    "dcim.device": (_IMAGES, _CONTACTS),
    "ipam.ipaddress": (_CONTACTS,),
}
"""By model what people attach to an object beside journal entries, and what goes with it without a word."""


def looked_under(spec: ModelSpec) -> tuple[tuple[str, str], ...]:
    """(REST path, filter) of all that may hang on a row and is looked for before it is deleted."""
    return (*spec.children, _JOURNAL, *ATTACHED.get(spec.model, ()))


STAYS: Final = frozenset({"bridge_id", "lag_id", "parent_id", "nat_inside_id", "cluster_id"})
"""Filters of what NetBox changes, or for which it refuses the deletion: what hangs on such a row does not go along."""


def taken_along(spec: ModelSpec, makers: Mapping[str, ModelSpec]) -> Iterator[ModelSpec]:
    """The specs (of ``makers``, by path) of rows that NetBox deletes along with one of ``spec``."""
    seen = {spec.path}
    waiting = [spec]
    while waiting:
        for path, name in waiting.pop().children:
            if path in makers and path not in seen and name not in STAYS:
                seen.add(path)
                waiting.append(makers[path])
                yield makers[path]


def foreign_children(
    reader: Reader,
    endpoint: str,
    spec: ModelSpec,
    row_ids: Sequence[int],
    makers: Mapping[str, ModelSpec],
    looked: dict[tuple[str, int], str | None] | None = None,
) -> dict[int, str]:
    """Of these rows, those with which something would go that is not this endpoint's, with what it is.

    Also what hangs on rows of ours that go along (``makers`` are their specs by path): a note on an address of an
    interface of a guest. A kind of object that the token may not view counts as there: nobody knows. ``looked`` keeps
    what was found under each row, for who asks class by class.
    """
    looked = {} if looked is None else looked
    found = {row_id: what for row_id in row_ids if (what := looked.get((spec.path, row_id))) is not None}
    row_ids = [row_id for row_id in row_ids if (spec.path, row_id) not in looked]
    for path, name in looked_under(spec):
        fixed: dict[str, Any] = {}
        if name.endswith("_*"):
            fixed = {name.replace("_*", "_type"): spec.model}
        filter_name = name.replace("_*", "_id")
        along: dict[int, int] = {}
        for part in portions([row_id for row_id in row_ids if row_id not in found], filter_name):
            try:
                _sort_out(reader, endpoint, path, filter_name, part, found, fixed, along)
            except NetBoxRefused as refusal:
                found.update(
                    dict.fromkeys(part, f"perhaps something of {path}, which the token may not see ({refusal})")
                )
        if path in makers and path != spec.path and name not in STAYS:
            deeper = [child for child, parent in along.items() if parent not in found]
            for child, what in foreign_children(reader, endpoint, makers[path], deeper, makers, looked).items():
                found.setdefault(along[child], what)
    looked.update({(spec.path, row_id): found.get(row_id) for row_id in row_ids})
    return found


def _sort_out(
    reader: Reader,
    endpoint: str,
    path: str,
    filter_name: str,
    row_ids: Sequence[int],
    found: dict[int, str],
    fixed: dict[str, Any],
    along: dict[int, int],
) -> None:
    """Put what hangs on rows into ``found`` by the row's id, or where it is ours into ``along`` by its own."""
    for child in reader.read(path, {**fixed, filter_name: list(row_ids)}):
        parent = parent_among(child, filter_name, row_ids)
        if parent is None:  # its answer does not say whose it is: ask for each row by itself
            for row_id in row_ids:
                _sort_out(reader, endpoint, path, filter_name, [row_id], found, fixed, along)
            return
        if _is_ours(child, endpoint):
            along[child["id"]] = parent
        else:
            found.setdefault(parent, f"{path.rsplit('/', 1)[-1]} '{child.get('display', child['id'])}'")


def _is_ours(child: dict[str, Any], endpoint: str) -> bool:
    """A row that a person released or said to keep is not taken along."""
    slugs = {tag.get("slug") for tag in child.get("tags", ())}
    tagged = "tags" not in child or (OWNER_TAG in slugs and KEEP_TAG not in slugs)
    return tagged and owner_of(child) == endpoint


def parent_among(child: dict[str, Any], filter_name: str, row_ids: Sequence[int]) -> int | None:
    """Which of ``row_ids`` a child found by ``filter_name`` belongs to; with one only, that one."""
    if len(row_ids) == 1:
        return row_ids[0]
    name = filter_name.removesuffix("_id")
    value = child.get(name) or child.get("parent") or child.get("assigned_object")
    if isinstance(value, dict):
        owner = value if value.get("id") in row_ids and name in child else value.get(name, value)
        if isinstance(owner, dict) and owner.get("id") in row_ids:
            return int(owner["id"])
    for key in (filter_name, "assigned_object_id", "parent_object_id"):
        if child.get(key) in row_ids:
            return int(child[key])
    return None
