"""Something that is computed once, however many threads ask for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any


class Memo:
    """Results by key. The first to ask computes, the others wait; an exception is kept and raised again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._futures: dict[Hashable, Future[Any]] = {}

    def get(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """The result for ``key``. A key must not be asked for while it is being computed in the same thread."""
        with self._lock:
            future = self._futures.get(key)
            mine = future is None
            if future is None:
                future = self._futures[key] = Future()
        if mine:
            try:
                future.set_result(compute())
            except BaseException as error:
                if not isinstance(error, Exception):
                    # An interruption is no result: the next to ask shall try anew.
                    with self._lock:
                        self._futures.pop(key, None)
                future.set_exception(error)
                raise
        return future.result()

    def has(self, key: Hashable) -> bool:
        """Whether :meth:`get` would answer at once."""
        with self._lock:
            future = self._futures.get(key)
        return future is not None and future.done()
