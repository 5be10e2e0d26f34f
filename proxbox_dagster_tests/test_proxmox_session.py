"""One session: every source once, in parallel, within limits; scopes, tasks and values."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from proxbox_dagster.demo.proxmox import Guest, ProxmoxSimulator, Task, load_cluster
from proxbox_dagster.facts import GapKind
from proxbox_dagster.proxmox import fetch_tasks
from proxbox_dagster.proxmox.errors import ApiError
from proxbox_dagster.proxmox.memo import Memo
from proxbox_dagster.proxmox.sources import SOURCES, data_version
from proxbox_dagster.scope import Scope
from proxbox_dagster.stages import BY_NAME
from proxbox_dagster.stages.stage import StageContext

from .proxmox_support import session_of


@pytest.fixture
def simulator() -> Iterator[ProxmoxSimulator]:
    with ProxmoxSimulator(load_cluster("ams1")) as simulator:
        yield simulator


def vmids(*numbers: int) -> Scope:
    return Scope(vmids=frozenset(numbers))


def test_every_source_is_read_once_whoever_asks(simulator: ProxmoxSimulator) -> None:
    with session_of(simulator) as session:
        session.prefetch(SOURCES)
        once = dict(simulator.requests)
        session.prefetch(SOURCES)
        threads = [threading.Thread(target=session.fetched, args=(name,)) for name in SOURCES for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(session.fetched(name) is session.fetched(name) for name in SOURCES)
        total = sum(session.requests.values())
    assert dict(simulator.requests) == once
    assert total == sum(once.values())
    tasks = {path: count for path, count in once.items() if path.endswith("/tasks")}
    assert set(tasks.values()) == {2}, "the running ones and the archive"
    assert {count for path, count in once.items() if path not in tasks} == {1}


def test_sources_have_their_columns_and_requests(simulator: ProxmoxSimulator) -> None:
    with session_of(simulator) as session:
        for name, source in SOURCES.items():
            read = session.fetched(name)
            assert list(read.frame.columns) == source.column_names
            assert (read.source, read.endpoint) == (name, "ams1")
            assert not read.frame.empty, f"the demonstration's cluster has no {name}"
        assert session.fetched("guest_configs").requests == 13
        with pytest.raises(KeyError, match="no source 'nonsense'"):
            session.fetched("nonsense")


def test_failure_is_kept_and_raised_again(simulator: ProxmoxSimulator) -> None:
    fault = simulator.faults.add("/cluster/backup", status=500, reason="no")
    with session_of(simulator) as session:
        session.prefetch(["backup_jobs"])
        for _ in range(2):
            with pytest.raises(ApiError, match="500 no"):
                session.fetched("backup_jobs")
    assert fault.struck == 1


def test_closed_session_reads_no_more(simulator: ProxmoxSimulator) -> None:
    with session_of(simulator) as session:
        session.fetched("guests")
    with pytest.raises(Exception, match="closed"):
        session.fetched("guest_configs")


def test_interruption_is_not_kept() -> None:
    memo = Memo()

    def interrupt() -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        memo.get("x", interrupt)
    assert memo.get("x", lambda: 7) == 7


@pytest.mark.parametrize("size", [0, 200])
def test_one_guest_costs_the_same_whatever_the_size(simulator: ProxmoxSimulator, size: int) -> None:
    for number in range(size):
        simulator.cluster.add_guest(kind="qemu", vmid=5000 + number, node="pve2", name=f"g{number}")
    with session_of(simulator, vmids(100)) as session:
        session.prefetch(SOURCES)
        reads = {name: session.fetched(name) for name in SOURCES}
    assert sum(simulator.requests.values()) < 12
    for name in ("guests", "guest_configs", "guest_agent"):
        assert [row["vmid"] for row in reads[name].rows] == [100], name
        assert reads[name].gap("guest", "qemu/100") is None
        other = reads[name].gap("guest", "qemu/101")
        assert other is not None
        assert other.kind is GapKind.OUT_OF_SCOPE
    assert {row["name"] for row in reads["guest_snapshots"].rows} == {"before-upgrade", "after-upgrade"}
    assert {row["vmid"] for row in reads["storage_content"].rows} == {100}
    assert {row["id"] for row in reads["node_tasks"].rows} == {"100"}
    for name in ("backup_jobs", "storage", "nodes", "node_networks"):
        assert reads[name].rows == []
        assert str(reads[name].gap("all")), name
    for name, read in reads.items():
        marker = read.gap("scope")
        assert marker is not None, name
        assert "narrowed to guests 100" in marker.reason or marker.level == "all"


def test_scenario_25_a_narrowed_run_calls_a_guest_as_a_full_one_does(simulator: ProxmoxSimulator) -> None:
    """Names are unique in a NetBox cluster: of equal ones the second gets a number, whoever else is read."""
    for vmid in (101, 200):
        guest = simulator.cluster.guest(vmid)
        simulator.cluster.rename(guest.kind, vmid, simulator.cluster.guest(100).name)
    stage = BY_NAME["virtual_machines"]

    def names(scope: Scope) -> dict[int, str]:
        with session_of(simulator, scope) as session:
            inputs = {name: session.fetched(name) for name in stage.sources}
        built = {item.object_class.name: item for item in stage.build(inputs, StageContext("ams1", scope=scope))}
        rows = built["virtual_machines"].rows
        return {row.values["cf.proxmox_vm_id"]: row.values["name"] for row in rows}

    everybody = names(Scope())
    assert sorted(everybody[vmid].rpartition(" ")[2] for vmid in (101, 200)) == ["(2)", "(3)"]
    for scope in (vmids(101), vmids(100, 200), Scope(nodes=frozenset({"pve2"}))):
        assert names(scope).items() <= everybody.items()


def test_scope_of_a_node(simulator: ProxmoxSimulator) -> None:
    with session_of(simulator, Scope(nodes=frozenset({"pve2"}))) as session:
        for name in ("nodes", "node_networks", "node_tasks", "node_storage"):
            assert {row["node"] for row in session.fetched(name).rows} == {"pve2"}, name
            gap = session.fetched(name).gap("node", "pve1") or session.fetched(name).gap("storage", "pve1/local")
            assert gap is not None
            assert gap.kind is GapKind.OUT_OF_SCOPE
        assert {row["node"] for row in session.fetched("guest_configs").rows} == {"pve2"}
        assert session.fetched("cluster_status").frame["name"].tolist()
    assert not any(
        "/nodes/pve1/" in path or "/nodes/pve3/" in path for path in simulator.requests if "/storage/" not in path
    )


def test_scope_of_a_storage(simulator: ProxmoxSimulator) -> None:
    with session_of(simulator, Scope(storages=frozenset({"pbs"}))) as session:
        assert [row["storage"] for row in session.fetched("storage").rows] == ["pbs"]
        assert {row["storage"] for row in session.fetched("storage_content").rows} == {"pbs"}
        assert {row["vmid"] for row in session.fetched("storage_content").rows} == {100, 101, 200}
        assert {row["storage"] for row in session.fetched("node_storage").rows} == {"pbs"}
        assert session.fetched("guests").rows == []
        gap = session.fetched("storage_content").gap("storage", "nas")
        assert gap is not None
        assert gap.kind is GapKind.OUT_OF_SCOPE


def test_scope_combines() -> None:
    both = Scope(vmids=frozenset({100, 101}), nodes=frozenset({"pve1"}))
    assert both.guest(100, "pve1")
    assert not both.guest(101, "pve2")
    assert not both.node("pve1")
    assert Scope().is_full
    assert Scope().guest(1, None)
    assert Scope().node("x")
    assert str(both) == "guests 100, 101; nodes pve1"
    assert not Scope(storages=frozenset({"nas"})).guest(100, "pve1")


def test_tasks_are_read_to_the_last_page(simulator: ProxmoxSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_tasks, "PAGE", 3)
    with session_of(simulator) as session:
        read = session.fetched("node_tasks")
    upids = [row["upid"] for row in read.rows]
    truth = [task for tasks in simulator.cluster.tasks.values() for task in tasks]
    assert len(upids) == len(set(upids)) == len(truth)
    assert read.complete


def test_running_task_and_tokens(simulator: ProxmoxSimulator) -> None:
    now = simulator.cluster.now
    running = Task(node="pve1", type="vzdump", id="", user="root@pam", tokenid="backup", start=now - 10)
    simulator.cluster.tasks["pve1"].append(running)
    with session_of(simulator) as session:
        rows = session.fetched("node_tasks").rows
    [row] = [row for row in rows if row["running"] and row["tokenid"]]
    assert (row["user"], row["tokenid"], row["id"]) == ("root@pam", "backup", "")
    assert (row["status"], row["endtime"]) == (None, None)
    assert all(row["status"] and row["endtime"] for row in rows if not row["running"])


def test_cursor_leaves_out_older_tasks(simulator: ProxmoxSimulator) -> None:
    with session_of(simulator) as session:
        everything = session.fetched("node_tasks").rows
    since = sorted(row["starttime"] for row in everything if row["node"] == "pve1")[-2]
    with session_of(simulator, cursor={"pve1": since}) as session:
        read = session.fetched("node_tasks")
    assert {row["upid"] for row in read.rows} == {
        row["upid"] for row in everything if row["node"] != "pve1" or row["starttime"] >= since
    }
    gap = read.gap("node", "pve1")
    assert gap is not None
    assert gap.kind is GapKind.OUT_OF_SCOPE


def test_data_versions_ignore_order_and_time_and_see_changes(simulator: ProxmoxSimulator) -> None:
    def versions() -> dict[str, str]:
        with session_of(simulator) as session:
            session.prefetch(SOURCES)
            return {name: data_version(session.fetched(name)) for name in SOURCES}

    before = versions()
    simulator.cluster.shuffle(7)
    assert versions() == before
    simulator.cluster.churn()
    assert versions() == before
    simulator.cluster.rename("qemu", 100, "renamed")
    changed = {name for name, version in versions().items() if version != before[name]}
    assert changed == {"guests", "guest_configs"}
    simulator.cluster.revoke("VM.Audit", "/vms/105")
    assert versions()["guest_snapshots"] != before["guest_snapshots"], "less evidence is another version"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_45_every_spelling_reads_the_same(simulator: ProxmoxSimulator, seed: int) -> None:
    """Except where Proxmox's own text is kept as it is: configurations and the raw entries."""
    names = [name for name in SOURCES if name != "guest_configs" and "raw" not in SOURCES[name].column_names]
    with session_of(simulator) as session:
        before = {name: data_version(session.fetched(name)) for name in names}
    simulator.cluster.respell(seed)
    with session_of(simulator) as session:
        session.prefetch(SOURCES)
        for name in SOURCES:
            assert not [gap for gap in session.fetched(name).gaps if gap.is_error], name
        assert {name: data_version(session.fetched(name)) for name in names} == before


