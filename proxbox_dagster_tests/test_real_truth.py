"""NetBox is what the simulated clusters are, field by field: every object class of stages 4 to 12, on three releases.

``odd`` is the mixed cluster: 3 nodes (one is off, one has Open vSwitch) and 60 guests with every odd kind of disk,
card, agent, name, backup, task and job. ``seven`` and ``eight`` have the same guests, with addresses of their own, as
Proxmox VE 7.4 and 8.2 answer; all three have equal node names and VMIDs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from proxbox_dagster.demo.proxmox import Cluster, load_cluster, make_cluster
from proxbox_dagster.stages import STAGES
from proxbox_dagster_tests.support.browser_session import Person
from proxbox_dagster_tests.support.expect_networking import NetworkExpectation
from proxbox_dagster_tests.support.held import Held, untruths
from proxbox_dagster_tests.support.synced import Synced, X, errors, laid_out


def made(name: str, seed: int, flavour: str) -> Cluster:
    cluster = make_cluster(name, nodes=3, guests=60, seed=seed, flavour=flavour)
    cluster.node_offline("pve3")
    return cluster


@pytest.fixture(scope="module")
def lab(netbox_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synced]:
    clusters = {
        "odd": load_cluster("odd"),
        "seven": made("seven", 1, "7.4"),
        "eight": made("eight", 2, "8.2"),
    }
    with laid_out(netbox_server, tmp_path_factory.mktemp("truth"), **clusters) as lab:
        lab.first = lab.watched()
        yield lab


@pytest.mark.parametrize("endpoint", ["odd", "seven", "eight"])
def test_netbox_holds_what_the_cluster_is(endpoint: str, lab: Synced) -> None:
    written = {line["stage"] for line in lab.first["endpoints"][endpoint]["stages"]}
    assert written == {stage.name for stage in STAGES}, errors(lab.first)
    assert untruths(lab, endpoint) == {}
    held = Held(lab, endpoint)
    assert held.vlans() == NetworkExpectation(lab.clusters[endpoint], held.has).used_vlans(), "no VLAN too many"


PAGES = {
    # UI path of the rows: REST path
    "/virtualization/virtual-machines/": "virtualization/virtual-machines",
    "/virtualization/clusters/": "virtualization/clusters",
    "/dcim/devices/": "dcim/devices",
    f"/{X}endpoints/proxmox/": f"{X}endpoints/proxmox",
    f"/{X}proxmox-clusters/": f"{X}proxmox-clusters",
    f"/{X}proxmox-nodes/": f"{X}proxmox-nodes",
    f"/{X}storage/": f"{X}storage",
    f"/{X}task-history/": f"{X}task-history",
    f"/{X}backups/": f"{X}backups",
    f"/{X}snapshots/": f"{X}snapshots",
    f"/{X}replications/": f"{X}replications",
    f"/{X}backup-routines/": f"{X}backup-routines",
}
TABS = {
    # what the plugin adds to the pages, so that the test knows that it has seen them
    "/virtualization/virtual-machines/": {"backups", "snapshots", "task-history"},
    "/virtualization/clusters/": {"storages", "summary"},
    f"/{X}endpoints/proxmox/": {"cluster-nodes"},
    f"/{X}storage/": {"virtual-disks", "backups", "snapshots"},
}
LISTS = {f"/{X}proxmox-clusters/": f"/{X}clusters/", f"/{X}proxmox-nodes/": f"/{X}nodes/"}
"""Where the list of a class is, when it is not above its rows."""

ITS_OWN_FAULT = {"cluster-nodes": "Reverse for &#x27;proxmoxnode_edit&#x27; not found"}
"""Tabs that the plugin cannot show, whoever wrote the rows: this one links to a page that the plugin does not have."""

DETAILED = {("qemu", 1000), ("qemu", 1033), ("lxc", 1041)}
"""Machines with disks, backups, snapshots, tasks and replication jobs."""


def shown(path: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows whose pages are opened: the first, and machines that have something of everything."""
    if path != "/virtualization/virtual-machines/":
        return rows[:1]
    fields = [row["custom_fields"] for row in rows]
    return [
        row for row, own in zip(rows, fields, strict=True) if (own["proxmox_vm_type"], own["proxmox_vm_id"]) in DETAILED
    ]


