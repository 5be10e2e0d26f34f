"""What happens to a simulated cluster: every change is seen wherever it must be seen, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from proxbox_dagster.demo.proxmox import Cluster, Guest, ProxmoxSimulator, load_cluster

from .proxmox_http import Wire


@pytest.fixture
def simulator() -> Iterator[ProxmoxSimulator]:
    with ProxmoxSimulator(load_cluster("ams1")) as running:
        yield running


@pytest.fixture
def cluster(simulator: ProxmoxSimulator) -> Cluster:
    return simulator.cluster


@pytest.fixture
def wire(simulator: ProxmoxSimulator) -> Wire:
    return Wire(simulator)


def _resource(wire: Wire, vmid: int) -> dict[str, Any] | None:
    return next((row for row in wire.data("/cluster/resources?type=vm") if int(row["vmid"]) == vmid), None)


def test_rename(cluster: Cluster, wire: Wire) -> None:
    cluster.rename("qemu", 100, "web02")
    resource = _resource(wire, 100)
    assert resource is not None
    assert resource["name"] == "web02"
    assert wire.data("/nodes/pve1/qemu/100/config")["name"] == "web02"
    assert wire.data("/nodes/pve1/qemu/100/status/current")["name"] == "web02"
    with pytest.raises(KeyError, match="is a qemu guest"):
        cluster.rename("lxc", 100, "x")


def test_nameless_guests_are_called_by_their_number(cluster: Cluster, wire: Wire) -> None:
    cluster.rename("qemu", 100, "")
    cluster.rename("lxc", 200, "")
    assert [(_resource(wire, vmid) or {})["name"] for vmid in (100, 200)] == ["VM 100", "CT200"]
    assert "name" not in wire.data("/nodes/pve1/qemu/100/config")
    assert "hostname" not in wire.data("/nodes/pve1/lxc/200/config")


def test_migrate(cluster: Cluster, wire: Wire) -> None:
    cluster.migrate("qemu", 100, "pve3")
    assert (_resource(wire, 100) or {})["node"] == "pve3"
    assert wire.data("/nodes/pve3/qemu/100/config")["name"] == "web01"
    gone = wire.ask("/nodes/pve1/qemu/100/config")
    assert (gone.status_code, gone.reason) == (
        500,
        "Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist",
    )
    assert 100 not in {row["vmid"] for row in wire.data("/nodes/pve1/qemu")}


def test_stop_and_start(cluster: Cluster, wire: Wire) -> None:
    cluster.stop("qemu", 100)
    resource = _resource(wire, 100) or {}
    assert (resource["status"], resource["uptime"], resource["mem"]) == ("stopped", 0, 0)
    answer = wire.ask("/nodes/pve1/qemu/100/agent/network-get-interfaces")
    assert (answer.status_code, answer.reason) == (500, "VM 100 is not running")
    cluster.stop("lxc", 200)
    assert wire.data("/nodes/pve1/lxc/200/interfaces") is None
    cluster.start("qemu", 100)
    cluster.start("lxc", 200)
    assert wire.ask("/nodes/pve1/qemu/100/agent/network-get-interfaces").status_code == 200
    assert wire.data("/nodes/pve1/lxc/200/interfaces")


def test_paused_machines_are_running_in_the_list_of_their_node(wire: Wire) -> None:
    assert (_resource(wire, 121) or {})["status"] == "paused"
    current = wire.data("/nodes/pve3/qemu/121/status/current")
    assert (current["status"], current["qmpstatus"]) == ("running", "paused")


def test_delete_and_add(cluster: Cluster, wire: Wire) -> None:
    cluster.delete_guest("qemu", 100)
    assert _resource(wire, 100) is None
    assert wire.ask("/nodes/pve1/qemu/100/config").status_code == 500
    assert 100 not in {row["vmid"] for row in wire.data("/pools/production")["members"] if "vmid" in row}
    assert any(row["vmid"] == 100 for row in wire.data("/nodes/pve1/storage/nas/content"))
    cluster.add_guest(kind="lxc", vmid=100, node="pve2", name="new", config={"rootfs": "ceph:vm-100-disk-0,size=1G"})
    resource = _resource(wire, 100) or {}
    assert (resource["id"], resource["name"], resource["maxdisk"]) == ("lxc/100", "new", 1 << 30)
    with pytest.raises(ValueError, match="already exists"):
        cluster.add_guest(Guest("qemu", 100, "pve1"))
    with pytest.raises(KeyError):
        cluster.add_guest(Guest("qemu", 900, "pve9"))


def test_set_config(cluster: Cluster, wire: Wire) -> None:
    before = wire.data("/nodes/pve1/qemu/100/config")
    cluster.set_config("qemu", 100, "cores", 6)
    cluster.set_config("qemu", 100, "scsi0", "ceph:vm-100-disk-0,size=40G")
    cluster.set_config("qemu", 100, "ide2", None)
    cluster.set_config("qemu", 100, "lock", "backup")
    after = wire.data("/nodes/pve1/qemu/100/config")
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert changed == {"cores", "scsi0", "ide2", "lock", "digest"}
    resource = _resource(wire, 100) or {}
    assert (resource["maxcpu"], resource["maxdisk"], resource["lock"]) == (6, 40 << 30, "backup")


def test_waiting_changes_are_merged_unless_the_present_ones_are_asked_for(cluster: Cluster, wire: Wire) -> None:
    cluster.set_pending("qemu", 100, "cores", 12)
    cluster.set_pending("qemu", 100, "net0", None)
    merged = wire.data("/nodes/pve1/qemu/100/config")
    assert merged["cores"] == 12
    assert "net0" not in merged
    present = wire.data("/nodes/pve1/qemu/100/config?current=1")
    assert present["cores"] == 4
    assert "net0" in present
    assert (_resource(wire, 100) or {})["maxcpu"] == 4
    cluster.stop("qemu", 100)
    assert (_resource(wire, 100) or {})["maxcpu"] == 12


def test_snapshots(cluster: Cluster, wire: Wire) -> None:
    path = "/nodes/pve1/qemu/100/snapshot"

    def parents() -> dict[str, str | None]:
        return {row["name"]: row.get("parent") for row in wire.data(path)}

    cluster.add_snapshot("qemu", 100, "third", description="more", vmstate=True)
    assert parents()["third"] == "after-upgrade"
    assert parents()["current"] == "third"
    assert wire.data("/nodes/pve1/qemu/100/config")["parent"] == "third"
    cluster.remove_snapshot("qemu", 100, "after-upgrade")
    assert parents() == {"before-upgrade": None, "third": "before-upgrade", "current": "third"}
    cluster.set_config("qemu", 100, "cores", 1)
    cluster.rollback("qemu", 100, "before-upgrade")
    assert parents()["current"] == "before-upgrade"
    assert wire.data("/nodes/pve1/qemu/100/config")["cores"] == 4
    assert {row["name"] for row in wire.data(path)} == {"before-upgrade", "third", "current"}
    answer = wire.data("/nodes/pve1/qemu/100/config?snapshot=third")
    assert answer["snaptime"] == cluster.now


def test_backups(cluster: Cluster, wire: Wire) -> None:
    path = "/nodes/pve2/storage/nas/content?content=backup"
    before = {row["volid"] for row in wire.data(path)}
    added = cluster.add_backup("nas", 201, time=1_768_000_000, notes="by hand")
    assert added.volid == "nas:backup/vzdump-lxc-201-2026_01_09-23_06_40.tar.zst"
    assert {row["volid"] for row in wire.data(path)} - before == {added.volid}
    pbs = cluster.add_backup("pbs", 100, time=1_768_000_000)
    assert pbs.volid == "pbs:backup/vm/100/2026-01-09T23:06:40Z"
    assert pbs.format == "pbs-vm"
    cluster.prune_backup(added.volid)
    assert {row["volid"] for row in wire.data(path)} == before
    with pytest.raises(KeyError):
        cluster.prune_backup(added.volid)


def test_a_storage_that_is_not_shared_has_its_backups_on_one_node() -> None:
    with ProxmoxSimulator(load_cluster("odd")) as simulator:
        wire = Wire(simulator)
        path = "/nodes/{}/storage/local/content?content=backup"
        assert {row["vmid"] for row in wire.data(path.format("pve1"))} == {1001, 1040}
        assert {row["vmid"] for row in wire.data(path.format("pve2"))} == {1007}


def test_storages_that_cannot_be_read() -> None:
    with ProxmoxSimulator(load_cluster("odd")) as simulator:
        wire = Wire(simulator)
        for place, reason in (
            ("pve1/storage/win-share", "storage 'win-share' is not online"),
            ("pve1/storage/only-pve2", "storage 'only-pve2' is not available on node 'pve1'"),
            ("pve1/storage/old-san", "storage 'old-san' is disabled"),
            ("pve1/storage/none", "storage 'none' does not exist"),
        ):
            answer = wire.ask(f"/nodes/{place}/content")
            assert (answer.status_code, answer.reason) == (500, reason)
        states = {row["storage"]: (row["enabled"], row["active"]) for row in wire.data("/nodes/pve1/storage")}
        assert states["win-share"] == (1, 0)
        assert states["only-pve2"] == (0, 0)
        assert states["ceph"] == (1, 1)
        simulator.cluster.storages["pbs"].unreachable.add("pve1")
        answer = wire.ask("/nodes/pve1/storage/pbs/content")
        assert "Can't connect to 192.0.2.60" in answer.reason


def test_tasks(cluster: Cluster, wire: Wire) -> None:
    path = "/nodes/pve2/tasks"
    running = cluster.add_task("pve2", "vzdump", 101)
    archive = wire.ask(path).json()
    assert running.upid not in {row["upid"] for row in archive["data"]}
    active = wire.data(f"{path}?source=active")
    assert [(row["upid"], row["status"], "endtime" in row) for row in active] == [(running.upid, "RUNNING", False)]
    assert len(wire.data(f"{path}?source=all")) == archive["total"] + 1
    cluster.finish_task(running.upid, "unexpected status")
    newest = wire.data(path)[0]
    assert (newest["upid"], newest["status"]) == (running.upid, "unexpected status")
    with pytest.raises(KeyError):
        cluster.finish_task("UPID:none")


def test_task_pages_and_filters(cluster: Cluster, wire: Wire) -> None:
    for number in range(130):
        start = cluster.now + number * 10
        status = "OK" if number % 10 else "WARNINGS: 1"
        cluster.add_task("pve3", "qmstart", 105 + number % 2, start=start, end=start + 5, status=status)
    path = "/nodes/pve3/tasks"
    first = wire.ask(path).json()
    assert len(first["data"]) == 50
    total = first["total"]
    assert total >= 130
    pages = [row["upid"] for start in range(0, total, 40) for row in wire.data(f"{path}?start={start}&limit=40")]
    assert len(pages) == len(set(pages)) == total
    ends = [row["endtime"] for row in wire.data(f"{path}?limit=500")]
    assert ends == sorted(ends, reverse=True)
    assert len(wire.data(f"{path}?limit=500&vmid=105&typefilter=qmstart")) == 65
    assert {row["status"] for row in wire.data(f"{path}?limit=500&errors=1&since={cluster.now}")} == {"WARNINGS: 1"}
    assert len(wire.data(f"{path}?limit=500&statusfilter=warning")) == 13
    since, until = cluster.now + 100, cluster.now + 199
    assert len(wire.data(f"{path}?limit=500&since={since}&until={until}")) == 10


def test_jobs(cluster: Cluster, wire: Wire) -> None:
    cluster.set_replication(100, 3, "pve2", schedule="daily", rate=1.5)
    row = next(row for row in wire.data("/cluster/replication") if row["id"] == "100-3")
    wanted = {"id": "100-3", "guest": 100, "jobnum": 3, "target": "pve2", "type": "local"}
    assert row == wanted | {"schedule": "daily", "rate": 1.5}
    state = wire.data("/nodes/pve1/replication?guest=100")
    assert "last_sync" not in state[0]
    cluster.remove_replication("100-3")
    assert wire.ask("/cluster/replication/100-3").reason == "no such replication job '100-3'"
    cluster.set_backup_job("backup-new", schedule="daily", storage="nas", all=1, prune_backups="keep-last=4")
    job = next(row for row in wire.data("/cluster/backup") if row["id"] == "backup-new")
    assert job["prune-backups"] == {"keep-last": "4"}
    cluster.remove_backup_job("backup-new")
    assert "backup-new" not in {row["id"] for row in wire.data("/cluster/backup")}


def test_an_unknown_backup_job_is_a_bad_parameter(wire: Wire) -> None:
    answer = wire.ask("/cluster/backup/none")
    assert (answer.status_code, answer.json()["errors"]) == (400, {"id": "No such job 'none'\n"})


def test_agents_that_do_not_answer() -> None:
    with ProxmoxSimulator(load_cluster("odd")) as simulator:
        wire = Wire(simulator)
        reasons = {
            1003: "QEMU guest agent is not running",
            1021: "VM 1021 qmp command 'guest-network-get-interfaces' failed - got timeout",
            1022: "QEMU guest agent is not running",  # agent: 0 is configured, and off
            1000: "No QEMU guest agent configured",
        }
        for vmid, reason in reasons.items():
            answer = wire.ask(f"/nodes/pve1/qemu/{vmid}/agent/network-get-interfaces")
            assert (answer.status_code, answer.reason) == (500, reason)
        error = wire.data("/nodes/pve1/qemu/1019/agent/network-get-interfaces")["result"]["error"]
        assert error["class"] == "CommandDisabled"
        assert wire.data("/nodes/pve1/qemu/1016/agent/get-host-name") == {"result": {"host-name": "WINDOWS"}}
        assert wire.data("/nodes/pve1/qemu/1016/agent/get-osinfo")["result"]["id"] == "mswindows"
        assert wire.data("/nodes/pve1/qemu/1020/agent/get-osinfo")["result"]["error"]["class"] == "Unsupported"


def test_options(cluster: Cluster, wire: Wire) -> None:
    cluster.set_option("tag-style", {"color-map": "db:000000"})
    assert wire.data("/cluster/options")["tag-style"] == {"color-map": "db:000000"}
    cluster.set_option("tag-style", None)
    assert "tag-style" not in wire.data("/cluster/options")


def test_a_node_goes_away_and_comes_back(cluster: Cluster, wire: Wire) -> None:
    known = {vmid: _resource(wire, vmid) for vmid in (101, 201)}
    cluster.node_offline("pve2")
    for vmid in known:
        row = _resource(wire, vmid) or {}
        assert row["status"] == "unknown"
        assert not row.keys() & {"name", "maxmem", "template", "uptime"}
        assert row.keys() >= {"id", "vmid", "node", "type", "tags"}
    node = next(row for row in wire.data("/nodes") if row["node"] == "pve2")
    assert node["status"] == "offline"
    assert not node.keys() & {"cpu", "mem", "maxcpu", "uptime", "level"}
    storages = [row for row in wire.data("/cluster/resources?type=storage") if row["node"] == "pve2"]
    assert {row["status"] for row in storages} == {"unknown"}
    assert not any("maxdisk" in row for row in storages)
    status = {row["name"]: row for row in wire.data("/cluster/status")}
    assert (status["pve2"]["online"], status["ams1"]["quorate"]) == (0, 1)
    cluster.node_offline("pve3")
    status = {row["name"]: row for row in wire.data("/cluster/status")}
    assert status["ams1"]["quorate"] == 0
    cluster.node_online("pve2")
    assert {vmid: _resource(wire, vmid) for vmid in known} == known


def test_a_node_that_has_just_gone_is_still_told_of(cluster: Cluster, wire: Wire) -> None:
    cluster.node_offline("pve2", broadcasting=True)
    assert (_resource(wire, 101) or {})["name"] == "db01"
    assert wire.ask("/nodes/pve2/qemu/101/config").status_code == 595


def test_quorum(cluster: Cluster, wire: Wire) -> None:
    cluster.quorum_lost()
    assert next(row for row in wire.data("/cluster/status") if row["type"] == "cluster")["quorate"] == 0
    cluster.quorum_restored()
    assert next(row for row in wire.data("/cluster/status") if row["type"] == "cluster")["quorate"] == 1


def test_a_stand_alone_host_has_no_cluster_row() -> None:
    with ProxmoxSimulator(load_cluster("lab")) as simulator:
        wire = Wire(simulator)
        rows = wire.data("/cluster/status")
        assert [(row["type"], row["nodeid"], row["local"], row["online"]) for row in rows] == [("node", 0, 1, 1)]
        answer = wire.ask("/cluster/config/join")
        assert (answer.status_code, answer.reason) == (424, "node is not in a cluster, no join info available!")


def test_lists_lag_behind_while_the_broadcast_is_held(cluster: Cluster, wire: Wire) -> None:
    cluster.hold_broadcast()
    cluster.rename("qemu", 100, "later")
    cluster.add_guest(kind="qemu", vmid=900, node="pve1", name="new")
    assert (_resource(wire, 100) or {})["name"] == "web01"
    assert (_resource(wire, 900) or {})["status"] == "unknown"
    assert wire.data("/nodes/pve1/qemu/100/config")["name"] == "later"
    cluster.release_broadcast()
    assert (_resource(wire, 100) or {})["name"] == "later"
