"""Dagster's event log on SQLite, with its databases kept open: for ``event_log_storage`` in ``dagster.yaml``.

Dagster's own class makes an engine for each single event, compiles each statement anew, opens the database and closes
it again, and waits for the disk at each commit: two thirds of the processor time of a run that has nothing to write,
and on a slow disk most of its length. The files are the same, so that either class reads what the other one wrote.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from dagster import Field, Noneable, StringSource
from dagster._core.storage.event_log import SqliteEventLogStorage  # the address that Dagster's settings give it by
from sqlalchemy import Connection, Engine, create_engine, event

INDEX = "index"
"""Dagster's name of the database of all runs beside that of each run."""

KEPT = 8
"""Databases open at a time in one process: the index, and runs that are under way or looked at."""

PATIENCE = 30
"""Seconds to wait for another process that is writing, as Dagster's own class does."""


class OpenEventLog(SqliteEventLogStorage):
    """Config ``base_dir``: the folder of the databases; by default Dagster's own, ``$DAGSTER_HOME/history/runs``.

    A commit is safe from the end of any process, and the database from a loss of power; that may cost the last events.
    """

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._one_at_a_time = threading.Lock()
        self._tables: set[str] = set()
        super().__init__(base_dir, inst_data)

    @classmethod
    def config_type(cls) -> Any:
        return {"base_dir": Field(Noneable(StringSource), is_required=False)}

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Mapping[str, Any]) -> OpenEventLog:
        folder = config_value.get("base_dir")
        if folder is None:
            folder = str(Path(os.environ["DAGSTER_HOME"]) / "history" / "runs")
        return cls(folder, inst_data)

    def run_connection(self, run_id: str | None = None) -> Any:
        return self._connection(run_id or INDEX, lambda: super(OpenEventLog, self).run_connection(run_id))

    def index_connection(self) -> AbstractContextManager[Connection]:
        return self._connection(INDEX, super().index_connection)

    def has_table(self, table_name: str) -> bool:
        """Asked twice for each check; a table that is there stays there."""
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def wipe(self) -> None:
        self._close()
        super().wipe()

    def dispose(self) -> None:
        self._close()
        super().dispose()

    @contextmanager
    def _connection(
        self, shard: str, prepared: Callable[[], AbstractContextManager[Connection]]
    ) -> Iterator[Connection]:
        with self._one_at_a_time:
            if shard not in self._engines:
                with prepared():  # Dagster makes the database where there is none
                    pass
                self._engines[shard] = _engine(self.conn_string_for_shard(shard))
            self._engines.move_to_end(shard)
            while len(self._engines) > KEPT:
                self._engines.pop(next(name for name in self._engines if name != INDEX)).dispose()
            with self._engines[shard].connect() as connection, connection.begin():
                yield connection

    def _close(self) -> None:
        with self._one_at_a_time:
            while self._engines:
                self._engines.popitem()[1].dispose()


def _engine(address: str) -> Engine:
    engine = create_engine(address, connect_args={"timeout": PATIENCE})

    @event.listens_for(engine, "connect")
    def _spare_the_disk(connection: Any, _record: Any) -> None:
        connection.execute("pragma synchronous = normal")

    return engine
