"""Deleting rows in lists: a list that NetBox refuses is parted until the rows at fault are alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from proxbox_dagster.netbox.applied import Applied
from proxbox_dagster.netbox.errors import RowsRefused
from proxbox_dagster.netbox.removal import Removal
from proxbox_dagster.netbox.spec import ModelSpec
from proxbox_dagster.netbox.state import NetBoxState


class Deleter(Protocol):
    """What is needed of :class:`proxbox_dagster.netbox.client.NetBoxClient`."""

    def delete(self, path: str, ids: Sequence[int]) -> None: ...


def delete(
    sender: Deleter,
    state: NetBoxState,
    spec: ModelSpec,
    part: list[Removal],
    done: Applied,
    progress: Callable[[int], None],
) -> None:
    """Delete one list of rows. What NetBox does not let go of is put down in ``done.kept``."""
    try:
        sender.delete(spec.path, [item.row_id for item in part])
    except RowsRefused as refusal:
        # What is gone already (an answer to this very request was lost) is deleted; the rest is sent again.
        left = state.there(spec, [item.row_id for item in part])
        _deleted(state, spec, [item for item in part if item.row_id not in left], done, progress)
        for again in _without_bad([item for item in part if item.row_id in left], len(part), refusal, done):
            delete(sender, state, spec, again, done, progress)
        return
    _deleted(state, spec, part, done, progress)


def _deleted(
    state: NetBoxState, spec: ModelSpec, part: list[Removal], done: Applied, progress: Callable[[int], None]
) -> None:
    for item in part:
        state.forget(spec, item.row_id)
    done.deleted += part
    progress(len(part))


def _without_bad(rest: list[Removal], sent: int, refusal: RowsRefused, done: Applied) -> list[list[Removal]]:
    """The lists to send instead of a refused one of ``sent`` rows, of which NetBox still has ``rest``."""
    named = [item for item in rest if item.row_id in refusal.by_id]
    for item in named or (rest if sent == 1 else []):
        done.kept.append(f"{item.label} could not be deleted: {refusal.by_id.get(item.row_id, refusal)}")
    if sent == 1:
        return []
    others = [item for item in rest if item.row_id not in refusal.by_id]
    middle = len(others) // 2 if len(others) == sent else len(others)
    return [part for part in (others[:middle], others[middle:]) if part]
