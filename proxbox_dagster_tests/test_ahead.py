"""Reading beside other work, and what is remembered of NetBox's permissions."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from pydantic import SecretStr

from proxbox_dagster.ahead import TASK_OVERLAP, ahead, beside, task_cursor
from proxbox_dagster.netbox.permissions import Need
from proxbox_dagster.permitted import VALID, Permitted
from proxbox_dagster.settings import NetBoxConnection

WAIT = 30.0


def test_both_sides_are_under_way_at_once() -> None:
    here, there = threading.Event(), threading.Event()

    def work() -> None:
        there.set()
        assert here.wait(WAIT)

    def meanwhile() -> None:
        assert there.wait(WAIT)
        here.set()

    beside(work, meanwhile)


def test_a_failure_beside_is_told_when_both_are_done() -> None:
    done = threading.Event()

    def work() -> None:
        raise ValueError("not here")

    with pytest.raises(ValueError, match="not here"):
        beside(work, done.set)
    assert done.is_set()


def test_a_failure_ahead_is_left_to_who_needs_what_was_not_read() -> None:
    tried = threading.Event()

    def read() -> None:
        tried.set()
        raise ValueError("not yet")

    ahead(read)
    assert tried.wait(WAIT)


def test_tasks_are_fetched_from_the_newest_of_a_node_or_the_oldest_that_still_runs() -> None:
    rows = [
        {"node": "pve1", "start_time": "2025-01-01T00:00:00Z", "end_time": "2025-01-01T00:10:00Z"},
        {"node": "pve1", "start_time": "2025-01-02T00:00:00Z", "end_time": "2025-01-02T00:10:00Z"},
        {"node": "pve2", "start_time": "2025-01-01T00:00:00Z", "end_time": None},
        {"node": "pve2", "start_time": "2025-01-02T00:00:00Z", "end_time": "2025-01-02T00:10:00Z"},
    ]
    second, first = 1735776000, 1735689600
    assert task_cursor(rows) == {"pve1": second - TASK_OVERLAP, "pve2": first}
    assert task_cursor([]) == {}


def permitted(token: str = "one", url: str = "https://netbox", actions: tuple[str, ...] = ("view",)) -> Permitted:
    connection = NetBoxConnection(url, SecretStr(token), True, 60, 180, 75, 1)
    return Permitted(connection, [Need("dcim/sites", "dcim.site", actions)])


def test_what_is_permitted_is_remembered_of_one_token_and_one_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert not permitted().known()
    permitted().note()
    assert permitted().known()
    others = (permitted("two"), permitted(url="https://other"), permitted(actions=("view", "add")))
    assert not any(other.known() for other in others)
    [kept] = tmp_path.rglob("*.permitted")
    assert kept.parent.stat().st_mode & 0o077 == 0
    assert kept.read_bytes() == b""

    old = kept.stat().st_mtime - VALID - 1
    os.utime(kept, (old, old))
    assert not permitted().known()
    permitted().note()
    permitted().forget()
    assert not permitted().known()
