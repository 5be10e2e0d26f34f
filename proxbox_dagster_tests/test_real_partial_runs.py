"""Parts of the pipeline alone, on the real NetBox: one stage, one guest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from proxbox_dagster.demo.proxmox import Cluster, Guest, make_cluster
from proxbox_dagster.demo.proxmox.loader import agent_row
from proxbox_dagster.demo.proxmox.state import Agent
from proxbox_dagster.jobs import GUEST_STAGES
from proxbox_dagster.stages import BY_NAME, STAGES
from proxbox_dagster_tests.support.synced import Synced, X, described, errors, laid_out

CHANGED = {
    "devices": {"device"},
    "virtual_machines": {"virtualmachine"},
    "virtual_disks": {"virtualdisk"},
    "snapshots": {"vmsnapshot"},
    "vm_interfaces": {"vminterface"},
    "backup_routines": {"backuproutine"},
}
"""What :func:`change_everything` makes a stage write at least."""


def change_everything(cluster: Cluster) -> None:
    """One change for every group of stages."""
    cluster.set_config("qemu", 100, "memory", 3072)
    cluster.set_config("qemu", 100, "scsi3", "local-lvm:vm-100-disk-7,size=7G")
    cluster.set_config("qemu", 100, "net5", "virtio=BC:24:11:55:55:55,bridge=vmbr0")
    cluster.add_snapshot("qemu", 100, "just-now")
    cluster.set_backup_job("backup-new", schedule="03:00", storage="nas", all=1, enabled=1)
    cluster.node_offline("pve3")


@pytest.fixture(scope="module")
def empty(netbox_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synced]:
    with laid_out(netbox_server, tmp_path_factory.mktemp("partial"), small=described("small")) as lab:
        yield lab


def test_on_an_empty_netbox_a_stage_alone_fails_and_names_what_is_missing(empty: Synced) -> None:
    for stage in STAGES[1:]:
        result = empty.watched(stages=(stage.name,))
        assert not result["ok"], stage.name
        [line] = errors(result)
        assert line.startswith(f"{stage.name}: stage {stage.name} needs stage devices first: NetBox has no "), line
        assert "Run full_update" in line
        assert empty.written() == []
        assert empty.writing_requests() == []


def test_after_the_first_stage_the_next_missing_one_is_named(empty: Synced) -> None:
    empty.run(stages=("devices",))
    for name, missing in (("virtual_disks", "storage"), ("snapshots", "virtual_machines")):
        [line] = errors(empty.watched(stages=(name,)))
        assert f"stage {name} needs stage {missing} first" in line
        assert empty.written() == []


def test_each_stage_alone_makes_its_own_part_and_all_of_them_the_whole(empty: Synced) -> None:
    for stage in STAGES:
        empty.run(stages=(stage.name,))
    empty.run()
    assert empty.written() == []
    assert empty.writing_requests() == []


def test_each_stage_alone_on_a_synced_netbox_writes_nothing_else(empty: Synced) -> None:
    change_everything(empty.clusters["small"])
    for stage in STAGES:
        empty.run(stages=(stage.name,))
        models = {item.spec.model for item in stage.object_classes}
        written = {entry.model for entry in empty.written()}
        assert written <= models, stage.name
        assert {model.split(".")[1] for model in written} >= CHANGED.get(stage.name, set()), stage.name
    empty.run()
    assert empty.written() == []


def test_a_run_narrowed_to_a_guest_hides_no_older_task_of_another(empty: Synced) -> None:
    empty.run()
    cluster, order = empty.clusters["small"], {"stages": ("task_history",)}
    node, newest = cluster.guest(100).node, max(task.start for task in cluster.all_tasks())
    later, earlier = (
        cluster.add_task(node, "qmstop", vmid, start=start, end=start + 5, status="OK").upid
        for vmid, start in ((100, newest + 5 * 3600), (101, newest + 60))
    )
    empty.run(**order, vmids=(100,))
    assert [entry.model for entry in empty.written()] == ["netbox_proxbox.vmtaskhistory"]
    assert empty.rows(f"{X}task-history", upid=later)
    empty.run(**order)
    assert [entry.model for entry in empty.written()] == ["netbox_proxbox.vmtaskhistory"]
    assert empty.rows(f"{X}task-history", upid=earlier)


# -- sync this VM now ---------------------------------------------------------------------------------------------

LIMITS = {"proxmox": 12, "netbox_reads": 20}
"""What a look at one guest may take. Its writes come on top: a list for each class of which it has rows."""


def new_guest(cluster: Cluster, vmid: int) -> Guest:
    """A running machine with a disk, a card, and an agent that tells an address."""
    config = {
        "cores": "2",
        "memory": "2048",
        "ostype": "l26",
        "agent": "1",
        "smbios1": "uuid=0f0e0d0c-0b0a-4900-8807-060504030201",
        "scsi0": f"local-lvm:vm-{vmid}-disk-0,size=16G",
        "net0": "virtio=BC:24:11:99:00:01,bridge=vmbr0,tag=10",
    }
    guest = Guest("qemu", vmid, "pve2", "brand-new", "running", config=config)
    guest.started = cluster.now - 600
    card = {"name": "ens18", "mac": "bc:24:11:99:00:01", "addresses": ["198.51.100.77/24"]}
    guest.agent = Agent(interfaces=[agent_row(card)])
    return guest


def sync_of_a_new_guest(lab: Synced, cluster: Cluster) -> dict[str, int]:
    """Add a machine, sync it alone, and give the requests that it took."""
    vmid = 9000
    cluster.add_guest(new_guest(cluster, vmid))
    cluster.add_snapshot("qemu", vmid, "before")
    cluster.add_backup("nas", vmid)
    simulator = lab.simulators["big"]
    simulator.reset_counters()
    lab.run(stages=GUEST_STAGES, vmids=(vmid,))
    writes = len(lab.writing_requests())
    requests = {
        "proxmox": sum(simulator.requests.values()),
        "netbox_reads": len(lab.proxy.requests) - writes,
        "netbox_writes": writes,
    }
    machine = lab.vm(vmid, endpoint="big")
    assert machine["name"] == "brand-new"
    of = {"virtual_machine_id": machine["id"]}
    for path in (
        "virtualization/virtual-disks",
        "virtualization/interfaces",
        f"{X}snapshots",
        f"{X}backups",
    ):
        assert lab.rows(path, **of), path
    assert machine["primary_ip4"]
    assert {entry.label for entry in lab.written() if entry.model == "virtualization.virtualmachine"} == {"brand-new"}
    lab.run()
    assert lab.written() == [], "the whole pipeline finds nothing left to do"
    return requests


def test_one_new_guest_arrives_whole_at_a_cost_that_does_not_grow(
    netbox_server: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cost = {}
    for guests in (6, 24):
        cluster = make_cluster("big", nodes=3, guests=guests, odd=False)
        with laid_out(netbox_server, tmp_path_factory.mktemp(f"guests{guests}"), big=cluster) as lab:
            lab.run()
            cost[guests] = sync_of_a_new_guest(lab, cluster)
    assert all(cost[6][side] == cost[24][side] < limit for side, limit in LIMITS.items()), cost
    assert abs(cost[6]["netbox_writes"] - cost[24]["netbox_writes"]) <= 1, "its VLAN may be there already"


def test_the_stages_of_a_guest_are_those_whose_rows_belong_to_one() -> None:
    assert set(GUEST_STAGES) <= set(BY_NAME)
    assert {BY_NAME[name].group for name in GUEST_STAGES} == {"guest_data", "networking"}
