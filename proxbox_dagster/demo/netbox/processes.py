"""Starting and ending processes through the supervisor, which ends them all when this program is gone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from proxbox_dagster.demo.netbox.errors import NetBoxError, with_log

# Of what the caller's shell may hold, these would lead another interpreter or another Django project astray.
_FOREIGN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "DJANGO_SETTINGS_MODULE", "GUNICORN_CMD_ARGS", "NETBOX_ROOT")
_CLOSE_SECONDS = 60.0


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment less what is meant for its own interpreter, plus ``extra``."""
    environment = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    return {**environment, **(extra or {})}


class Supervisor:
    """A handle on one supervisor process (``supervisor.py``). Thread-safe; :meth:`close` ends all it started."""

    def __init__(self, *, pass_fds: Sequence[int] = ()) -> None:
        # A session of its own: Ctrl-C on the terminal reaches this program alone, which then ends things in order.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("supervisor.py")), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            pass_fds=pass_fds,
            cwd="/",
        )
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: tuple[int, int] | None = None,
        stop_signal: int = signal.SIGTERM,
    ) -> int:
        """Start a process (in place of one of that name); its output is added to ``log``. Returns its pid."""
        answer = self._ask(
            do="start",
            name=name,
            argv=[str(part) for part in argv],
            env=dict(clean_environment() if env is None else env),
            cwd=str(cwd or "/"),
            log=str(log),
            user=user,
            stop_signal=int(stop_signal),
        )
        return int(answer["pid"])

    def run(self, name: str, argv: Sequence[str | Path], *, log: Path, timeout: float, **options: Any) -> int:
        """Start a process and wait for its end; returns its exit status. Raises :class:`NetBoxError` on time-out."""
        self.start(name, argv, log=log, **options)
        deadline = time.monotonic() + timeout
        while (code := self.exit_code(name)) is None:
            if time.monotonic() > deadline:
                self.stop(name)
                raise NetBoxError(with_log(f"{name} did not end within {timeout:.0f} s.", log))
            time.sleep(0.02)
        self.stop(name)
        return code

    def exit_code(self, name: str) -> int | None:
        """The exit status of a process that has ended, None while it runs."""
        code = self._ask(do="poll", name=name)["code"]
        return None if code is None else int(code)

    def stop(self, name: str) -> None:
        """End a process and its group; nothing happens if there is none of that name."""
        self._ask(do="stop", name=name)

    def remove_at_end(self, path: Path) -> None:
        """Have a folder removed when everything has ended."""
        self._ask(do="remove", path=str(path))

    def run_at_end(self, argv: Sequence[str | Path], env: Mapping[str, str]) -> None:
        """Have a command run when everything has ended, also after this program was killed."""
        self._ask(do="last", argv=[str(part) for part in argv], env=dict(env))

    def close(self) -> None:
        """End all processes, do what was asked for the end, and wait until it is done."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # A supervisor that was killed leaves an order unread; there is nothing left to end then.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _ask(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            try:
                self._process.stdin.write(json.dumps(order).encode() + b"\n")
                self._process.stdin.flush()
                line = self._process.stdout.readline()
            except (OSError, ValueError) as error:
                raise NetBoxError(f"The embedded NetBox is not running any more ({error}).") from error
        if not line:
            raise NetBoxError("The process that watches over the embedded NetBox was ended from outside.")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise NetBoxError(f"{order.get('name', order['do'])} could not be started: {answer['error']}")
        return answer
