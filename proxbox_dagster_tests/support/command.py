"""``proxbox-dagster`` in a process of its own, to be killed, interrupted, or run beside another.

The process is forked from a server that has imported the product already: a second instead of six.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

OUTCOMES = ("created", "updated", "unchanged", "skipped", "failed")
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["proxbox_dagster.sync", "proxbox_dagster.terminal", __name__])


def _entry(arguments: tuple[str, ...], environment: Mapping[str, str], output: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    with open(f"{output}.err", "w") as errors, open(output, "w") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(errors.fileno(), 2)
        sys.stdout, sys.stderr = out, errors
        # A forked server's children ignore SIGINT; a terminal's do not.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from proxbox_dagster.cli import main

        main(list(arguments))


class Command:
    """``Command(folder, "sync", "--json")``: started at once, in the environment of this moment; a context manager."""

    count = 0

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        Command.count += 1
        self._output = folder / f"command-{Command.count}.out"
        self._process = _FORKS.Process(
            target=_entry, args=(arguments, {**os.environ, **environment}, str(self._output)), daemon=True
        )
        self._process.start()

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join(30)

    @property
    def running(self) -> bool:
        return self._process.is_alive()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def send(self, number: signal.Signals) -> None:
        """A signal, as Ctrl-C (SIGINT) or a service manager (SIGTERM) sends it."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def wait(self, timeout: float = 180.0) -> int:
        """The exit status, negative for a signal; AssertionError when it has none in time."""
        self._process.join(timeout)
        assert self._process.exitcode is not None, f"still running after {timeout:.0f} s"
        return self._process.exitcode

    def result(self) -> dict[str, Any]:
        """What ``--json`` printed, with every object accounted for."""
        text = self._output.read_text()
        assert text.strip(), f"printed nothing; errors: {self.errors()}"
        answer: dict[str, Any] = json.loads(text)
        for line in (line for endpoint in answer["endpoints"].values() for line in endpoint["stages"]):
            assert line["seen"] == sum(line[name] for name in OUTCOMES), line
        return answer

    def errors(self) -> str:
        return Path(f"{self._output}.err").read_text()
