"""What a read that is not whole leads to: nothing is lost. On the real NetBox; its change log is the witness."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from proxbox_dagster.demo.proxmox import Cluster
from proxbox_dagster.demo.proxmox.acl import PRIVILEGES
from proxbox_dagster.stages import STAGES
from proxbox_dagster_tests.support.changelog import Entry
from proxbox_dagster_tests.support.synced import VMS, Synced, X, errors, lend

CLUSTERS = ("small",)


@pytest.fixture
def lab(shared: Synced, request: pytest.FixtureRequest) -> Iterator[Synced]:
    yield from lend(shared, request)
    shared.clusters["small"].grant_all()
    shared.clusters["small"].quorum_restored()


def losses(entries: list[Entry]) -> list[Entry]:
    """What takes something away: a row, a value, a tag; or calls it gone."""
    return [
        entry
        for entry in entries
        if entry.action == "delete"
        or "cf.proxbox_missing" in entry.fields
        or any(
            before not in (None, "", [], {}) and (after in (None, "", [], {}) or _shorter(before, after))
            for before, after in entry.fields.values()
        )
    ]


def _shorter(before: Any, after: Any) -> bool:
    return isinstance(before, list) and isinstance(after, list) and not set(map(str, before)) <= set(map(str, after))


def gone(result: dict[str, Any]) -> dict[str, int]:
    """Rows marked or deleted by object class."""
    lines = [line for found in result["endpoints"].values() for line in found["stages"]]
    return {
        line["object_class"]: line["marked"] + line["deleted"] for line in lines if line["marked"] + line["deleted"]
    }


def warnings(result: dict[str, Any]) -> str:
    return "\n".join(line for found in result["endpoints"].values() for line in found["warnings"])


# -- lists that are too short -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "object_class"),
    [
        (r"^/cluster/resources", "virtual_machines"),
        (r"^/storage$", "storage"),
        (r"^/nodes$", "devices"),
        (r"/network$", "interfaces"),
    ],
)
def test_scenario_9_an_empty_list_removes_nothing(path: str, object_class: str, lab: Synced) -> None:
    lab.simulators["small"].faults.add(path, kind="empty")
    result = lab.watched()
    assert gone(result) == {}
    assert losses(lab.written()) == []
    if object_class in ("virtual_machines", "storage"):
        assert not result["ok"]
        said = " ".join(errors(result))
        ours = len(lab.rows(VMS if object_class == "virtual_machines" else f"{X}storage"))
        assert f"{ours} of {ours} {object_class} would be removed (100 %)" in said
        assert "--override-brake" in said
        assert "override_brake" in said


def hide(*vmids: int) -> Callable[[Cluster], None]:
    """The token loses VM.Audit on these guests and keeps the rest."""

    def change(cluster: Cluster) -> None:
        for vmid in vmids:
            cluster.revoke("VM.Audit", f"/vms/{vmid}")

    return change


BRIDGE = "/sdn/zones/localnetwork/vmbr0"


def no_access(path: str) -> Callable[[Cluster], None]:
    """Role NoAccess: neither a list nor the list of privileges has a trace of it."""
    return lambda cluster: cluster.restrict({"/": PRIVILEGES, path: ()})


def in_pool(cluster: Cluster) -> None:
    """The rights come by the pool, and it loses them: all its guests are hidden."""
    hide(*sorted(cluster.pools["front"].guests))(cluster)


@pytest.mark.parametrize(
    ("change", "path", "kept"),
    [
        (hide(101), "/vms/101", "db01"),
        (in_pool, "/vms/100", "web01"),
        (lambda cluster: cluster.revoke("VM.Audit", "/vms"), "/vms", "4 not seen"),
        (no_access("/vms/101"), "/vms/101", "db01"),
        (lambda cluster: cluster.revoke("Datastore.Audit", "/storage/nas"), None, None),
        (no_access("/storage/ceph"), "/storage/ceph", "ceph"),
        (lambda cluster: cluster.restrict({"/": PRIVILEGES, BRIDGE: ("Sys.Audit",)}), BRIDGE, "vmbr0"),
        (no_access(BRIDGE), BRIDGE, "vmbr0"),
    ],
    ids=[
        *("one-guest", "a-pool", "all-guests", "no-access-to-a-guest", "storage", "no-access-to-a-storage"),
        *("bridge", "no-access-to-a-bridge"),
    ],
)
def test_scenario_10_what_the_token_may_not_see_is_not_gone(
    change: Callable[[Cluster], None], path: str | None, kept: str | None, lab: Synced
) -> None:
    change(lab.clusters["small"])
    result = lab.watched()
    assert gone(result) == {}
    assert losses(lab.written()) == []
    if path is not None and kept is not None:
        said = warnings(result)
        assert kept in said
        assert f"on {path}" in said
        assert f"pveum acl modify {path} --users sync@pve --tokens 'sync@pve!netbox' --roles" in said.replace(
            lab.simulators["small"].user, "sync@pve"
        ).replace(f"!{lab.simulators['small'].token_name}", "!netbox")


# -- a cluster that is not whole ----------------------------------------------------------------------------------


def shrink(cluster: Cluster) -> Callable[[], None]:
    """Take away something of every class that is removed at once, and a guest; returns how to put it back."""
    guest, config = cluster.guest(101), dict(cluster.guest(100).config)
    snapshot = cluster.guest(100).snapshots["after"]
    cluster.delete_guest("qemu", 101)
    cluster.set_config("qemu", 100, "scsi1", None)
    cluster.set_config("qemu", 100, "net1", None)
    cluster.remove_snapshot("qemu", 100, "after")

    def undo() -> None:
        cluster.add_guest(guest)
        cluster.guest(100).config.update(config)
        cluster.guest(100).snapshots["after"] = snapshot
        cluster.guest(100).parent = "after"

    return undo


def test_scenario_12_without_quorum_or_with_a_node_lost_mid_read_no_class_removes_anything(lab: Synced) -> None:
    cluster, simulator = lab.clusters["small"], lab.simulators["small"]
    undo = shrink(cluster)
    cluster.quorum_lost()
    result = lab.watched()
    assert gone(result) == {}
    assert losses(lab.written()) == []
    cluster.quorum_restored()
    for status, node in ((595, "pve2"), (596, "pve3")):
        simulator.faults.clear()
        simulator.faults.add(
            rf"/nodes/{node}/(qemu|lxc|network|storage|tasks)", status=status, reason="No route to host"
        )
        result = lab.watched()
        assert gone(result) == {}, node
        assert losses(lab.written()) == [], node
        assert f"node {node} could not be reached while it was read" in warnings(result)
    simulator.faults.clear()
    cluster.node_unresolved("pve2")
    cluster.network_waits("pve1", [])
    result = lab.watched()
    assert gone(result) == {}
    assert losses(lab.written()) == []
    assert "node pve2 could not be reached while it was read" in warnings(result)
    skipped = [skip.reason for skip in lab.reports()["small", "interfaces"].skips]
    assert any(reason.startswith("node pve1 has changes of its network that are not applied") for reason in skipped)
    undo()
    cluster.nodes["pve2"].resolves = True
    cluster.network_waits("pve1", None)
    lab.run()
    assert lab.written() == []


# -- guests that say nothing --------------------------------------------------------------------------------------


def test_scenarios_14_15_a_silent_agent_and_a_guest_that_is_off_keep_what_is_known(lab: Synced) -> None:
    cluster = lab.clusters["small"]
    addresses = {row["id"]: row["address"] for row in lab.rows("ipam/ip-addresses")}
    assert lab.vm(100)["primary_ip4"]["address"] == "198.51.100.10/26"
    lab.simulators["small"].faults.add(r"/qemu/100/agent", status=500, reason="QEMU guest agent is not running")
    lab.simulators["small"].faults.add(r"/qemu/101/agent", status=500, reason="VM 101 qmp command failed - got timeout")
    lab.run()
    assert lab.written() == []
    lab.simulators["small"].faults.clear()
    cluster.stop("qemu", 100)
    cluster.stop("lxc", 200)
    lab.run()
    assert {(entry.model.split(".")[1], *entry.fields) for entry in lab.written()} == {
        ("virtualmachine", "status"),
        ("proxboxvirtualmachinesyncstate", "proxmox_status"),
    }
    assert {row["id"]: row["address"] for row in lab.rows("ipam/ip-addresses")} == addresses
    assert lab.vm(100)["primary_ip4"]["address"] == "198.51.100.10/26"
    assert lab.vm(200, "lxc")["primary_ip4"]["address"] == "198.51.100.53/26"
    cluster.start("qemu", 100)
    cluster.start("lxc", 200)
    lab.run()
    assert losses(lab.written()) == []


# -- every source, every kind of hole -----------------------------------------------------------------------------

HOLES: dict[str, dict[str, Any]] = {
    "error": {"status": 500, "reason": "internal error"},
    "forbidden": {"status": 403, "reason": "Permission check failed"},
    "cut-off": {"kind": "truncate"},
    "dropped": {"kind": "drop"},
    "node-lost": {"status": 595},
    "empty": {"kind": "empty"},
}
TABLE = {
    "nodes": (r"^/nodes$", "error"),
    "node-version": (r"/nodes/pve1/version", "node-lost"),
    "networks": (r"/nodes/pve1/network", "forbidden"),
    "storage": (r"^/storage$", "cut-off"),
    "node-storage": (r"/nodes/[^/]+/storage$", "empty"),
    "content": (r"/storage/nas/content", "dropped"),
    "tasks": (r"/nodes/pve1/tasks", "empty"),
    "options": (r"^/cluster/options", "error"),
    "config": (r"/(qemu|lxc)/[0-9]+/config", "cut-off"),
    "snapshots": (r"/qemu/100/snapshot", "forbidden"),
    "agent": (r"/qemu/100/agent", "empty"),
    "interfaces": (r"/lxc/200/interfaces", "empty"),
    "replication": (r"^/cluster/replication", "error"),
    "backup-jobs": (r"^/cluster/backup", "dropped"),
    "permissions": (r"^/access/permissions", "error"),
}
"""Every source with one kind of hole each; the other kinds are tried on the source side alone."""
AT_ONCE = [
    ("nodes",),
    ("node-version",),
    ("storage",),
    ("content",),
    ("options",),
    ("config",),
    ("backup-jobs",),
    ("replication",),
    ("permissions",),
    ("networks", "node-storage"),
    ("tasks", "snapshots", "agent", "interfaces"),
]
"""Holes of one run: none of these keeps a stage from being done that another one concerns."""


def test_every_source_has_a_hole() -> None:
    assert sorted(source for sources in AT_ONCE for source in sources) == sorted(TABLE)


@pytest.mark.parametrize("sources", AT_ONCE, ids="+".join)
def test_holes_in_sources_take_nothing_away(sources: tuple[str, ...], lab: Synced) -> None:
    for endpoint in lab.settings["endpoints"]:
        endpoint["retry_budget"] = 0.2
    lab.settings["on_stage_failure"] = "continue"
    lab.save()
    faults = {
        source: lab.simulators["small"].faults.add(TABLE[source][0], **HOLES[TABLE[source][1]]) for source in sources
    }
    result = lab.watched()
    assert [source for source, fault in faults.items() if not fault.struck] == [], "every fault was met"
    assert losses(lab.written()) == []
    if len(sources) > 1:
        done = {line["stage"] for line in result["endpoints"]["small"]["stages"]}
        assert done == {stage.name for stage in STAGES}, "every stage was done"
