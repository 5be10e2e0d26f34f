"""What was not seen leaves exactly the right gaps: scenarios 8 to 15 and 45, as far as reading goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxbox_dagster.demo.proxmox import Agent, Guest, ProxmoxSimulator, load_cluster
from proxbox_dagster.facts import UNOBSERVED, Fetched, GapKind
from proxbox_dagster.proxmox.errors import (
    ApiError,
    AuthenticationFailed,
    NotProxmox,
    PermissionDenied,
    ProxmoxError,
    Unreachable,
)
from proxbox_dagster.proxmox.session import ProxmoxSession
from proxbox_dagster.proxmox.sources import SOURCES

from .proxmox_support import session_of

ON_PVE3 = {"qemu/104", "qemu/105", "qemu/121", "lxc/202"}
GUEST_SOURCES = ("guest_configs", "guest_snapshots")
PER_NODE = ("node_storage", "node_tasks", "node_networks")


@pytest.fixture
def simulator() -> Iterator[ProxmoxSimulator]:
    with ProxmoxSimulator(load_cluster("ams1")) as simulator:
        simulator.auth_delay = 0.0
        yield simulator


@pytest.fixture
def session(simulator: ProxmoxSimulator) -> Iterator[ProxmoxSession]:
    with session_of(simulator, retry_budget=0.3) as session:
        yield session


def gaps(read: Fetched, *kinds: GapKind) -> set[tuple[str, str]]:
    return {(gap.level, gap.name) for gap in read.gaps if not kinds or gap.kind in kinds}


def guests(read: Fetched) -> set[str]:
    return {f"{row['type']}/{row['vmid']}" for row in read.rows}


def test_undisturbed_reads_are_complete(session: ProxmoxSession) -> None:
    session.prefetch(SOURCES)
    for name in SOURCES:
        read = session.fetched(name)
        assert gaps(read, *set(GapKind) - {GapKind.NOT_APPLICABLE}) == set(), name
    assert session.fetched("guests").complete
    assert all(session.fetched(name).complete for name in GUEST_SOURCES)


def test_scenario_08_endpoint_that_cannot_be_read_raises(simulator: ProxmoxSimulator) -> None:
    cases: list[tuple[dict[str, Any], type[ProxmoxError]]] = [
        ({"status": 401}, AuthenticationFailed),
        ({"status": 500, "reason": "internal error"}, ApiError),
        ({"kind": "html"}, NotProxmox),
    ]
    for fault, expected in cases:
        simulator.faults.clear()
        simulator.faults.add("/cluster/resources", **fault)
        with session_of(simulator, retry_budget=0.2) as session:
            session.prefetch(["guest_configs"])
            for name in ("guests", "guest_configs", "guest_agent"):
                with pytest.raises(expected):
                    session.fetched(name)


def test_scenario_08_endpoint_lost_in_the_middle_of_a_read(simulator: ProxmoxSimulator, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_bytes(simulator.ca_file.read_bytes())
    with session_of(simulator, retry_budget=0.1, verify_ssl=str(authority)) as session:
        session.fetched("guests")
        simulator.stop()
        with pytest.raises(Unreachable):
            session.fetched("guest_configs")


def test_scenario_10_hidden_guest_is_a_gap_with_its_privilege(
    simulator: ProxmoxSimulator, session: ProxmoxSession
) -> None:
    simulator.cluster.revoke("VM.Audit", "/vms/100")
    for name in ("guests", *GUEST_SOURCES, "replication_jobs"):
        read = session.fetched(name)
        assert gaps(read) == {("guest", "qemu/100"), ("guest", "lxc/100")}, name
        gap = read.gap("guest", "qemu/100")
        assert gap is not None
        assert gap.kind is GapKind.PERMISSION
        assert "VM.Audit on /vms/100" in gap.reason
        assert "pveum acl modify /vms/100 --users sync@pve --tokens 'sync@pve!netbox' --roles ProxboxSync" in gap.reason
    assert "qemu/100" not in guests(session.fetched("guests"))
    assert session.fetched("guests").gap("guest", "qemu/101") is None


def test_scenario_10_guest_without_any_privilege_is_found_by_asking_for_it(
    simulator: ProxmoxSimulator, session: ProxmoxSession
) -> None:
    """Role NoAccess: neither the list of guests nor that of privileges has a trace of it."""
    acl = {path: set(held) for path, held in simulator.cluster.acl.entries.items()}
    simulator.cluster.restrict({**acl, "/vms/100": set()})
    assert session.fetched("guests").complete
    hidden = session.absence_gap("guest", "100")
    assert hidden is not None
    assert (hidden.level, hidden.name, hidden.kind) == ("guest", "100", GapKind.PERMISSION)
    assert session.absence_gap("guest", "9999") is None


def test_scenario_10_token_without_privileges_sees_nothing_and_proves_nothing(
    simulator: ProxmoxSimulator, session: ProxmoxSession
) -> None:
    simulator.cluster.restrict({"/nodes": {"Sys.Audit"}, "/": {"Sys.Audit"}})
    for name in ("guests", "storage", "storage_content", "replication_jobs", "guest_configs", "node_networks"):
        read = session.fetched(name)
        assert ("all", "") in gaps(read, GapKind.PERMISSION), name
    assert session.fetched("guests").rows == []
    assert session.fetched("node_tasks").complete


def test_11_offline_node(simulator: ProxmoxSimulator, session: ProxmoxSession) -> None:
    simulator.cluster.node_offline("pve3")
    rows = {row["name"]: row["online"] for row in session.fetched("cluster_status").rows if row["type"] == "node"}
    assert rows == {"pve1": True, "pve2": True, "pve3": False}
    assert session.fetched("cluster_status").complete

    nodes = session.fetched("nodes")
    assert gaps(nodes) == {("node", "pve3")}
    offline = next(row for row in nodes.rows if row["node"] == "pve3")
    assert {key for key, value in offline.items() if value is UNOBSERVED} >= {"maxcpu", "maxmem", "version", "release"}
    assert all(row["version"] == "9.1.4" for row in nodes.rows if row["node"] != "pve3")

    listed = session.fetched("guests")
    assert gaps(listed) == {("node", "pve3")}
    assert guests(listed) >= ON_PVE3
    for row in listed.rows:
        hidden = {key for key in ("name", "template", "maxcpu", "maxmem") if row[key] is UNOBSERVED}
        assert hidden == ({"name", "template", "maxcpu", "maxmem"} if row["node"] == "pve3" else set())
        assert (row["status"] == "unknown") == (row["node"] == "pve3")

    for name in GUEST_SOURCES:
        read = session.fetched(name)
        assert gaps(read) == {("node", "pve3"), *(("guest", key) for key in ON_PVE3)}, name
        assert not guests(read) & ON_PVE3
    for name in PER_NODE:
        assert gaps(session.fetched(name)) == {("node", "pve3")}, name
    assert {kind for gap in nodes.gaps + listed.gaps if (kind := gap.kind)} == {GapKind.OFFLINE}
    assert not any("/nodes/pve3/" in path for path in simulator.requests)


def test_11_a_node_that_broadcasts_nothing_is_no_missing_privilege(
    simulator: ProxmoxSimulator, session: ProxmoxSession
) -> None:
    """It answers, but its pvestatd is silent: the others know neither its size nor the names of its guests."""
    simulator.cluster.nodes["pve3"].broadcasting = False
    read = session.fetched("nodes")
    assert gaps(read) == {("node", "pve3")}
    assert gaps(read, GapKind.OFFLINE) == {("node", "pve3")}
    row = next(row for row in read.rows if row["node"] == "pve3")
    assert (row["maxmem"], row["version"]) == (UNOBSERVED, "9.1.4")
    names = {row["name"] for row in session.fetched("guests").rows if row["node"] == "pve3"}
    assert names == {UNOBSERVED}
    assert guests(session.fetched("guest_configs")) >= ON_PVE3


def test_11_backups_of_an_offline_node(simulator: ProxmoxSimulator, session: ProxmoxSession) -> None:
    simulator.cluster.storages["local"].content = ["iso", "backup"]
    simulator.cluster.node_offline("pve1")
    read = session.fetched("storage_content")
    assert gaps(read) == {("node", "pve1"), ("storage", "pve1/local"), ("storage", "local")}
    assert {row["storage"] for row in read.rows} == {"nas", "pbs"}, "shared storages are read through another node"


def test_12_no_quorum_proves_nothing(simulator: ProxmoxSimulator, session: ProxmoxSession) -> None:
    simulator.cluster.quorum_lost()
    session.prefetch(SOURCES)
    for name in SOURCES:
        gap = session.fetched(name).gap("all")
        assert gap is not None, name
        assert gap.kind is GapKind.OFFLINE
        assert "quorum" in gap.reason


def test_12_member_out_of_reach_while_reading(simulator: ProxmoxSimulator, session: ProxmoxSession) -> None:
    """The cluster still counts it as online, but it does not answer."""
    fault = simulator.faults.add("/nodes/pve3/", status=596, reason="Connection timed out")
    session.prefetch(SOURCES)
    for name in ("nodes", *PER_NODE):
        assert gaps(session.fetched(name)) == {("node", "pve3")}, name
    for name in GUEST_SOURCES:
        assert gaps(session.fetched(name)) == {("guest", key) for key in ON_PVE3}, name
    assert {row["node"] for row in session.fetched("guests").rows} == {"pve1", "pve2", "pve3"}
    # Twice by each read that was under way when the first one failed, and by nobody after that.
    assert fault.struck <= 2 * 8


def test_12_a_node_that_hangs_is_lost_after_a_few_reads_and_takes_no_other_with_it(simulator: ProxmoxSimulator) -> None:
    for vmid in range(3000, 3040):
        simulator.cluster.add_guest(Guest("qemu", vmid, "pve3", config={"memory": "512"}))
    fault = simulator.faults.add("/nodes/pve3/", delay=60)
    with session_of(simulator, timeout=0.5, retry_budget=0.2) as session:
        session.prefetch(("guest_configs", "guest_snapshots", "node_networks", "node_tasks"))
        hung = {f"{row['type']}/{row['vmid']}" for row in session.fetched("guests").rows if row["node"] == "pve3"}
        assert len(hung) > 40
        for name in ("guest_configs", "guest_snapshots"):
            read = session.fetched(name)
            assert gaps(read) == {("guest", key) for key in hung}, name
            assert ("guest", "qemu/3039") in gaps(read, GapKind.OFFLINE), name
            assert gaps(read, GapKind.FAILED), "the reads that found it out"
        for name in ("node_networks", "node_tasks"):
            assert gaps(session.fetched(name)) == {("node", "pve3")}, name
        assert "node pve3 could not be reached" in str(session.incomplete())
        gap = session.fetched("guest_configs").gap("guest", "qemu/3039")
        assert gap is not None
        assert "node pve3 does not answer any more" in gap.reason
    assert fault.struck <= 1 + 4 * 8, "the version, and what was under way"


def test_12_slow_storages_and_agents_do_not_lose_their_node(simulator: ProxmoxSimulator) -> None:
    simulator.faults.add("/nodes/pve1/(storage/.*/content|qemu/.*/agent)", delay=60)
    with session_of(simulator, timeout=0.5, retry_budget=0.1) as session:
        session.prefetch(("guest_agent", "storage_content"))
        assert gaps(session.fetched("guest_agent"), GapKind.FAILED)
        assert gaps(session.fetched("storage_content"), GapKind.FAILED)
        assert session.incomplete() is None
        assert gaps(session.fetched("guest_snapshots")) == set()


def test_12_a_member_that_the_others_find_no_address_of(simulator: ProxmoxSimulator, session: ProxmoxSession) -> None:
    simulator.cluster.node_unresolved("pve3")
    session.prefetch(SOURCES)
    for name in ("nodes", *PER_NODE):
        assert gaps(session.fetched(name), GapKind.OFFLINE) == {("node", "pve3")}, name
    for name in GUEST_SOURCES:
        read = session.fetched(name)
        assert gaps(read) == {("guest", key) for key in ON_PVE3}, name
        assert all("hostname lookup 'pve3' failed" in gap.reason for gap in read.gaps)
    assert guests(session.fetched("guests")) >= ON_PVE3
    status = {row["name"]: row for row in session.fetched("cluster_status").rows if row["type"] == "node"}
    assert (status["pve3"]["online"], status["pve3"]["ip"]) == (True, None)


def test_a_network_that_waits_to_be_applied_is_not_observed(
    simulator: ProxmoxSimulator, session: ProxmoxSession
) -> None:
    """Proxmox lists what waits; what is in force it does not tell."""
    simulator.cluster.network_waits("pve1", simulator.cluster.nodes["pve1"].network[:-1])
    read = session.fetched("node_networks")
    assert {row["node"] for row in read.rows} == {"pve2", "pve3"}
    [gap] = read.gaps
    assert (gap.level, gap.name, gap.kind, gap.is_error) == ("node", "pve1", GapKind.PENDING, False)
    assert gap.reason.startswith("node pve1 has changes of its network that are not applied")
    assert "apply or revert them" in gap.reason


def test_13_one_configuration_that_cannot_be_read(simulator: ProxmoxSimulator, session: ProxmoxSession) -> None:
    simulator.faults.add("/qemu/101/config", status=500, reason="unable to read file")
    read = session.fetched("guest_configs")
    assert gaps(read) == {("guest", "qemu/101")}
    gap = read.gap("guest", "qemu/101")
    assert gap is not None
    assert gap.kind is GapKind.FAILED
    assert "unable to read file" in gap.reason
    assert guests(read) == guests(session.fetched("guests")) - {"qemu/101"}
    agent = session.fetched("guest_agent").gap("guest", "qemu/101")
    assert agent is not None
    assert agent.kind is GapKind.FAILED
    assert session.fetched("guest_snapshots").complete


@pytest.mark.parametrize("kind", ["truncate", "drop"])
def test_13_configuration_that_breaks_off(simulator: ProxmoxSimulator, session: ProxmoxSession, kind: str) -> None:
    session.fetched("guests")
    simulator.faults.add("/qemu/101/config", kind=kind)  # type: ignore[arg-type]
    read = session.fetched("guest_configs")
    assert gaps(read, GapKind.FAILED) == {("guest", "qemu/101")}
    assert len(read.rows) == 12


def test_13_guest_that_migrates_while_it_is_read(simulator: ProxmoxSimulator, session: ProxmoxSession) -> None:
    session.fetched("guests")
    simulator.cluster.migrate("qemu", 100, "pve2")
    read = session.fetched("guest_configs")
    assert read.complete
    assert next(row["node"] for row in read.rows if row["vmid"] == 100) == "pve2"


def test_13_guest_that_goes_away_while_it_is_read(simulator: ProxmoxSimulator, session: ProxmoxSession) -> None:
    session.fetched("guests")
    simulator.cluster.delete_guest("qemu", 120)
    simulator.cluster.delete_guest("lxc", 202)
    read = session.fetched("guest_configs")
    assert gaps(read, GapKind.FAILED) == {("guest", "qemu/120"), ("guest", "lxc/202")}
    assert "went away while it was read" in str(read.gap("guest", "qemu/120"))
    assert session.requests["guests"] == 2, "one second look serves all"


def test_14_silent_agent_is_no_failure(simulator: ProxmoxSimulator, session: ProxmoxSession) -> None:
    simulator.cluster.guests[100].agent = None
    simulator.cluster.guests[101].agent = Agent(error={"class": "CommandDisabled", "desc": "has been disabled"})
    simulator.faults.add("/qemu/102/agent", status=500, reason="VM 102 qmp command failed - got timeout")
    read = session.fetched("guest_agent")
    assert {row["vmid"] for row in read.rows} == {105}
    kinds = {key: read.gap("guest", key) for key in ("qemu/100", "qemu/101", "qemu/102", "qemu/110")}
    assert {key: gap.kind for key, gap in kinds.items() if gap} == {
        "qemu/100": GapKind.OFFLINE,
        "qemu/101": GapKind.NOT_APPLICABLE,
        "qemu/102": GapKind.OFFLINE,
        "qemu/110": GapKind.NOT_APPLICABLE,
    }
    assert not any(gap.is_error for gap in read.gaps)
    assert "has been disabled" in str(kinds["qemu/101"])


def test_15_guests_that_are_off_are_not_asked(simulator: ProxmoxSimulator, session: ProxmoxSession) -> None:
    simulator.cluster.stop("qemu", 100)
    simulator.cluster.stop("lxc", 200)
    agent, containers = session.fetched("guest_agent"), session.fetched("container_interfaces")
    for read, key in ((agent, "qemu/100"), (containers, "lxc/200")):
        gap = read.gap("guest", key)
        assert gap is not None
        assert gap.kind is GapKind.NOT_APPLICABLE
        assert "is not running" in gap.reason
    assert not [path for path in simulator.requests if "/qemu/100/agent" in path or "/lxc/200/interfaces" in path]


def test_guest_stopped_between_list_and_question(simulator: ProxmoxSimulator, session: ProxmoxSession) -> None:
    session.fetched("guest_configs")
    simulator.cluster.stop("qemu", 100)
    simulator.cluster.stop("lxc", 200)
    for name, key in (("guest_agent", "qemu/100"), ("container_interfaces", "lxc/200")):
        gap = session.fetched(name).gap("guest", key)
        assert gap is not None
        assert gap.kind is GapKind.NOT_APPLICABLE, gap


def test_storage_that_is_out_of_reach(simulator: ProxmoxSimulator, session: ProxmoxSession) -> None:
    simulator.faults.add("/storage/nas/content", status=500, reason="storage 'nas' is not online")
    read = session.fetched("storage_content")
    assert gaps(read, GapKind.FAILED) == {("storage", "nas")}
    assert {row["storage"] for row in read.rows} == {"pbs"}


def test_storage_that_no_node_reaches(simulator: ProxmoxSimulator, session: ProxmoxSession) -> None:
    simulator.cluster.storages["nas"].unreachable = {"pve1"}
    simulator.cluster.storages["pbs"].unreachable = {"pve1", "pve2", "pve3"}
    read = session.fetched("storage_content")
    assert gaps(read, GapKind.OFFLINE) == gaps(read) == {("storage", "pbs")}
    assert {row["storage"] for row in read.rows} == {"nas"}
    assert not any("/pve1/" in path and "/nas/content" in path for path in simulator.requests)


def test_storage_that_is_switched_off_keeps_its_backups(simulator: ProxmoxSimulator, session: ProxmoxSession) -> None:
    simulator.cluster.storages["nas"].disable = True
    read = session.fetched("storage_content")
    assert gaps(read, GapKind.OFFLINE) == gaps(read) == {("storage", "nas")}


def test_shared_storage_is_read_through_a_node_that_answers(
    simulator: ProxmoxSimulator, session: ProxmoxSession
) -> None:
    session.fetched("node_storage")
    simulator.faults.add("/nodes/pve1/storage/", status=595)
    read = session.fetched("storage_content")
    assert read.complete
    assert {row["storage"] for row in read.rows} == {"nas", "pbs"}
    assert all(row["node"] is None for row in read.rows)


@pytest.mark.parametrize("flavour", ["7.4", "8.2"])
def test_containers_of_older_releases(flavour: str) -> None:
    with ProxmoxSimulator(load_cluster("ams1"), flavour) as simulator, session_of(simulator) as session:
        read = session.fetched("container_interfaces")
        gap = read.gap("guest", "lxc/200")
        if flavour == "7.4":
            assert read.rows == []
            assert gap is not None
            assert gap.kind is GapKind.OFFLINE
            assert "8.1" in gap.reason
        else:
            assert gap is not None
            assert gap.kind is GapKind.OFFLINE
            assert "one address of each family" in gap.reason
            [row] = [row for row in read.rows if row["vmid"] == 200]
            assert {entry["name"]: entry["mac"] for entry in row["interfaces"]}["eth0"] == "BC:24:11:0A:02:00"


def test_missing_privilege_on_a_whole_source_says_how_to_grant_it(
    simulator: ProxmoxSimulator, session: ProxmoxSession
) -> None:
    simulator.cluster.revoke("Sys.Audit", "/")
    with pytest.raises(PermissionDenied, match=r"Sys\.Audit on /.*pveum acl modify / --users sync@pve"):
        session.fetched("backup_jobs")
