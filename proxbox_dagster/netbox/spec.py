"""What a NetBox object class is to us: its identity, its fields with source and policy, and who owns its rows.

A :class:`ModelSpec` is data. Stages declare specs and produce :class:`Desired` rows in terms of natural keys; the
planner, the writer, ``docs/mapping.md`` and the asset descriptions all read the same spec.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

OWNER_TAG = "proxbox"
"""Slug of the tag on every row that this project made or adopted."""

KEEP_TAG = "proxbox-keep"
"""Slug of the tag by which a person says: never remove this."""

MISSING_TAG = "proxbox-missing"
"""Slug of the tag on rows whose source was proved gone."""

ENDPOINT_FIELD = "cf.proxmox_endpoint"
"""The custom field that says which endpoint a row of ours belongs to."""

MEMORY_FIELD = "cf.proxbox_last_written"
"""The custom field (JSON) with the managed values as we last wrote them."""

MISSING_FIELD = "cf.proxbox_missing"
"""The custom field (JSON) with the record of a missing source: since, confirmations, and the status before."""


class Policy(StrEnum):
    """When a field that differs from its source is written. See docs/mapping.md."""

    ALWAYS = "always"  # mirrors Proxmox; a different value in NetBox is wrong
    MANAGED = "managed"  # ours until a person changes it: only written while NetBox holds what we last wrote
    FILL_IF_EMPTY = "fill_if_empty"  # written when NetBox has nothing there
    CREATE_ONLY = "create_only"  # written when the row is made, never again
    NEVER = "never"  # left out (by the settings)


class Kind(StrEnum):
    """How a field is read from and written to NetBox's REST API."""

    VALUE = "value"
    NUMBER = "number"  # decimals that NetBox may answer as text or float
    REF = "ref"  # foreign key: an id, answered as a nested object
    REFS = "refs"  # many to many
    TAGS = "tags"
    MEMBERS = "members"  # a list of texts to which ours are added (object types of a custom field)
    DATETIME = "datetime"  # aware, compared in UTC at whole seconds
    JSON = "json"
    ADDRESS = "address"  # IP address with prefix length
    HOST = "host"  # the host part of an address: identity only, read from ``column`` and never written


class Ownership(StrEnum):
    """Which rows of a class we may change."""

    ENDPOINT = "endpoint"  # tag ``proxbox`` and custom field ``proxmox_endpoint`` equal to this endpoint
    SHARED = "shared"  # found or made by key; changed only where the row carries our mark


@dataclass(frozen=True, slots=True)
class Ref:
    """Another row, by its class's index and natural key; nested Refs name parents of parents."""

    index: str
    key: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.index} {' / '.join(str(part) for part in self.key)}"


@dataclass(frozen=True)
class FieldSpec:
    """One NetBox field. ``source`` and ``conversion`` are the words of docs/mapping.md.

    ``name`` is NetBox's, or ``cf.NAME`` for a custom field. ``limit`` is the longest text that NetBox takes;
    ``required`` means that a row without it cannot be made.
    """

    name: str
    source: str
    conversion: str = "as it is"
    policy: Policy = Policy.ALWAYS
    kind: Kind = Kind.VALUE
    limit: int | None = None
    required: bool = False
    learn: tuple[str, str] | None = None
    """(index, attribute): the row referred to may be known by this attribute of NetBox's nested answer, so that a run
    narrowed to guests need not read that index. Only of rows of ours."""
    column: str = ""
    """NetBox's field, when this one is only another view of it (Kind.HOST of ``address``) or written under another name
    than it is answered (``scope_id``, of which ``scope`` tells more)."""
    hideable: str = ""
    """Index of the row referred to, where Proxmox may hide that one from the token: a reference to it is not cleared
    before it is proved gone."""

    @property
    def is_custom(self) -> bool:
        return self.name.startswith("cf.")

    @property
    def custom_name(self) -> str:
        return self.name.removeprefix("cf.")


@dataclass(frozen=True)
class UniqueKey:
    """A unique constraint of NetBox that a foreign row may already hold.

    ``fields``: the first is looked up by the filter ``lookup`` with many values at once, the others narrow by id.
    """

    fields: tuple[str, ...]
    lookup: str
    casefold: bool = False
    windowed_only: bool = False
    """Looked up only where the table was read from a window on: rows before it may hold the key."""
    fixed: tuple[tuple[str, str], ...] = ()
    """Filters that hold for every lookup, as ``(("vrf_id", "null"),)``."""


@dataclass(frozen=True)
class ModelSpec:
    """A NetBox object class as this project writes it.

    ``index`` names the natural-key index that Refs point into; several specs of one REST ``path`` may share it.
    ``update_only`` specs patch rows that another spec makes (primary addresses). ``missing_status`` is the status
    that a marked row gets.
    """

    name: str
    path: str
    model: str
    identity: tuple[str, ...]
    fields: tuple[FieldSpec, ...]
    ownership: Ownership = Ownership.ENDPOINT
    index: str = ""
    plugin: bool = False
    update_only: bool = False
    unique: tuple[UniqueKey, ...] = ()
    adopt_tagged: bool = False
    """Rows tagged ``proxbox`` that no endpoint owns yet are taken over whatever the settings' ``adopt`` says."""
    shared_mark: tuple[str, str] | None = None
    """For shared classes: (field, value) that a row of ours has; ``None`` means the tag ``proxbox``. With
    ``{endpoint}`` in the value a row follows the one endpoint that made it: two that disagree would take turns."""
    removal: str = "mark"
    missing_status: str | None = None
    label: str = "name"
    """The field shown to people in tables."""
    parent: str | None = None
    """The field that refers to the row this one belongs to; covers of a read name such parents."""
    summed_in: str | None = None
    """The field that refers to a row in which NetBox keeps a sum over these (a machine's disk size). Two requests at
    once would each leave the other's rows out of it, and NetBox refuses every later change of the row with the wrong
    sum: the rows of one sum are never in two lists at the same time."""
    children: tuple[tuple[str, str], ...] = ()
    """(REST path, filter by this row's id) of what NetBox would delete, or change, along with a row.

    ``object_*`` stands for ``object_id`` with ``object_type``, where the filter is by type and id."""
    proof: tuple[str, ...] = ()
    """Fields that, all of them differing, prove that a re-used identity is another object: (serial, name)."""
    proof_under: tuple[str, str, str] | None = None
    """(REST path, filter by this row's id, field) of what proves it where one of ``proof`` is unknown, by having
    nothing in common with ``Row.proofs``: MAC addresses, for containers have no uuid."""
    gives_way: str | None = None
    """A unique field that a row whose source is gone gives up for a new one of this endpoint: the name."""
    narrow: tuple[str, str] | None = None
    """How a run narrowed to guests reads: (filter, index of the rows whose ids it takes; empty: the VMIDs)."""
    window: str | None = None
    """A datetime field: rows older than the run's window are not read (they never change any more). Rows are written in
    their order, one list after the other: where a run breaks off, what is missing is newer than all that is there."""
    primary_of: tuple[tuple[str, str], ...] = ()
    """(index, field) of rows that may point at a row of this class as their primary one: NetBox does not let it move
    to another parent before they let go of it."""
    lets_go: tuple[tuple[str, str], ...] = ()
    """(field, other): a write that changes the field empties the other, which NetBox then fills anew, unless the row
    that the field leads to has the same: the site of a virtual machine that goes to a cluster or node elsewhere."""
    clash_field: str | None = None
    """When NetBox refuses a new row because a row of another endpoint, or of people, holds its unique key, the writer
    appends ``@<endpoint>`` to this field; the planner takes a value with that suffix for equal."""
    clash_remedy: str = "rename one of the two in Proxmox"
    """What to do where a row that this project made already holds a unique key of NetBox."""
    pages: bool = True
    """False where NetBox has no pages of these rows: links lead to the REST API, which a browser shows too."""
    list_page: str | None = None
    """NetBox's page of all rows, where it is not ``/<path>/``."""

    @property
    def index_name(self) -> str:
        return self.index or self.name

    @cached_property
    def by_name(self) -> Mapping[str, FieldSpec]:
        return {item.name: item for item in self.fields}

    @property
    def removable(self) -> bool:
        """Whether a row of ours is ever marked or deleted because its source is gone."""
        return self.removal != "ignore" and self.ownership is Ownership.ENDPOINT and not self.update_only

    def page(self, row_id: int) -> str:
        """Path of the row's page in NetBox's UI."""
        return f"/{'' if self.pages else 'api/'}{self.path}/{row_id}/"

    def list_of(self, endpoint: str) -> str:
        """Path of NetBox's list of the rows that are an endpoint's, or of all that are ours where all share them."""
        base = self.list_page or f"/{'' if self.pages else 'api/'}{self.path}/"
        if self.ownership is Ownership.ENDPOINT:
            name, value = f"cf_{ENDPOINT_FIELD.removeprefix('cf.')}", endpoint
        else:
            name, value = self.shared_mark or ("tag", OWNER_TAG)
        return f"{base}?{urlencode({name: value.format(endpoint=endpoint)})}"


