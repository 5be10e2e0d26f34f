"""A real NetBox with its plugin on loopback ports of its own, for the demo and for tests."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from proxbox_dagster.demo.netbox.credentials import Credentials, Permissions
from proxbox_dagster.demo.netbox.errors import NetBoxError
from proxbox_dagster.demo.netbox.home import RunFolder, Say, default_home, locked, sweep, try_lock
from proxbox_dagster.demo.netbox.install import POSTGRES_VARIABLE, REDIS_VARIABLE, Installation, ensure_installed
from proxbox_dagster.demo.netbox.postgres import Account, EmbeddedPostgres, NamedPostgres, postgres_root, remove_cluster
from proxbox_dagster.demo.netbox.processes import Supervisor
from proxbox_dagster.demo.netbox.redis import EmbeddedRedis, NamedRedis
from proxbox_dagster.demo.netbox.web import Web

LOGGER = logging.getLogger(__name__)


class NetBoxServer:
    """NetBox, PostgreSQL and Redis as child processes; a context manager that leaves nothing running.

    ``home`` holds the installation (default: ``$PROXBOX_DEMO_HOME``, else the user's cache folder); what is missing
    there is installed first. Several servers may share a home, also at once: each has databases of its own.
    ``workers``: gunicorn's worker processes (300 MB each). ``fresh_secrets``: an admin password, a token and keys that
    nobody knows instead of the published ones of the tests. ``say`` is told of what takes long. With ``keep`` the
    database and the secrets stay under that name, and the next server with it goes on where this one ended.

    ``PROXBOX_DEMO_POSTGRES`` (``postgresql://USER:PASSWORD@HOST:PORT/DATABASE``, a role that may create databases,
    PostgreSQL 15 or newer) and ``PROXBOX_DEMO_REDIS`` (``redis://HOST:PORT``) name servers to use instead of the
    embedded ones, where their packages have no build for the machine.

    Raises :class:`NetBoxUnavailable` if there is no Python for NetBox, else :class:`NetBoxError` with the end of the
    log that tells why.
    """

    def __init__(
        self,
        home: Path | None = None,
        *,
        workers: int = 2,
        fresh_secrets: bool = False,
        keep: str | None = None,
        say: Say | None = None,
    ) -> None:
        self.home = (home or default_home()).expanduser().absolute()
        self.workers, self.fresh_secrets, self.keep = workers, fresh_secrets, keep
        self._say: Say = say or LOGGER.info
        self._stack = contextlib.ExitStack()
        self._credentials = Credentials()

    def __enter__(self) -> NetBoxServer:
        with contextlib.ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # What is served

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``, without a trailing slash."""
        return self._web.url

    @property
    def token(self) -> str:
        """A superuser's API token (version 2: ``nbt_...``)."""
        return self._credentials.token

    @property
    def admin_user(self) -> str:
        return self._credentials.admin_user

    @property
    def admin_password(self) -> str:
        return self._credentials.admin_password

    @property
    def logs(self) -> Path:
        """The folder of this run's logs: ``web.log``, ``postgres.log``, ``redis.log``, ``install.log``."""
        return self._run.logs

    @property
    def supervisor_pid(self) -> int:
        """The process that owns all others and ends them."""
        return self._supervisor.pid

    def remove_at_end(self, folder: Path) -> None:
        """Have a folder removed when everything has ended, also after this program was killed."""
        self._supervisor.remove_at_end(folder)

    # What tests do with it

    def reset(self, saved: str | None = None) -> None:
        """An empty NetBox again, in 0.3 s: the database is made anew from its template while gunicorn runs on.

        ``saved``: not empty, but as it was at :meth:`save` with this name. Tokens made by :meth:`make_token` since are
        gone; :attr:`token` stays valid.
        """
        self._databases.reset(saved)
        self._redis.flush()

    def save(self, name: str) -> None:
        """Keep NetBox as it is now, for :meth:`reset`. ``name``: letters, digits and ``_``."""
        self._databases.save(name)

    def sql(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        """The rows of a query on NetBox's database (``%s`` for each parameter); none for a statement without rows."""
        return self._databases.server.rows(self._databases.name, query, params)

    def change_count(self) -> int:
        """How many rows NetBox's change log has."""
        return int(self.sql("select count(*) from core_objectchange")[0][0])

    def make_token(
        self,
        username: str,
        *,
        superuser: bool = False,
        permissions: Permissions = (),
        write_enabled: bool = True,
    ) -> str:
        """A new token of a user, who is made if missing; written to the database directly, in milliseconds.

        ``permissions``: each ``(actions, ["app.model", ...])``, for example
        ``[(["view", "add"], ["dcim.device", "dcim.site"])]``, becomes an object permission of the user.
        """
        with self._databases.server.connect(self._databases.name) as connection, connection.transaction():
            return self._credentials.make_token(
                connection, username, superuser=superuser, permissions=permissions, write_enabled=write_enabled
            )

    def stop_web(self) -> None:
        """End the web server; the address refuses connections until :meth:`start_web`."""
        self._web.stop()

    def start_web(self) -> None:
        """Start the web server at the same address again; returns when it answers."""
        self._web.start(self.token)

    # How it comes up

    def _start(self, stack: contextlib.ExitStack) -> None:
        self._make_home()
        account = Account.find()
        root = postgres_root(self.home, account)
        waiting = lambda: self._say("waiting for another installation of NetBox to end")  # noqa: E731
        with locked(self.home / "lock", waiting) as lock:
            sweep(self.home, lambda name: remove_cluster(root, name))
            self._run = RunFolder(self.home)
            stack.callback(self._run.release)
            locks = [lock, self._run.lock, *self._lock_kept(stack)]
            # It inherits the locks: should this program be killed, they are held until all is ended and removed.
            self._supervisor = Supervisor(pass_fds=locks)
            stack.callback(self._supervisor.close)
            self._supervisor.remove_at_end(self._run.path)
            installation = ensure_installed(self.home, self._supervisor, self._say, self._run.log("install"))
            postgres = self._postgres(root, account)
            stack.callback(postgres.close)
            postgres.prepare(installation, self._say)
        self._redis = self._make_redis()
        stack.callback(self._redis.close)
        self._redis.start(installation)
        self._databases = postgres.start(self.keep)
        self._take_credentials()
        self._redis.wait()
        self._serve(stack, installation)

    def _make_home(self) -> None:
        # As root, PostgreSQL runs as a user who must pass through; what is secret below has modes of its own.
        self.home.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)

    def _serve(self, stack: contextlib.ExitStack, installation: Installation) -> None:
        self._say(f"starting NetBox {installation.netbox_version}")
        self._web = Web(installation, self._supervisor, self._run, self.workers)
        stack.callback(self._web.close)
        self._web.configure(self._credentials, self._databases, self._redis.tasks_url, self._redis.cache_url)
        self._web.start(self.token)

    def _lock_kept(self, stack: contextlib.ExitStack) -> Sequence[int]:
        if self.keep is None:
            return []
        lock = try_lock(self.home / f"kept-{self.keep}.lock")
        if lock is None:
            raise NetBoxError(f"Another program serves the NetBox {self.keep!r} of {self.home}; end that one first.")
        stack.callback(os.close, lock)
        return [lock]

    def _postgres(self, root: Path, account: Account) -> EmbeddedPostgres | NamedPostgres:
        named = os.environ.get(POSTGRES_VARIABLE)
        if named:
            return NamedPostgres(named, self._supervisor, self._run)
        return EmbeddedPostgres(self.home, root, account, self._supervisor, self._run)

    def _make_redis(self) -> EmbeddedRedis | NamedRedis:
        named = os.environ.get(REDIS_VARIABLE)
        return NamedRedis(named, self.home) if named else EmbeddedRedis(self._supervisor, self._run)

    def _take_credentials(self) -> None:
        """Use the published secrets, or give the database (and its template) new ones, or those it was kept with."""
        if not self.fresh_secrets:
            return
        path = self.home / f"kept-{self.keep}.json" if self.keep else None
        kept = Credentials.kept(path) if path else None
        self._credentials = kept or Credentials.fresh()
        for database in (self._databases.name, self._databases.template):
            with self._databases.server.connect(database) as connection, connection.transaction():
                self._credentials.apply(connection)
        if path:
            self._credentials.keep(path)
