"""Where the embedded NetBox lives on disk: one folder that holds the installation, the prepared database and runs."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import platformdirs

HOME_VARIABLE = "PROXBOX_DEMO_HOME"
DATA = Path(__file__).parent.parent / "data" / "netbox"
KEPT_LOGS = 10

Say = Callable[[str], None]


def default_home() -> Path:
    """``$PROXBOX_DEMO_HOME``, else the user's cache folder."""
    named = os.environ.get(HOME_VARIABLE)
    return Path(named).expanduser().absolute() if named else platformdirs.user_cache_path("proxbox-dagster")


def data_key(*names: str, salt: str = "") -> str:
    """A short name for the content of data files: another content gets another installation."""
    digest = hashlib.sha256(salt.encode())
    for name in names:
        digest.update((DATA / name).read_bytes())
    return digest.hexdigest()[:12]


def private_folder(path: Path) -> Path:
    """Make a folder that only its owner may enter, if it is missing."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def locked(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[int]:
    """Hold a lock file, waiting for whoever holds it; yields its descriptor. The lock dies with its holders."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_wait is not None:
                on_wait()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def try_lock(path: Path) -> int | None:
    """The descriptor of a lock file now held, None if another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


class RunFolder:
    """What one running server needs on disk: ``run/NAME`` (removed at its end) and ``logs/NAME`` (the last are kept).

    A lock on the folder says that the run is alive; what a run left behind whose supervisor was killed, the next run
    removes.
    """

    def __init__(self, home: Path) -> None:
        self.name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self.path = private_folder(home / "run" / self.name)
        self.logs = private_folder(home / "logs" / self.name)
        descriptor = try_lock(self.path / "lock")
        assert descriptor is not None, "a new folder's lock is free"
        self.lock = descriptor

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def release(self) -> None:
        """Let go of the lock; the supervisor, which inherited it, holds it until its own end."""
        os.close(self.lock)


def sweep(home: Path, remove: Callable[[str], None]) -> None:
    """Remove the folders of dead runs (``remove`` gets each one's name first) and all but the last logs.

    Call under the home's lock: a run that is just being made must not look dead.
    """
    for folder in (home / "run").glob("*"):
        descriptor = try_lock(folder / "lock") if folder.is_dir() else None
        if descriptor is None:
            continue
        with contextlib.closing(os.fdopen(descriptor)):
            remove(folder.name)
            shutil.rmtree(folder, ignore_errors=True)
    alive = {folder.name for folder in (home / "run").glob("*")}
    logs = sorted((home / "logs").glob("*"), key=lambda folder: folder.stat().st_mtime)
    for folder in logs[:-KEPT_LOGS]:
        if folder.name not in alive:
            shutil.rmtree(folder, ignore_errors=True)