@dataclass(frozen=True)
class ObjectClass:
    """One asset: the rows of one :class:`ModelSpec` that one stage writes. ``name`` becomes ``netbox/<name>``."""

    name: str
    spec: ModelSpec
    title: str
    description: str
    fixed: bool = False
    """The same rows in every run, whatever Proxmox says: not looked at in a run narrowed to guests."""
    only: tuple[tuple[str, Any], ...] = ()
    """Where several object classes share a table: the (field, value) that tells this one's rows from the others'."""


@dataclass(slots=True)
class Row:
    """A row that NetBox should have.

    ``values`` maps field names to values, :class:`Ref`, tuples of Refs, ``None`` (known absent: cleared) or
    ``UNOBSERVED`` (left alone). ``label`` names it for people; ``link`` is its place in Proxmox's UI.
    ``initial`` are values only for fields in which NetBox has nothing yet. A row that is ``only_new`` is made where
    NetBox has none, and never changed or moved: what it says was not observed, only presumed. ``proofs`` tell the
    object from another one of the same identity (``ModelSpec.proof_under``).
    """

    values: dict[str, Any]
    label: str
    link: str | None = None
    initial: dict[str, Any] = field(default_factory=dict)
    only_new: bool = False
    proofs: frozenset[str] = frozenset()


class Outcome(StrEnum):
    SKIPPED = "skipped"  # seen, and rightly not written
    FAILED = "failed"  # seen, should have been written, could not


@dataclass(frozen=True, slots=True)
class Skip:
    """An object that was seen and does not arrive in NetBox, with the reason and what to do."""

    label: str
    reason: str
    outcome: Outcome = Outcome.SKIPPED
    key: tuple[Any, ...] | None = None
    """Identity of the row it would have been, where known: such a row is not removed."""


@dataclass(frozen=True)
class Coverage:
    """What a read proved: rows of ours inside it that are not desired any more have lost their source.

    ``everything`` covers all rows of the endpoint; else only those whose ``parent`` is among ``parents``.
    """

    everything: bool = False
    parents: frozenset[Ref] = frozenset()
    within: tuple[tuple[str, frozenset[Ref]], ...] = ()
    """Further bounds as (field, rows): only rows that refer to one of them by that field are covered. A backup is
    covered where both its storage (the parent) was read to the end and its guest is in the list of guests."""
    reason: str = ""
    """When not everything is covered: why, for the operator."""
    gap: bool = False
    """Whether that reason is a hole in the read, rather than how the run was narrowed or the class is kept."""


NOTHING_COVERED = Coverage()


@dataclass
class Desired:
    """What one object class should hold after the run, as the pure mapping gives it."""

    object_class: ObjectClass
    rows: list[Row] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    coverage: Coverage = NOTHING_COVERED
    notes: list[str] = field(default_factory=list)
    outside: dict[tuple[Any, ...], str] = field(default_factory=dict)
    """Identities of objects that the settings leave out, with the reason: rows that NetBox has of them stay."""
    hold: str = ""
    """Why rows are not moved here from parents outside of the coverage; empty: they are."""

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def skip(self, label: str, reason: str, key: tuple[Any, ...] | None = None) -> None:
        self.skips.append(Skip(label, reason, Outcome.SKIPPED, key))

    def fail(self, label: str, reason: str, key: tuple[Any, ...] | None = None) -> None:
        self.skips.append(Skip(label, reason, Outcome.FAILED, key))


def shorten(text: str, limit: int | None) -> str:
    """``text`` cut to ``limit`` characters with an ellipsis, as NetBox would otherwise refuse the row."""
    return text if limit is None or len(text) <= limit else text[: limit - 1] + "…"
