"""How many requests may be under way: shrinks when the server is in trouble or slow, and recovers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

SLOW_FACTOR = 5.0
"""A request this many times slower than usual for its kind counts as a sign of overload."""

RECOVER_AFTER = 10
"""Good answers in a row after which one more request is let through."""

PATIENT: ContextVar[bool] = ContextVar("patient", default=False)
"""Set in a thread whose requests let all others go first: what it reads is needed later."""


class AdaptiveLimit:
    """A semaphore between 1 and ``most`` places: halved on trouble, one more after ten good answers. Thread-safe."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.now = most
        self.peak = 0
        """The most requests that were ever under way at once."""
        self._under_way = 0
        self._awaited = 0
        self._pressing = 0
        """How many wait for a place who are not :data:`PATIENT`."""
        self._good = 0
        self._usual: dict[str, float] = {}
        self._changed = threading.Condition()

    @contextmanager
    def place(self, *, awaited: bool = True) -> Iterator[None]:
        """Wait for a place and hold it. ``awaited``: :meth:`drained` waits for what holds it."""
        patient = PATIENT.get()
        with self._changed:
            self._pressing += not patient
            try:
                self._changed.wait_for(lambda: self._under_way < self.now and not (patient and self._pressing))
            finally:
                self._pressing -= not patient
                self._changed.notify_all()
            self._under_way += 1
            self._awaited += awaited
            self.peak = max(self.peak, self._under_way)
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._awaited -= awaited
                self._changed.notify_all()

    def drained(self, seconds: float) -> bool:
        """Wait until nothing that is awaited is under way, for so many seconds at most; whether it is so."""
        with self._changed:
            return self._changed.wait_for(lambda: self._awaited == 0, timeout=seconds)

    def trouble(self) -> None:
        """An error or a time-out that may pass."""
        with self._changed:
            self.now = max(1, self.now // 2)
            self._good = 0

    def answered(self, kind: str, seconds: float) -> None:
        """A good answer; ``kind`` is what it is compared with (method and path)."""
        with self._changed:
            usual = self._usual.get(kind)
            self._usual[kind] = seconds if usual is None else 0.8 * usual + 0.2 * seconds
            if usual is not None and seconds > max(1.0, SLOW_FACTOR * usual):
                self.now = max(1, self.now // 2)
                self._good = 0
                return
            self._good += 1
            if self._good >= RECOVER_AFTER and self.now < self.most:
                self.now += 1
                self._good = 0
                self._changed.notify_all()
