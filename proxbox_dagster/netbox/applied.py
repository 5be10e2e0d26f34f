"""What became of a plan."""

from __future__ import annotations

from dataclasses import dataclass, field

from proxbox_dagster.netbox.changes import Create, Update
from proxbox_dagster.netbox.removal import Mark, Removal
from proxbox_dagster.netbox.spec import Skip


@dataclass
class Applied:
    """What became of a plan: each of its rows is in one of ``created``, ``found``, ``updated`` and ``failed``."""

    created: list[tuple[Create, int]] = field(default_factory=list)
    found: list[tuple[Create, int]] = field(default_factory=list)
    """Rows that were to be made, and that another run has made in the meantime."""
    updated: list[Update] = field(default_factory=list)
    retired: list[Update] = field(default_factory=list)
    marked: list[Mark] = field(default_factory=list)
    deleted: list[Removal] = field(default_factory=list)
    failed: list[Skip] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    """Rows that NetBox did not let be marked or deleted, with the reason."""
    notes: list[str] = field(default_factory=list)
