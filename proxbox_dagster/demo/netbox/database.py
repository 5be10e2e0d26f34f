"""NetBox's databases on a PostgreSQL server: loading the dump, making one from a template, reading rows."""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
from psycopg import sql

from proxbox_dagster.demo.netbox.errors import NetBoxError
from proxbox_dagster.demo.netbox.home import DATA

DUMP = "netbox.sql.gz"


@dataclass(frozen=True)
class DatabaseServer:
    """How to reach a PostgreSQL server as a role that may create databases."""

    host: str
    port: int
    user: str
    password: str
    maintenance: str = "postgres"

    @classmethod
    def from_url(cls, url: str) -> DatabaseServer:
        """From ``postgresql://USER:PASSWORD@HOST:PORT/DATABASE``. Raises :class:`NetBoxError` on anything else."""
        parts = urlsplit(url)
        if parts.scheme not in ("postgresql", "postgres") or not parts.hostname or not parts.username:
            raise NetBoxError("PROXBOX_DEMO_POSTGRES must read postgresql://USER:PASSWORD@HOST:PORT/DATABASE.")
        return cls(
            host=parts.hostname,
            port=parts.port or 5432,
            user=unquote(parts.username),
            password=unquote(parts.password or ""),
            maintenance=unquote(parts.path.lstrip("/")) or "postgres",
        )

    def connect(self, database: str | None = None) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection of its own, in autocommit mode. Raises ``psycopg.OperationalError``."""
        return psycopg.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            dbname=database or self.maintenance,
            autocommit=True,
            connect_timeout=5,
        )

    def rows(self, database: str, query: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query, none for a statement that returns none."""
        # The text comes from the project's own tests; psycopg's type asks for a literal to keep user input out.
        statement = sql.SQL(query)
        with self.connect(database) as connection:
            cursor = connection.execute(statement, params or None)
            return cursor.fetchall() if cursor.description else []


@dataclass(frozen=True)
class Databases:
    """One server's pair of databases: the one in use, and the template that it is made anew from."""

    server: DatabaseServer
    name: str = "netbox"
    template: str = "netbox_tmpl"

    def exist(self) -> bool:
        """Whether both databases are there, the template completely loaded."""
        found = self.server.rows(
            self.server.maintenance,
            "select count(*) from pg_database where datname = %s or (datname = %s and datistemplate)",
            (self.name, self.template),
        )
        return bool(found[0][0] == 2)

    def make_template(self) -> None:
        """Load the project's dump into the template (about a second) and make the database from it."""
        template = sql.Identifier(self.template)
        with self.server.connect() as connection:
            connection.execute(sql.SQL("drop database if exists {}").format(template))
            connection.execute(sql.SQL("create database {}").format(template))
        text = gzip.decompress((DATA / DUMP).read_bytes()).decode()
        with self.server.connect(self.template) as connection:
            connection.execute(sql.SQL(text))
            # The dump empties the search path of its session; ANALYZE spares the planner its first guesses.
            connection.execute("analyze")
            connection.execute(sql.SQL("alter database {} is_template true").format(template))
        self.reset()

    def reset(self, saved: str | None = None) -> None:
        """Drop the database, whoever is connected to it, and make it from the template: some 0.2 s.

        ``saved``: as it was when it was saved under this name.
        """
        self._copy(self._saved(saved) if saved else self.template, self.name)

    def save(self, name: str) -> None:
        """Keep a copy of the database as it is now; whoever is connected to it has to connect again."""
        self._copy(self.name, self._saved(name))

    def _saved(self, name: str) -> str:
        return f"{self.name}_saved_{name}"

    def _copy(self, source: str, target: str) -> None:
        names = {"source": sql.Identifier(source), "target": sql.Identifier(target)}
        with self.server.connect() as connection:
            connection.execute(sql.SQL("drop database if exists {target} with (force)").format(**names))
            connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (source,))
            # Copying files is right for a template this small only if nobody waits for the checkpoint: fsync is off.
            connection.execute(sql.SQL("create database {target} template {source} strategy file_copy").format(**names))

    def drop(self) -> None:
        """Remove both databases, and what was saved."""
        with self.server.connect() as connection:
            template = sql.Identifier(self.template)
            connection.execute(sql.SQL("alter database {} is_template false").format(template))
            pattern = self._saved("").replace("_", "\\_") + "%"
            saved = connection.execute("select datname from pg_database where datname like %s", (pattern,)).fetchall()
            for name in (self.name, self.template, *(row[0] for row in saved)):
                connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


def main(arguments: Sequence[str]) -> None:
    """``python -m ... NAME TEMPLATE``: drop both on the server that ``PROXBOX_DEMO_POSTGRES`` names."""
    name, template = arguments
    Databases(DatabaseServer.from_url(os.environ["PROXBOX_DEMO_POSTGRES"]), name, template).drop()


if __name__ == "__main__":
    main(sys.argv[1:])
