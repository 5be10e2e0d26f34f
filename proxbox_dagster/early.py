"""A run that reads before Dagster has set itself up for it.

From the order on the command line to its first step Dagster needs about a second, a fifth of a sync that finds nothing
to do. Both servers can answer meanwhile. Nothing is written before a step asks for the run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from proxbox_dagster import stages
from proxbox_dagster.run import EndpointRun, RunOptions
from proxbox_dagster.settings import Settings


class _Early:
    """One run, reading in a thread of its own. What goes wrong is kept for the step that claims the run."""

    def __init__(self, settings: Settings, endpoint: str, run_id: str, options: RunOptions) -> None:
        self._said: list[str] = []
        self._run = EndpointRun(settings, endpoint, run_id, options, self._said.append)
        self._ready = threading.Event()
        self._closed = threading.Event()
        self._failed: Exception | None = None
        threading.Thread(target=self._read, name="early", daemon=True).start()

    def _read(self) -> None:
        wanted = [stage for stage in stages.STAGES if stage.classes(plugin=self._run.file.plugin)]
        try:
            self._run.hold()
            self._run.look_ahead([stage.name for stage in wanted])
        except Exception as error:
            self._failed = error
        finally:
            self._ready.set()
        if self._failed is None and not self._closed.is_set():
            with suppress(Exception):  # tried again, and told, by the step that reads the sources
                self._run.prefetch(list(dict.fromkeys(name for stage in wanted for name in stage.sources)))
        if self._closed.is_set():  # while this thread was at it: what it took hold of since is let go
            self._run.close()

    def claimed(self, options: RunOptions, warn: Callable[[str], None]) -> EndpointRun | None:
        """The run, once it holds its endpoint and knows NetBox; ``None`` if it was begun with other options."""
        try:
            self._ready.wait()
            if self._failed is not None:
                raise self._failed
        except BaseException:
            self.close()
            raise
        if options != self._run.options:
            self.close()
            return None
        self._run.warn = warn  # first, so that nothing is said to nobody
        for text in self._said:
            warn(text)
        return self._run

    def close(self) -> None:
        self._closed.set()
        self._run.close()


_begun: dict[tuple[str, str], _Early] = {}


def begin(settings: Settings, endpoint: str, run_id: str, options: RunOptions) -> None:
    """Begin to read for a run over the whole endpoint, unless that was done. Raises :class:`SettingsError`."""
    if (run_id, endpoint) not in _begun:
        _begun[run_id, endpoint] = _Early(settings, endpoint, run_id, options)


def claim(endpoint: str, run_id: str, options: RunOptions, warn: Callable[[str], None]) -> EndpointRun | None:
    """The run that was begun, once; its owner closes it. Raises what kept it from beginning."""
    early = _begun.pop((run_id, endpoint), None)
    return None if early is None else early.claimed(options, warn)


def end(endpoint: str, run_id: str) -> None:
    """Close the run if no step came to claim it."""
    early = _begun.pop((run_id, endpoint), None)
    if early is not None:
        early.close()
