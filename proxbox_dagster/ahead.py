"""Reading beside other work: what a run will need soon is on its way while it does something else."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from proxbox_dagster.netbox.limit import PATIENT
from proxbox_dagster.netbox.spec import Desired, ModelSpec, Ownership, Ref, Row
from proxbox_dagster.netbox.state import NetBoxState
from proxbox_dagster.stages.stage import Stage

_LOG = logging.getLogger(__name__)

TASK_OVERLAP = 3 * 86_400.0
"""Seconds before the newest known task from which tasks are fetched again. NetBox may lack some before it: a run
narrowed to guests notes theirs alone, and a guest whose row could not be made gets it in a later run."""


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
    """Begin to ``read`` in a thread of its own, after what anybody else asks NetBox for.

    What fails there is tried again, and told, where it is needed.
    """

    def quietly() -> None:
        PATIENT.set(True)
        try:
            read()
        except Exception:
            _LOG.debug("looked ahead in vain", exc_info=True)

    threading.Thread(target=quietly, name="look-ahead", daemon=True).start()


def read_ahead(
    state: NetBoxState,
    stages: Sequence[Stage],
    desired_of: Callable[[Stage], Iterable[Desired]],
    is_read: Callable[[Stage], bool],
    *,
    plugin: bool,
) -> None:
    """Read what the stages will need of NetBox: tables in their order, and what is looked up by key.

    ``desired_of`` maps a stage's sources, and waits for them; ``is_read`` tells whether it would have to. As soon as
    none has to, all keys are looked up, those of one path together: each step's own short questions would else take
    turns with the long reads of this thread, each of them after a wait.
    """
    asking = [
        stage
        for stage in stages
        if any(item.spec.ownership is Ownership.SHARED for item in stage.classes(plugin=plugin))
    ]
    for stage in [*stages, None]:
        if asking and (stage is None or all(is_read(other) for other in asking)):
            _look_up_all(state, asking, desired_of)
            asking = []
        if stage is not None:
            state.load_all(item.spec for item in stage.classes(plugin=plugin))


def _look_up_all(state: NetBoxState, stages: Iterable[Stage], desired_of: Callable[[Stage], Iterable[Desired]]) -> None:
    """Look up what these stages share with others, by each path's key in one go."""
    rows: dict[str, list[Row]] = {}
    for stage in stages:
        with suppress(Exception):  # told by the step that needs it
            for desired in desired_of(stage):
                if desired.object_class.spec.ownership is Ownership.SHARED:
                    rows.setdefault(desired.object_class.spec.name, []).extend(desired.rows)
    for name, wanted in rows.items():
        spec = state.specs[name]
        state.load_shared(spec, [row for row in wanted if _has_parents(state, spec, row)])


def _has_parents(state: NetBoxState, spec: ModelSpec, row: Row) -> bool:
    """Whether NetBox has what a row's key refers to. Else a step may be about to make it."""
    values = [row.values[name] for name in spec.identity]
    return all(isinstance(state.resolve(value), int) for value in values if isinstance(value, Ref))


def task_cursor(rows: Iterable[Mapping[str, Any]], horizon: datetime) -> dict[str, int]:
    """By node, the epoch second from which tasks are to be fetched, given the rows of task history in NetBox.

    That is :data:`TASK_OVERLAP` before the newest task, or the start of the oldest that had not ended. Tasks from
    beyond the ``horizon`` do not count: a node whose clock was once in the future would have nothing to tell until
    then.
    """
    since: dict[str, float] = {}
    starts = [(row, datetime.fromisoformat(row["start_time"]).timestamp()) for row in rows]
    known = [(row, started) for row, started in starts if started <= horizon.timestamp()]
    for row, started in known:
        since[row["node"]] = max(since.get(row["node"], 0.0), started - TASK_OVERLAP)
    for row, started in known:
        if row.get("end_time") is None:
            since[row["node"]] = min(since[row["node"]], started)
    return {node: int(moment) for node, moment in since.items()}
