"""Reading beside other work: what a run will need soon is on its way while it does something else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

TASK_OVERLAP = 3600.0
"""Seconds before the newest known task from which tasks are fetched again: clocks of nodes differ."""


def beside(work: Callable[[], None], meanwhile: Callable[[], None]) -> None:
    """Do ``work`` in a thread of its own and ``meanwhile`` in this one; returns when both are done.

    Raises what ``meanwhile`` raises at once, else what ``work`` has raised.
    """
    failed: list[Exception] = []

    def run() -> None:
        try:
            work()
        except Exception as error:
            failed.append(error)

    # A daemon: who cancels a run does not wait for it.
    thread = threading.Thread(target=run, name="beside", daemon=True)
    thread.start()
    meanwhile()
    thread.join()
    if failed:
        raise failed[0]


def ahead(read: Callable[[], None]) -> None:
    """Begin to ``read`` in a thread of its own. What fails there is tried again, and told, where it is needed."""

    def quietly() -> None:
        with suppress(Exception):
            read()

    threading.Thread(target=quietly, name="look-ahead", daemon=True).start()


def task_cursor(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """By node, the epoch second from which tasks are to be fetched, given the rows of task history in NetBox.

    That is an hour before the newest task, or the start of the oldest that had not ended.
    """
    since: dict[str, float] = {}
    known = [(row, datetime.fromisoformat(row["start_time"]).timestamp()) for row in rows]
    for row, started in known:
        since[row["node"]] = max(since.get(row["node"], 0.0), started - TASK_OVERLAP)
    for row, started in known:
        if row.get("end_time") is None:
            since[row["node"]] = min(since[row["node"]], started)
    return {node: int(moment) for node, moment in since.items()}
