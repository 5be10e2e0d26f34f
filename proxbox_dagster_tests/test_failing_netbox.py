"""A NetBox that fails during a run: lost answers, outages, a restart. The numbers are the scenarios'."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from proxbox_dagster.netbox import client as netbox_client
from proxbox_dagster.netbox.client import NetBoxClient
from proxbox_dagster.netbox.limit import AdaptiveLimit
from proxbox_dagster_tests.support.faulty_proxy import WRITES, Fault
from proxbox_dagster_tests.support.history import History, assert_quiet, assert_same, history_lab, make_changes, prepare
from proxbox_dagster_tests.support.polling import until
from proxbox_dagster_tests.support.synced import errors

PAGE = "<html><body>maintenance</body></html>"

lab = history_lab


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks again at once: what is not there yet is still found by the next look."""
    pause = NetBoxClient.pause
    monkeypatch.setattr(NetBoxClient, "pause", lambda self, seconds: pause(self, min(seconds, 0.02)))
    monkeypatch.setattr("proxbox_dagster.netbox.answers.DROPPED", 0.1)


def for_each_path(lab: History, method: str, **fault: Any) -> dict[str, Fault]:
    """The first list of this method to each path at which the first run made rows meets a fault."""
    return {path: lab.proxy.add_fault(method, f"^/api/{path}/$", above=3, **fault) for path in sorted(lab.created)}


