"""The event log stays open while a run lasts, and nothing of it afterwards."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import dagster as dg
import pytest

from proxbox_dagster.event_log import kept_open


def test_the_journal_stays_while_the_log_is_kept_open_and_goes_with_it(tmp_path: Path) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        kept = kept_open(instance, "no-such-run")
        assert len(kept) == 1
        [index] = tmp_path.rglob("index.db")
        with sqlite3.connect(index) as other:
            other.execute("create table probe (a)")
        other.close()
        journal = index.with_name("index.db-wal")
        assert journal.exists()
        kept[0].close()
        with pytest.raises(sqlite3.ProgrammingError):
            kept[0].execute("select 1")
        assert not journal.exists()


def test_nothing_is_kept_where_there_are_no_such_files() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert kept_open(instance, "run") == []
    assert kept_open(None, "run") == []
