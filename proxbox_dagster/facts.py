"""What a read of Proxmox is worth: its rows, and the proof of what they cover.

A fact has three values. *Known* is a value in a row. *Known absent* is ``None`` in a row, or a row that is missing
from a read that was complete. *Not observed* is :data:`UNOBSERVED` in a row, or anything inside a :class:`Gap`.
What was not observed is never written, never cleared and never removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import pandas as pd


class _Unobserved:
    """The type of :data:`UNOBSERVED`; one instance, also after pickling."""

    _instance: _Unobserved | None = None

    def __new__(cls) -> _Unobserved:
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance

    def __repr__(self) -> str:
        return "UNOBSERVED"

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> tuple[type[_Unobserved], tuple[()]]:
        return (_Unobserved, ())


UNOBSERVED: Final = _Unobserved()
"""A field value that this run could not read: the plan leaves NetBox's value alone."""


class GapKind(StrEnum):
    """Why a part of a read is missing."""

    OFFLINE = "offline"  # the node is down, or the cluster has no quorum
    PERMISSION = "permission"  # the token may not see it (Proxmox shortens lists silently)
    FAILED = "failed"  # Proxmox answered with an error, or not at all
    UNREADABLE = "unreadable"  # Proxmox answered something that is no valid answer
    PENDING = "pending"  # what Proxmox shows is not in force yet
    NOT_APPLICABLE = "not_applicable"  # nothing to ask: guest not running, no agent configured
    OUT_OF_SCOPE = "out_of_scope"  # the run was narrowed to other guests, nodes or storages


@dataclass(frozen=True, slots=True)
class Gap:
    """A part of a read that is not observed.

    ``level`` and ``name`` say which: ``("all", "")``, ``("node", "pve1")``, ``("guest", "qemu/100")``,
    ``("storage", "pve1/local")`` (node and storage) . ``reason`` is one sentence for the operator, with the remedy
    where there is one.
    """

    level: str
    name: str
    kind: GapKind
    reason: str

    @property
    def is_error(self) -> bool:
        """True when somebody should look at it: a read that was tried and failed."""
        return self.kind in (GapKind.FAILED, GapKind.UNREADABLE, GapKind.PERMISSION)


def frame_of(rows: Iterable[dict[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """A data frame with exactly ``columns``, all of dtype ``object``, so that 1 stays 1 and ``None`` stays ``None``.

    Keys of a row that are no column are dropped; a missing key is ``None``.
    """
    data = [[row.get(column) for column in columns] for row in rows]
    frame = pd.DataFrame(index=range(len(data)), columns=list(columns), dtype=object)
    for position, column in enumerate(columns):
        values = pd.Series([line[position] for line in data], index=frame.index, dtype=object)
        frame[column] = values
    return frame


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame made by :func:`frame_of`, as dictionaries."""
    columns = list(frame.columns)
    return [dict(zip(columns, values, strict=True)) for values in frame.itertuples(index=False, name=None)]


@dataclass(frozen=True)
class Fetched:
    """One source as read in one run from one Proxmox endpoint.

    ``frame`` has the columns that the source declares; ``gaps`` is the evidence of (in)completeness. Without a gap
    the read is complete: what is not in ``frame`` does not exist.
    """

    source: str
    endpoint: str
    frame: pd.DataFrame
    gaps: tuple[Gap, ...] = ()
    requests: int = 0
    seconds: float = 0.0
    _by_place: dict[tuple[str, str], Gap] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        for gap in self.gaps:
            self._by_place.setdefault((gap.level, gap.name), gap)

    @property
    def complete(self) -> bool:
        return not self.gaps

    @property
    def rows(self) -> list[dict[str, Any]]:
        return records(self.frame)

    def gap(self, level: str, name: str = "") -> Gap | None:
        """The gap that covers this place, if any: the place's own, or one over everything."""
        return self._by_place.get((level, name)) or self._by_place.get(("all", ""))


def guest_key(kind: str, vmid: int) -> str:
    """How a guest is named in gaps, messages and run configuration: ``qemu/100``."""
    return f"{kind}/{vmid}"
