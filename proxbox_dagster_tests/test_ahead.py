"""Reading beside other work, and what is remembered of NetBox's permissions."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from proxbox_dagster.ahead import TASK_OVERLAP, ahead, beside, read_ahead, task_cursor
from proxbox_dagster.netbox.apply import Writer
from proxbox_dagster.netbox.errors import NetBoxRefused
from proxbox_dagster.netbox.limit import PATIENT, AdaptiveLimit
from proxbox_dagster.netbox.permissions import Need
from proxbox_dagster.netbox.spec import Desired
from proxbox_dagster.permitted import VALID, Permitted
from proxbox_dagster.run import EndpointRun, RunOptions
from proxbox_dagster.settings import NetBoxConnection
from proxbox_dagster.stages.stage import Stage, StageContext
from proxbox_dagster_tests.support.core import Run, state_of, synced
from proxbox_dagster_tests.support.core_specs import CLUSTER, MACHINE, ROLE, cluster, machine, role, wanted
from proxbox_dagster_tests.support.graph import two_endpoints
from proxbox_dagster_tests.support.polling import until

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


def test_who_reads_ahead_lets_the_others_go_first() -> None:
    limit = AdaptiveLimit(1)
    order: list[str] = []
    waiting = {name: threading.Event() for name in ("ahead", "step")}

    def ask(name: str) -> None:
        PATIENT.set(name == "ahead")
        waiting[name].set()
        with limit.place():
            order.append(name)

    threads = [threading.Thread(target=ask, args=(name,)) for name in waiting]
    with limit.place():
        for thread, begun in zip(threads, waiting.values(), strict=True):
            thread.start()
            assert begun.wait(WAIT)
        until(lambda: limit._pressing, "the step's wait")
    for thread in threads:
        thread.join(WAIT)
    assert order == ["step", "ahead"]


def test_tasks_are_fetched_from_the_newest_of_a_node_or_the_oldest_that_still_runs() -> None:
    rows = [
        {"node": "pve1", "start_time": "2025-01-01T00:00:00Z", "end_time": "2025-01-01T00:10:00Z"},
        {"node": "pve1", "start_time": "2025-01-02T00:00:00Z", "end_time": "2025-01-02T00:10:00Z"},
        {"node": "pve2", "start_time": "2024-12-20T00:00:00Z", "end_time": None},
        {"node": "pve2", "start_time": "2025-01-02T00:00:00Z", "end_time": "2025-01-02T00:10:00Z"},
    ]
    second, long_ago = 1735776000, 1734652800
    horizon = datetime.fromtimestamp(second, UTC)
    assert task_cursor(rows, horizon) == {"pve1": second - TASK_OVERLAP, "pve2": long_ago}
    assert task_cursor([], horizon) == {}
    future = {"node": "pve1", "start_time": "2099-01-01T00:00:00Z", "end_time": None}
    alone = {**future, "node": "pve3"}
    assert task_cursor([*rows, future, alone], horizon) == task_cursor(rows, horizon), "a clock that was wrong"


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


def test_a_refused_permission_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 'on_stage_failure: continue' a later stage goes on; it must not write unasked."""
    asked: list[str] = []

    def refused(*_: object) -> None:
        asked.append("all")
        raise NetBoxRefused("the token may not")

    for name in ("AMS1", "NETBOX"):
        monkeypatch.setenv(f"TEST_{name}_TOKEN", "secret")
    monkeypatch.setattr(Permitted, "ask", refused)
    run = EndpointRun(two_endpoints(), "ams1", "run", RunOptions(), print)
    run.__dict__["netbox"] = None  # no request is made
    for _ in range(2):
        with pytest.raises(NetBoxRefused):
            run._ask_permission()
    assert asked == ["all", "all"]


# -- what a run will need of NetBox -----------------------------------------------------------------------------


def stage(number: int, *desired: Desired) -> Stage:
    """A stage that maps its sources to these."""
    return Stage(
        number=number,
        name=f"stage{number}",
        group="",
        title="",
        description="",
        sources=(),
        object_classes=tuple(item.object_class for item in desired),
        upstream=(),
        build=lambda _inputs, _context: list(desired),
    )


def desired_of(found: Stage) -> list[Desired]:
    return found.build({}, StageContext("ams1"))


def test_what_is_shared_is_looked_up_together_once_the_sources_are_read() -> None:
    machines = wanted("virtual_machines", machine(100))
    netbox = synced(machines)
    first = stage(1, wanted("roles", role("qemu")), wanted("clusters", cluster()))
    second = stage(2, wanted("roles", role("lxc")), machines)
    for read, order in ((True, ["roles", "clusters", "machines"]), (False, ["clusters", "machines", "roles"])):
        netbox.requests.clear()
        state = state_of(netbox)
        read_ahead(state, [first, second], desired_of, lambda _stage, read=read: read, plugin=True)  # type: ignore[misc]
        paths = {"roles": "dcim/device-roles", "clusters": CLUSTER.path, "machines": MACHINE.path}
        assert list(netbox.requests) == [("GET", paths[name]) for name in order]
        assert set(netbox.requests.values()) == {1}
        run = Run(netbox)
        run.state = state
        run.writer = Writer(netbox, state)
        run.write(*desired_of(first), *desired_of(second))
        assert netbox.requests["GET", "dcim/device-roles"] == 1, "nothing is asked for twice"
        assert run.counts("virtual_machines") == {"seen": 1, "unchanged": 1}


def test_a_row_that_was_written_meanwhile_is_not_replaced_by_the_one_that_was_read() -> None:
    netbox = synced()
    state = state_of(netbox)
    state.load_shared(ROLE, wanted("roles", role("qemu")).rows)
    [row] = state.rows(ROLE)
    state.put(ROLE, {**row, "name": "Ours"})
    again = [*wanted("roles", role("qemu")).rows, *wanted("roles", role("lxc")).rows]
    state._asked.clear()
    state.load_shared(ROLE, again)
    assert [row["name"] for row in state.rows(ROLE)] == ["Ours"]
    state.look_again(ROLE, again)
    assert [row["name"] for row in state.rows(ROLE)] == ["Qemu"]


def test_who_looks_again_keeps_nobody_from_taking_in_what_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    netbox = synced()
    state = state_of(netbox)
    state.load_shared(ROLE, wanted("roles", role("qemu")).rows)
    [row] = state.rows(ROLE)
    read, taken = netbox.read, []

    def meanwhile(*args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        thread = threading.Thread(target=state.put, args=(ROLE, row), daemon=True)
        thread.start()
        thread.join(WAIT)
        taken.append(not thread.is_alive())
        return read(*args, **kwargs)

    monkeypatch.setattr(netbox, "read", meanwhile)
    state.look_again(ROLE, wanted("roles", role("qemu")).rows)
    assert taken == [True]
