"""Where the wall time of a run goes: by phase, as the thread that runs the steps sees it."""

from __future__ import annotations

import functools
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

PHASES = ("fetch", "read NetBox", "plan", "write", "Dagster")
"""``fetch`` and ``read NetBox`` are what a step still waits for: what is read beside other work costs nothing here."""


class Clock:
    """Seconds by phase. A phase within another one stops that one, so that the phases add up to the whole."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._since = 0.0
        self._thread = threading.get_ident()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count for ``name``; in any other thread than the clock's own, count nothing."""
        if threading.get_ident() != self._thread:
            yield
            return
        self._turn()
        self._open.append(name)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def time(self, owner: Any, name: str, phase: str) -> None:
        """Have a function of ``owner`` count for ``phase`` whenever it is called."""
        original = getattr(owner, name)

        @functools.wraps(original)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.phase(phase):
                return original(*args, **kwargs)

        setattr(owner, name, timed)

    def _turn(self) -> None:
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now