def test_many_guests_in_parallel(simulator: ProxmoxSimulator) -> None:
    for number in range(60):
        simulator.cluster.add_guest(Guest(kind="lxc", vmid=6000 + number, node="pve3", name=f"c{number}"))
    with session_of(simulator) as session:
        session.prefetch(["guest_configs", "guest_snapshots"])
        assert len(session.fetched("guest_configs").frame) == 73
        assert session.fetched("guest_snapshots").complete
        order = [(row["type"], row["vmid"]) for row in session.fetched("guest_configs").rows]
        assert order == [(row["type"], row["vmid"]) for row in session.fetched("guests").rows]


def test_configurations_are_those_in_force_not_what_waits_for_a_restart(simulator: ProxmoxSimulator) -> None:
    """A card whose removal waits is still in the running guest, with its addresses."""
    simulator.cluster.set_pending("qemu", 100, "net0", None)
    simulator.cluster.set_pending("qemu", 100, "net7", "virtio=BC:24:11:00:00:07,bridge=vmbr0")
    simulator.cluster.set_pending("lxc", 200, "net0", None)
    with session_of(simulator) as session:
        configs = {(row["type"], row["vmid"]): row["config"] for row in session.fetched("guest_configs").rows}
    assert "net0" in configs["qemu", 100]
    assert "net7" not in configs["qemu", 100]
    assert "net0" in configs["lxc", 200]
