"""The process that owns one NetBox server's processes, so that none outlives the program that wanted them.

Run as a script, by path: it imports nothing but the standard library and starts in some 30 ms. Commands come as JSON
lines on standard input, each is answered by one JSON line on standard output. It ends everything when its input
closes or its parent is gone, which the kernel tells even of a parent that was killed with SIGKILL. Should this
process itself be killed, Linux sends SIGTERM to what it started (PR_SET_PDEATHSIG); gunicorn's workers and
PostgreSQL's backends follow their own parents.

Commands: ``{"do": "start", "name", "argv", "env", "cwd", "log", "user": [uid, gid] | null, "stop_signal"}``,
``{"do": "poll", "name"}`` (``code``: exit status or null), ``{"do": "stop", "name"}``, and two that are done at the
end: ``{"do": "remove", "path"}`` and ``{"do": "last", "argv", "env"}``.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

PR_SET_PDEATHSIG = 1
STOP_SECONDS = 8.0
PARENT_CHECK_SECONDS = 0.25


def _end_with_parent() -> Callable[[], None] | None:
    """What a child does before exec so that it ends with this process; None where there is no such call."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


class Processes:
    """The processes of one server, by name, in the order they were started."""

    def __init__(self) -> None:
        self.running: dict[str, tuple[subprocess.Popen[bytes], int]] = {}
        self.removals: list[str] = []
        self.last: list[dict[str, Any]] = []
        self.preexec = _end_with_parent()

    def start(self, order: dict[str, Any]) -> dict[str, Any]:
        self.stop(order)
        user: dict[str, Any] = {}
        if order.get("user"):
            uid, gid = order["user"]
            user = {"user": uid, "group": gid, "extra_groups": []}
        with open(order["log"], "ab") as log:
            process = subprocess.Popen(
                order["argv"],
                env=order["env"],
                cwd=order["cwd"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=self.preexec,
                **user,
            )
        self.running[order["name"]] = (process, order["stop_signal"])
        return {"pid": process.pid}

    def poll(self, order: dict[str, Any]) -> dict[str, Any]:
        entry = self.running.get(order["name"])
        return {"code": -1 if entry is None else entry[0].poll()}

    def stop(self, order: dict[str, Any]) -> dict[str, Any]:
        entry = self.running.pop(order["name"], None)
        if entry is None:
            return {}
        process, stop_signal = entry
        if process.poll() is None:
            process.send_signal(stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        # The group too: what the process left behind, or what did not end in time.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return {"code": process.returncode}

    def remove(self, order: dict[str, Any]) -> dict[str, Any]:
        self.removals.append(order["path"])
        return {}

    def end_with(self, order: dict[str, Any]) -> dict[str, Any]:
        self.last.append(order)
        return {}

    def close(self) -> None:
        for name in reversed(list(self.running)):
            self.stop({"name": name})
        for order in self.last:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(
                    order["argv"],
                    env=order["env"],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    timeout=30,
                )
        for path in self.removals:
            shutil.rmtree(path, ignore_errors=True)


def serve(processes: Processes, parent: int) -> None:
    """Answer commands until the input closes, the parent is gone, or a SIGTERM comes."""
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: ended.append(number))
    deeds: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
        "start": processes.start,
        "poll": processes.poll,
        "stop": processes.stop,
        "remove": processes.remove,
        "last": processes.end_with,
    }
    buffer = b""
    while not ended and os.getppid() == parent:
        readable, _, _ = select.select([0], [], [], PARENT_CHECK_SECONDS)
        if not readable:
            continue
        data = os.read(0, 65536)
        if not data:
            return
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            order = json.loads(line)
            try:
                answer = deeds[order["do"]](order)
            except (OSError, subprocess.SubprocessError) as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            try:
                os.write(1, json.dumps(answer).encode() + b"\n")
            except BrokenPipeError:
                return


def main() -> None:
    """``supervisor.py PARENT_PID``."""
    processes = Processes()
    try:
        serve(processes, int(sys.argv[1]))
    finally:
        processes.close()


if __name__ == "__main__":
    main()
