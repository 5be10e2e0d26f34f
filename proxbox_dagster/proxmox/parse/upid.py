"""Task ids: ``UPID:node:pid:pstart:starttime:type:id:user@realm[!token]:``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from .problem import ParseProblem

_UPID = re.compile(
    r"UPID:([A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?):([0-9A-Fa-f]{8}):([0-9A-Fa-f]{8,9}):([0-9A-Fa-f]{8}):"
    r"([^:\s]+):([^:\s]*):([^:\s]+):(.*)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Upid:
    """A task id taken apart. ``starttime`` is in epoch seconds, ``id`` what the task worked on (may be empty)."""

    node: str
    pid: int
    pstart: int
    starttime: int
    type: str
    id: str
    user: str
    tokenid: str | None


def parse_upid(value: Any) -> Upid | ParseProblem:
    """Take a task id apart."""
    match = _UPID.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return ParseProblem.of(value, "no task id (UPID)")
    user, _, token = match[7].partition("!")
    numbers = (int(match[2], 16), int(match[3], 16), int(match[4], 16))
    return Upid(match[1], *numbers, match[5], match[6], user, token or None)