def test_a_row_that_somebody_deletes_while_a_table_is_read_hides_no_other(
    lab: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages that count from the start lose a row then, and a MAC address would be made a second time."""
    lab.rewind()
    path = "dcim/mac-addresses"
    before = lab.rows(path)
    person, page = lab.client(), NetBoxClient._page
    gone: list[int] = []

    def interrupted(self: NetBoxClient, where: str, params: dict[str, Any]) -> dict[str, Any]:
        found = page(self, where, params)
        if where == path and found["next"] and not gone:
            gone.append(found["results"][0]["id"])
            person.delete(path, gone)
        return found

    monkeypatch.setattr(netbox_client, "PAGE", 2)
    monkeypatch.setattr(NetBoxClient, "_page", interrupted)
    lab.good_sync(stages=("vm_interfaces",))
    monkeypatch.undo()
    person.close()
    assert len(gone) == 1
    assert {row["id"] for row in lab.rows(path)} == {row["id"] for row in before} - set(gone)


# -- answers that are lost ----------------------------------------------------------------------------------------


def test_scenario_39_the_answer_to_a_post_of_every_class_is_lost_and_nothing_is_doubled(
    lab: History, impatient: None
) -> None:
    lab.begin()
    lost = for_each_path(lab, "POST", drop="after")
    lab.good_sync()
    assert {path for path, fault in lost.items() if not fault.served} == set()
    assert len(lost) > 20
    assert_same(lab, lab.after_first)
    assert_quiet(lab)


IN_PLACE = ({"drop": "before"}, {"truncate": True}, {"status": 502}, {"body": PAGE}, {"status": 500, "body": PAGE})


def test_scenario_39_posts_that_fail_in_turn_in_every_way_are_made_once(lab: History, impatient: None) -> None:
    lab.begin()
    faults = [
        lab.proxy.add_fault("POST", f"^/api/{path}/$", above=3, **IN_PLACE[number % len(IN_PLACE)])
        for number, path in enumerate(sorted(lab.created))
    ]
    lab.good_sync()
    assert all(fault.served for fault in faults)
    assert_same(lab, lab.after_first)
    assert_quiet(lab)


def test_scenario_39_lost_answers_to_changes_and_deletions(lab: History, impatient: None) -> None:
    undisturbed = lab.after_changes()
    lab.rewind()
    make_changes(lab)
    lost = [
        fault for method in ("PATCH", "DELETE", "POST") for fault in for_each_path(lab, method, drop="after").values()
    ]
    result = lab.good_sync()
    assert {fault.method for fault in lost if fault.served} == {"PATCH", "DELETE", "POST"}
    assert_same(lab, undisturbed)
    deleted = sum(line["deleted"] for line in result["endpoints"]["small"]["stages"])
    assert deleted > 0
    assert not [note for report in lab.reports().values() for note in report.notes if "could not" in note]


def test_scenario_39_lost_answers_in_a_run_over_one_new_guest(lab: History, impatient: None) -> None:
    lab.rewind()
    cluster = lab.clusters["small"]
    config = {**cluster.guest(100).config, "smbios1": "uuid=5a000000-0000-4000-8000-000000000300"}
    config |= {"net0": "virtio=BC:24:11:5A:03:00,bridge=vmbr0", "net1": "virtio=BC:24:11:5A:03:01,bridge=vmbr0"}
    cluster.add_guest(kind="qemu", vmid=300, node="pve1", name="new", config=config)
    cluster.add_snapshot("qemu", 300, "one")
    cluster.add_backup("nas", 300)
    lost = for_each_path(lab, "POST", drop="after")
    lab.good_sync(vmids=(300,))
    assert {path.rsplit("/")[-1] for path, fault in lost.items() if fault.served} >= {
        "virtual-machines", "virtual-disks", "interfaces", "mac-addresses", "backups", "snapshots"
    }  # fmt: skip
    lab.proxy.clear()
    machine = lab.vm(300)
    for path, rows in (("virtualization/virtual-disks", 2), ("virtualization/interfaces", 2)):
        assert len(lab.rows(path, virtual_machine_id=machine["id"])) == rows
    assert len(lab.rows("plugins/proxbox/backups", virtual_machine=machine["id"])) == 1
    assert len(lab.rows("dcim/mac-addresses", mac_address=["BC:24:11:5A:03:00", "BC:24:11:5A:03:01"])) == 2
    lab.run(vmids=(300,))
    assert lab.written() == []


@pytest.mark.parametrize("seed", [1])
def test_garbage_on_both_sides_at_random_requests_never_leaves_a_wrong_netbox(
    seed: int, lab: History, impatient: None
) -> None:
    draw = random.Random(seed)
    print(f"seed {seed}")
    lab.begin(retry_budget=20)
    for _ in range(10):
        fault = dict(draw.choice([*IN_PLACE, {"drop": "after"}]))
        lab.proxy.add_fault(after=draw.randrange(200), **fault)
    for _ in range(5):
        kind = draw.choice(["html", "truncate", "drop"])
        lab.simulators["small"].faults.add("", kind=kind, count=1, skip=draw.randrange(40))
    disturbed = lab.sync()
    if not disturbed["ok"]:
        assert errors(disturbed), "it failed without a word"
    lab.restore()
    lab.run()
    assert_same(lab, lab.after_first)
    assert_quiet(lab)


# -- outages ------------------------------------------------------------------------------------------------------


def test_scenario_39_an_outage_of_each_kind_is_waited_out(lab: History) -> None:
    lab.begin(timeout=4)
    outages = [
        lab.proxy.add_fault(after=40, count=3, status=503, headers={"Retry-After": "1"}),
        lab.proxy.add_fault(after=70, count=3, status=502, body=PAGE),
        lab.proxy.add_fault(WRITES, after=12, count=2, status=429, headers={"Retry-After": "1"}),
        lab.proxy.add_fault(after=110, count=1, delay=6),
    ]
    lab.good_sync()
    assert [outage.served for outage in outages] == [3, 3, 2, 1]
    assert_same(lab, lab.after_first)
    assert_quiet(lab)


def test_scenario_39_a_post_that_netbox_works_on_after_its_client_gave_up_is_not_doubled(lab: History) -> None:
    lab.begin(timeout=2)
    gone = threading.Event()
    queued = [
        lab.proxy.add_fault("POST", f"^/api/{path}/$", above=3, before=lambda: gone.wait(3.5))
        for path in ("plugins/proxbox/backups", "ipam/ip-addresses")
    ]
    lab.good_sync()
    assert all(fault.served for fault in queued)
    assert_same(lab, lab.after_first)


def test_scenario_39_an_outage_beyond_the_budget_fails_with_what_was_done_and_is_resumed(lab: History) -> None:
    lab.begin(retry_budget=1)
    out = {"count": None, "status": 503}
    lab.proxy.add_fault("POST", "proxbox/storage/$", above=3, drop="before", act=lambda: lab.proxy.add_fault(**out))
    result = lab.sync()
    assert not result["ok"]
    said = " ".join(errors(result))
    assert "within 1 s" in said
    assert "start the run again: it resumes" in said
    stages = {line["object_class"]: line for line in result["endpoints"]["small"]["stages"]}
    assert stages["devices"]["created"] == 3
    assert stages["storage"]["created"] == 0
    assert stages["storage"]["failed"] + stages["storage"]["skipped"] == stages["storage"]["seen"] == 3
    assert "virtual_machines" not in stages, "a failed stage aborts the run"
    lab.proxy.clear()
    prepare(lab)
    lab.run()
    assert_same(lab, lab.after_first)


# -- restart, connections, load -----------------------------------------------------------------------------------


class Recorded(AdaptiveLimit):
    """Keeps every value that the limit had."""

    seen: list[int]

    def __init__(self, most: int) -> None:
        super().__init__(most)
        Recorded.seen = [most]

    def trouble(self) -> None:
        super().trouble()
        Recorded.seen.append(self.now)

    def answered(self, kind: str, seconds: float) -> None:
        super().answered(kind, seconds)
        Recorded.seen.append(self.now)


def test_scenario_40_netbox_restarts_mid_run_within_the_cap_of_connections(
    lab: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    connections = 4
    monkeypatch.setattr(netbox_client, "AdaptiveLimit", Recorded)
    lab.begin(retry_budget=120, bulk_size=2)
    lab.settings["concurrency"] = {"netbox_max_concurrent": connections}
    lab.save()
    down = threading.Event()

    def stop() -> None:
        lab.netbox.stop_web()
        down.set()

    def start() -> None:
        assert down.wait(240)
        try:
            until(lambda: any(status == 502 for _, _, status in list(lab.proxy.requests)), "a refused request")
        finally:
            lab.netbox.start_web()

    lab.proxy.add_fault(WRITES, after=25, act=stop)
    with ThreadPoolExecutor(1) as pool:
        restart = pool.submit(start)
        result = lab.sync()
        restart.result()
    assert result["ok"], errors(result)
    assert 0 < lab.proxy.max_open_connections <= connections
    assert min(Recorded.seen) == 1
    assert Recorded.seen[-1] == connections, "the limit recovers"
    assert_same(lab, lab.after_first)
    assert_quiet(lab)
