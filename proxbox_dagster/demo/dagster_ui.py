"""Dagster's own UI over a folder with settings: ``dagster dev`` as a child process."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import TracebackType

import yaml

from proxbox_dagster.demo.ports import free_port

LOCATION = "proxbox_dagster"
INSTANCE = Path(__file__).parent / "data" / "dagster.yaml"
"""The instance settings that are shipped in deploy/."""

NO_DIALOG = "\nnux:\n  enabled: false\n"
"""Without it Dagster's first page is under a dialog that asks for a mail address."""


class DagsterError(Exception):
    """Dagster ended or did not come up; the message has the end of its log."""


def prepare_home(folder: Path, instance: Path = INSTANCE) -> Path:
    """A ``DAGSTER_HOME`` in ``folder`` with these instance settings, and a workspace that names the code location.

    Returns the home.
    """
    home = folder / "dagster"
    home.mkdir(exist_ok=True)
    (home / "dagster.yaml").write_text(instance.read_text() + NO_DIALOG)
    module = {"module_name": "proxbox_dagster.definitions", "location_name": LOCATION}
    (folder / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [{"python_module": module}]}))
    return home


class DagsterUI:
    """``dagster dev`` over a folder that :func:`prepare_home` made; a context manager that leaves nothing running.

    The child gets this process's environment: ``DAGSTER_HOME`` and ``PROXBOX_CONFIG`` among it.
    """

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self._folder = folder
        self._log = folder / "dagster.log"
        self.port = port or free_port(3000)
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> DagsterUI:
        command = [sys.executable, "-m", "dagster", "dev", "-w", str(self._folder / "workspace.yaml")]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "-p", str(self.port), "-h", "127.0.0.1"],
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # SIGINT ends Dagster's own children too; SIGTERM would leave code servers behind for a while.
        for sent, patience in ((signal.SIGINT, 20), (signal.SIGKILL, 5)):
            try:
                os.killpg(self._process.pid, sent)
                self._process.wait(patience)
                return
            except subprocess.TimeoutExpired:
                continue
            except ProcessLookupError:
                return

    @property
    def ended(self) -> bool:
        """True once Dagster has ended by itself."""
        return self._process.poll() is not None

    def log_tail(self) -> str:
        """The end of Dagster's log."""
        return self._log.read_text(errors="replace")[-2000:]

    def wait(self, seconds: float = 180.0) -> None:
        """Until the UI answers. Raises :class:`DagsterError` when Dagster ended, or did not answer in time."""
        end = time.monotonic() + seconds
        while not self.ended and time.monotonic() < end:
            try:
                with urllib.request.urlopen(f"{self.url}/server_info", timeout=5):
                    return
            except OSError:
                time.sleep(0.3)
        raise DagsterError(f"Dagster {'ended' if self.ended else 'does not answer'}: {self.log_tail()}")


def _die_with_parent() -> None:
    """In the child: be interrupted when this process is gone, however it went (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG
