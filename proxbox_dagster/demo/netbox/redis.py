"""Redis for NetBox: fakeredis over TCP (pure Python, so it installs everywhere), or a server named by the user."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from urllib.parse import urlsplit

import redis

from proxbox_dagster.demo.netbox.errors import NetBoxError, with_log
from proxbox_dagster.demo.netbox.home import RunFolder, try_lock
from proxbox_dagster.demo.netbox.install import REDIS_VARIABLE, Installation
from proxbox_dagster.demo.netbox.ports import ReservedPort
from proxbox_dagster.demo.netbox.processes import Supervisor

START_SECONDS = 30
# A Redis server has 16 databases unless configured otherwise; NetBox needs two.
NAMED_PAIRS = 8
INSIDE = Path(__file__).with_name("inside")


class _Redis:
    """Two Redis databases: ``tasks_url`` for NetBox's queue, ``cache_url`` for its cache."""

    tasks_url: str
    cache_url: str

    def flush(self) -> None:
        """Empty both: what NetBox cached and queued belongs to the database that a reset drops."""
        for url in (self.tasks_url, self.cache_url):
            with contextlib.closing(redis.Redis.from_url(url)) as client:
                client.flushdb()

    def ping(self) -> None:
        with contextlib.closing(redis.Redis.from_url(self.tasks_url, socket_connect_timeout=5)) as client:
            client.ping()


class EmbeddedRedis(_Redis):
    """One private server."""

    def __init__(self, supervisor: Supervisor, run: RunFolder) -> None:
        self.supervisor, self.log = supervisor, run.log("redis")
        self.port = ReservedPort()
        self.tasks_url = f"redis://127.0.0.1:{self.port.number}/0"
        self.cache_url = f"redis://127.0.0.1:{self.port.number}/1"

    def start(self, installation: Installation) -> None:
        """Start it; :meth:`wait` waits until it answers."""
        command: list[str | Path] = [installation.python, "-I", INSIDE / "redis_server.py", str(self.port.number)]
        self.supervisor.start("redis", command, log=self.log)

    def wait(self) -> None:
        """Return when the server answers. Raises :class:`NetBoxError` if it ends or stays silent."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return self.ping()
            except redis.RedisError as error:
                if self.supervisor.exit_code("redis") is not None or time.monotonic() > deadline:
                    raise NetBoxError(with_log("Redis did not start.", self.log)) from error
                time.sleep(0.03)

    def close(self) -> None:
        self.port.close()


class NamedRedis(_Redis):
    """A pair of databases on the server that ``PROXBOX_DEMO_REDIS`` names, locked against others of this home."""

    def __init__(self, url: str, home: Path) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("redis", "rediss") or not parts.hostname:
            raise NetBoxError(
                f"{REDIS_VARIABLE} must read redis://HOST:PORT, with USER:PASSWORD@ where it asks for it."
            )
        self.address = f"{parts.hostname}:{parts.port or 6379}"
        for pair in range(NAMED_PAIRS):
            lock = try_lock(home / f"redis-{pair}.lock")
            if lock is not None:
                self.lock = lock
                break
        else:
            raise NetBoxError(
                f"All {NAMED_PAIRS} pairs of databases of {self.address} are in use by servers of {home}."
            )
        self.tasks_url = parts._replace(path=f"/{2 * pair}").geturl()
        self.cache_url = parts._replace(path=f"/{2 * pair + 1}").geturl()

    def start(self, installation: Installation) -> None:
        """It runs already."""

    def wait(self) -> None:
        """Empty what an earlier run left. Raises :class:`NetBoxError` if the server cannot be used."""
        try:
            self.flush()
        except redis.RedisError as error:
            raise NetBoxError(f"The Redis server {self.address} named by {REDIS_VARIABLE} refused: {error}.") from error

    def close(self) -> None:
        os.close(self.lock)
