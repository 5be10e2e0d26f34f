"""Retention: ``keep-last=3,keep-daily=7``, or the same as a dictionary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .problem import ParseProblem
from .values import properties, to_bool, to_int


@dataclass(frozen=True, slots=True)
class Prune:
    """How many backups are kept; ``None`` where nothing is said."""

    keep_all: bool | None = None
    keep_last: int | None = None
    keep_hourly: int | None = None
    keep_daily: int | None = None
    keep_weekly: int | None = None
    keep_monthly: int | None = None
    keep_yearly: int | None = None

    def __str__(self) -> str:
        """The property string, in Proxmox's order of keys."""
        parts = [("keep-all", None if self.keep_all is None else int(self.keep_all))]
        parts += [(f"keep-{unit}", getattr(self, f"keep_{unit}")) for unit in _UNITS]
        return ",".join(f"{key}={value}" for key, value in parts if value is not None)


_UNITS = ("last", "hourly", "daily", "weekly", "monthly", "yearly")


def parse_prune(value: Any) -> Prune | ParseProblem:
    """Retention from Proxmox's property string or dictionary; nothing said for ``None``."""
    fields = properties({} if value is None else value)
    if isinstance(fields, ParseProblem):
        return fields
    keep_all = to_bool(fields.get("keep-all"))
    if isinstance(keep_all, ParseProblem):
        return ParseProblem.of(value, f"keep-all: {keep_all.reason}")
    counts: dict[str, int | None] = {}
    for unit in _UNITS:
        count = to_int(fields.get(f"keep-{unit}"))
        if isinstance(count, ParseProblem) or (count is not None and count < 0):
            return ParseProblem.of(value, f"keep-{unit}: no number of backups")
        counts[f"keep_{unit}"] = count
    return Prune(keep_all, **counts)
