"""Waiting for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

PATIENCE = 240.0
"""Seconds for one step: Dagster starts a process for each run, and all cores may be busy."""


def until(what: Callable[[], Found], hint: str) -> Found:
    """Poll until ``what`` gives something true; then give that. Fails with ``hint`` after :data:`PATIENCE`."""
    end = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < end, f"{hint}: not after {PATIENCE:.0f} s"
        time.sleep(0.05)
    return found
