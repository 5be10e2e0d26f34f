"""Hand-made reads of Proxmox for the pure tests of the stages."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any

from proxbox_dagster.facts import Fetched, Gap, GapKind, frame_of
from proxbox_dagster.proxmox.sources import SOURCES

ENDPOINT = "ams1"


def fetched(source: str, rows: Iterable[Mapping[str, Any]] = (), gaps: Iterable[Gap] = ()) -> Fetched:
    """A read of ``source``; columns that a row leaves out are ``None``. An unknown column is a mistake of the test."""
    columns = [column.name for column in SOURCES[source].columns]
    listed = [dict(row) for row in rows]
    for row in listed:
        unknown = set(row) - set(columns)
        assert not unknown, f"{source} has no column {sorted(unknown)}"
    return Fetched(source, ENDPOINT, frame_of(listed, columns), tuple(gaps))


def shuffled(inputs: Mapping[str, Fetched], seed: int) -> dict[str, Fetched]:
    """The same reads with their rows in another order."""
    chooser = random.Random(seed)
    mixed = {}
    for name, read in inputs.items():
        rows = read.rows
        chooser.shuffle(rows)
        mixed[name] = fetched(name, rows, read.gaps)
    return mixed


def guest_gap(kind: str, vmid: int, gap_kind: GapKind, reason: str) -> Gap:
    """A guest of which something was not observed."""
    return Gap("guest", f"{kind}/{vmid}", gap_kind, reason)
