"""Work on several threads that an interruption of the main one does not have to wait for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


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
