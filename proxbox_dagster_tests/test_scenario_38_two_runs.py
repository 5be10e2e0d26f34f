"""Scenario 38: two runs at once, of one endpoint and of different ones."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from proxbox_dagster import stages
from proxbox_dagster.netbox.spec import Ownership
from proxbox_dagster_tests.support.command import Command
from proxbox_dagster_tests.support.dump import Dump
from proxbox_dagster_tests.support.faulty_proxy import WRITES
from proxbox_dagster_tests.support.history import prepare
from proxbox_dagster_tests.support.synced import Synced, described, errors, laid_out


@pytest.fixture(scope="module")
def shared(netbox_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synced]:
    clusters = {"small": described("small"), "twin": described("twin")}
    with laid_out(netbox_server, tmp_path_factory.mktemp("two-runs"), **clusters) as lab:
        yield lab


@pytest.fixture
def lab(shared: Synced) -> Synced:
    """An empty NetBox."""
    shared.restore()
    shared.empty()
    prepare(shared)
    return shared


def test_scenario_38_a_second_run_of_one_endpoint_refuses_and_says_which_run_is_at_work(lab: Synced) -> None:
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        go_on.wait(300)

    lab.proxy.add_fault(WRITES, after=20, before=hold)
    with Command(lab.folder, "sync", "--json", "--endpoint", "small") as first:
        try:
            assert held.wait(240), first.errors()
            before = lab.netbox.change_count()
            second = lab.sync(endpoints=("small",))
            assert lab.netbox.change_count() == before
            third = lab.sync(endpoints=("small",), vmids=(100,))
            assert lab.netbox.change_count() == before
            look = lab.sync(endpoints=("small",), dry_run=True)
        finally:
            go_on.set()
        assert first.wait() == 0, first.errors()
    run_id = first.result()["endpoints"]["small"]["run_id"]
    for refused in (second, third):
        assert not refused["ok"]
        [line] = set(errors(refused))
        assert f"endpoint small is being synced by run {run_id} at this moment" in line
        assert "cancel it in Dagster's UI" in line
        assert refused["endpoints"]["small"]["stages"] == []
    assert look["ok"], "a dry run writes nothing and may look at any time"
    lab.run(endpoints=("small",))
    assert lab.written() == []


def test_scenario_38_two_endpoints_at_once_share_what_is_shared(lab: Synced) -> None:
    shared = sorted({spec.path for spec in stages.specs(plugin=True) if spec.ownership is Ownership.SHARED})
    meetings = {path: threading.Barrier(2) for path in shared}
    for path, meeting in meetings.items():
        # Whoever comes first waits for the other, so that both have seen that the rows are missing.
        lab.proxy.add_fault("POST", f"^/api/{path}/$", above=3, count=2, before=lambda meeting=meeting: meet(meeting))
    with (
        Command(lab.folder, "sync", "--json", "--endpoint", "small") as one,
        Command(lab.folder, "sync", "--json", "--endpoint", "twin") as other,
    ):
        assert (one.wait(300), other.wait(300)) == (0, 0), (one.errors(), other.errors())
    refused = [path for method, path, status in lab.proxy.requests if method == "POST" and status == 400]
    assert refused, "no race was lost, so nothing is shown"
    for result in (one.result(), other.result()):
        assert result["ok"], errors(result)
        assert not any(line["failed"] for found in result["endpoints"].values() for line in found["stages"])
    lab.run()
    assert lab.written() == []
    assert doubles(lab) == []


def meet(meeting: threading.Barrier) -> None:
    with contextlib.suppress(threading.BrokenBarrierError):
        meeting.wait(3)


def doubles(lab: Synced) -> list[str]:
    """What NetBox holds twice although it is one thing to both endpoints."""
    dump = Dump(lab.netbox)
    keys = {
        "extras_tag": ("slug",),
        "extras_customfield": ("name",),
        "dcim_manufacturer": ("slug",),
        "dcim_devicetype": ("manufacturer_id", "model"),
        "dcim_devicerole": ("slug",),
        "dcim_platform": ("slug",),
        "dcim_site": ("slug",),
        "virtualization_clustertype": ("slug",),
        "ipam_vlan": ("vid", "name", "group_id", "site_id"),
        "dcim_macaddress": ("mac_address", "assigned_object_type_id", "assigned_object_id"),
        "ipam_ipaddress": ("address",),
    }
    found = []
    for table, columns in keys.items():
        rows = dump.table(table)
        assert rows, f"{table} is empty"
        counted = Counter(tuple(row[name] for name in columns) for row in rows)
        found += [f"{table} {key}" for key, times in counted.items() if times > 1]
    return found
