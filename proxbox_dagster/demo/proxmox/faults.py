"""Faults that tests put into the answers."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Literal

FaultKind = Literal["html", "truncate", "drop", "redirect", "empty"]


@dataclass
class Fault:
    """One fault for the requests whose path (below /api2/json) it matches.

    ``status`` and ``reason`` replace the answer by an error; ``delay`` holds it back (seconds). ``kind``: ``html`` is
    a front end's page (status 200 unless given), ``truncate`` cuts the body in half, ``drop`` closes the connection
    without an answer, ``redirect`` sends to a page, ``empty`` is a good answer with an empty list. It skips the first
    ``skip`` requests and strikes ``count`` times (None: for ever); ``struck`` counts.
    """

    path: re.Pattern[str]
    method: str | None = None
    status: int | None = None
    reason: str | None = None
    delay: float = 0.0
    kind: FaultKind | None = None
    count: int | None = None
    skip: int = 0
    struck: int = 0


class Faults:
    """The faults of a simulator; safe to change while it serves."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(
        self,
        path: str,
        method: str | None = None,
        status: int | None = None,
        reason: str | None = None,
        delay: float = 0.0,
        kind: FaultKind | None = None,
        count: int | None = None,
        skip: int = 0,
    ) -> Fault:
        """Add a fault. ``path`` is a regular expression searched in the path below /api2/json; the first hit counts."""
        fault = Fault(re.compile(path), method, status, reason, delay, kind, count, skip)
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def strike(self, method: str, path: str) -> Fault | None:
        """The fault that this request meets, counted; None when it meets none."""
        with self._lock:
            for fault in self._faults:
                if fault.method not in (None, method) or not fault.path.search(path):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                if fault.count is not None and fault.struck >= fault.count:
                    continue
                fault.struck += 1
                return fault
        return None