def test_every_page_of_the_plugin_opens_on_our_rows(lab: Synced) -> None:
    problems: list[str | None] = []
    with Person(lab.netbox) as person:
        for path, rest in PAGES.items():
            problems.append(person.problem(LISTS.get(path, path)))
            rows = shown(path, lab.rows(rest, cf_proxmox_endpoint="odd"))
            assert rows, path
            seen: set[str] = set()
            for row in rows:
                own = f"{path}{row['id']}/"
                problems.append(person.problem(own))
                tabs = person.tabs(own)
                seen |= {tab.removeprefix(own).strip("/") for tab in tabs}
                for tab in tabs:
                    problem = person.problem(tab)
                    excuse = ITS_OWN_FAULT.get(tab.removeprefix(own).strip("/"))
                    problems.append(None if excuse and excuse in person.page.text else problem)
            assert seen >= TABS.get(path, set()), (path, seen)
    assert [problem for problem in problems if problem] == []


def test_nothing_is_asked_of_proxmox_twice(lab: Synced) -> None:
    for name, simulator in lab.simulators.items():
        cluster = lab.clusters[name]
        asked = dict(simulator.requests)
        online = [node for node in cluster.nodes.values() if node.online]
        guests = [guest for guest in cluster.guests.values() if guest.node in {node.name for node in online}]
        for node in online:  # the running ones, and the archive
            assert asked.pop(f"GET /nodes/{node.name}/tasks") == 2
        assert set(asked.values()) == {1}, {path: count for path, count in asked.items() if count > 1}
        per_guest = [path for path in asked if re.search(r"/(qemu|lxc)/\d+/", path)]
        kinds = Counter(path.rsplit("/", 1)[1] for path in per_guest)
        assert kinds["config"] == kinds["snapshot"] == len(guests), name
        running = [guest for guest in guests if guest.status == "running"]
        agents = [guest for guest in running if guest.kind == "qemu" and guest.config.get("agent", "0")[0] != "0"]
        assert kinds["network-get-interfaces"] == len(agents)
        containers = [guest for guest in running if guest.kind == "lxc"]
        assert kinds["interfaces"] <= len(containers)
        assert set(kinds) <= {"config", "snapshot", "network-get-interfaces", "interfaces"}
        per_node = [path for path in asked if path.startswith("GET /nodes/") and path not in per_guest]
        assert {path.split("/")[2] for path in per_node} == {node.name for node in online}
        assert {re.sub(r"^GET /nodes/[^/]+/|storage/[^/]+/", "", path) for path in per_node} == {
            "content", "network", "storage", "version",
        }  # fmt: skip
        shared = [path for path in per_node if path.endswith(("/nas/content", "/pbs/content"))]
        assert len(shared) == 2, "a shared storage is read through one node"
        rest = set(asked) - set(per_guest) - set(per_node)
        assert rest == {
            f"GET /{path}"
            for path in (
                "access/permissions", "cluster/backup", "cluster/options", "cluster/replication", "cluster/resources",
                "cluster/status", "nodes", "storage",
            )
        }  # fmt: skip


def test_a_second_run_writes_nothing_on_any_release(lab: Synced) -> None:
    for name, cluster in lab.clusters.items():
        if name != "eight":  # it tells the last address of a container only, so there their order says something
            cluster.shuffle(7)
        cluster.respell(3)
        cluster.churn()
    lab.watched()
    assert (lab.written(), lab.writing_requests(), lab.changes()) == ([], [], [])
