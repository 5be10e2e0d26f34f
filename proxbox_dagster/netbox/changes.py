"""What a plan is made of: rows to create, fields to change, and why something is left alone. Data only."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from dataclasses import dataclass, field
from typing import Any, Literal

from proxbox_dagster.netbox.moves import Release
from proxbox_dagster.netbox.removal import Proof, RemovalRules, Removals
from proxbox_dagster.netbox.spec import ObjectClass, Policy, Ref, Row, Skip

Adopt = Literal["never", "tagged", "by_name"]


@dataclass(frozen=True)
class Rules:
    """The settings that bear on a plan. ``policies`` maps object class to field to policy."""

    adopt: Adopt = "never"
    removal: RemovalRules = field(default_factory=RemovalRules)
    policies: Mapping[str, Mapping[str, Policy]] = field(default_factory=dict)
    proof: Proof | None = None
    """Asked before a row is taken for gone."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A field that differs from its source and is left alone, because a person changed it."""

    label: str
    field: str
    netbox: Any
    proxmox: Any
    row_id: int


@dataclass
class Create:
    """A row to be made; ``values`` are comparable, references may still be :class:`Ref`."""

    row: Row
    ref: Ref
    values: dict[str, Any]


@dataclass
class Update:
    """Fields of one row to be changed: ``changes`` maps field to (before, after).

    ``row_id`` is 0 in a dry run for a row that another class is still to make.
    """

    row: Row
    row_id: int
    changes: dict[str, tuple[Any, Any]]
    memory: dict[str, Any] | None = None
    adopted: bool = False
    frees: Ref | None = None
    """The identity that the row lets go of, for another row of the same plan to take."""


@dataclass
class Plan:
    """What one object class needs. Every seen object is in exactly one of the first five lists."""

    object_class: ObjectClass
    creates: list[Create] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)
    unchanged: list[int] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)
    failures: list[Skip] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    retires: list[Update] = field(default_factory=list)
    """Rows whose identity (a re-used VMID) or name another object has taken over: written before anything is made."""
    releases: list[Release] = field(default_factory=list)
    """Rows that must let go of rows that move to another parent, or follow their parent to this endpoint: written
    before the updates."""
    removals: Removals = field(default_factory=Removals)
    unresolved: list[Skip] = field(default_factory=list)
    """References of seen objects that lead nowhere, each with its field and the reason."""
    present: set[int] = field(default_factory=set)
    """Ids of the rows whose objects were seen in this run."""

    @property
    def seen(self) -> int:
        parts: tuple[Sized, ...] = (self.creates, self.updates, self.unchanged, self.skips, self.failures)
        return sum(len(part) for part in parts)

    @property
    def writes(self) -> bool:
        return bool(self.creates or self.updates or self.retires or self.releases or self.removals.writes)
