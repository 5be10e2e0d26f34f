"""Work on several threads that an interruption of the main one does not have to wait for, and its lists."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")

WORTH_PARTING = 20
"""Rows that one list takes as well as two: each request has its own cost."""


def each(items: Sequence[Item], call: Callable[[Item], Answer], workers: int, name: str) -> list[Answer]:
    """The results of ``call`` in the order of the items; on this thread where one is enough.

    The first error is raised: what has not begun is left, and what is under way is waited for. Only who interrupts
    (Ctrl-C, a cancelled run) does not wait; the clients then end what is under way.
    """
    if workers == 1 or len(items) < 2:
        return [call(item) for item in items]
    pool = ThreadPoolExecutor(workers, thread_name_prefix=name)
    try:
        answers = [future.result() for future in [pool.submit(call, item) for item in items]]
    except BaseException as error:
        pool.shutdown(wait=isinstance(error, Exception), cancel_futures=True)
        raise
    pool.shutdown()
    return answers


def in_lists(
    items: Sequence[Item], most: int, workers: int, together: Callable[[Item], Hashable] | None = None
) -> list[list[Item]]:
    """``items`` in lists of nearly equal length, at most ``most``: as many for each worker, so that none ends alone.

    What fits into a list of :data:`WORTH_PARTING` is not parted for that. Where several work at once, those of which
    ``together`` says the same stay in one list, however long.
    """
    count = -(-len(items) // most)
    if len(items) > WORTH_PARTING:
        count = min(-(-count // workers) * workers, len(items))
    if together is not None and workers > 1:
        return in_groups(items, -(-len(items) // max(count, 1)), together)
    size, longer = divmod(len(items), count) if count else (0, 0)
    lists: list[list[Item]] = []
    start = 0
    for number in range(count):
        end = start + size + (number < longer)
        lists.append(list(items[start:end]))
        start = end
    return lists


def in_groups(items: Iterable[Item], most: int, together: Callable[[Item], Hashable]) -> list[list[Item]]:
    """``items`` in lists of at most ``most``, or of one group: those of which ``together`` says the same."""
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        groups.setdefault(together(item), []).append(item)
    lists: list[list[Item]] = []
    for group in groups.values():
        if lists and len(lists[-1]) + len(group) <= most:
            lists[-1] += group
        else:
            lists.append(list(group))
    return lists
