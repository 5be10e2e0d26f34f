"""What runs in this process tell whoever watches them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from proxbox_dagster.report import ClassReport


@dataclass(frozen=True, slots=True)
class Progress:
    """A step of a running stage, for whoever watches: ``done`` of ``total`` rows of a class are written.

    ``report`` comes with the last step of a class, also of one that ended early. ``cancelled``: the run was, just now.
    ``trouble``: NetBox does not answer, and for how long it is tried.
    """

    endpoint: str
    stage: str = ""
    object_class: str = ""
    done: int = 0
    total: int = 0
    report: ClassReport | None = None
    cancelled: bool = False
    trouble: str = ""


Watcher = Callable[[Progress], None]
_watchers: list[Watcher] = []


def watch(watcher: Watcher) -> Callable[[], None]:
    """Have ``watcher`` called with each :class:`Progress` of runs in this process; returns how to stop it."""
    _watchers.append(watcher)
    return lambda: _watchers.remove(watcher)


def tell(step: Progress) -> None:
    """Call all who watch."""
    for watcher in list(_watchers):
        watcher(step)
