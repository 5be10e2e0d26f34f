"""What the token may see decides which lists prove an absence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxbox_dagster.demo.proxmox import ProxmoxSimulator, load_cluster
from proxbox_dagster.facts import Gap, GapKind
from proxbox_dagster.proxmox.credentials import Credentials
from proxbox_dagster.proxmox.grants import grant, setup_lines
from proxbox_dagster.proxmox.privileges import NEEDS, PrivilegeProof, Privileges
from proxbox_dagster.proxmox.sources import SOURCES

from .proxmox_support import session_of

WHO = Credentials("sync@pve", "netbox")
TOP = ("/", "/access", "/nodes", "/pool", "/sdn", "/storage", "/vms")
LEAST = "VM.Audit VM.Backup VM.GuestAgent.Audit Datastore.Audit Datastore.AllocateSpace Sys.Audit SDN.Audit Pool.Audit"


def proof(answer: dict[str, Any]) -> PrivilegeProof:
    return PrivilegeProof(Privileges(answer), WHO)


def everywhere(*privileges: str, propagate: Any = 1) -> dict[str, Any]:
    return {path: dict.fromkeys(privileges, propagate) for path in TOP}


def places(found: list[Gap]) -> set[tuple[str, str]]:
    assert all(gap.kind is GapKind.PERMISSION for gap in found)
    return {(gap.level, gap.name) for gap in found}


@pytest.mark.parametrize("source", sorted(NEEDS))
def test_documented_least_privileges_suffice(source: str) -> None:
    assert proof(everywhere(*LEAST.split())).gaps(source, "9.1") == []


@pytest.mark.parametrize("source", sorted(NEEDS))
def test_no_privileges_prove_nothing(source: str) -> None:
    answers: list[dict[str, Any]] = [{}, {"/": {}}, everywhere("Sys.Console")]
    for answer in answers:
        assert ("all", "") in places(proof(answer).gaps(source))


def test_privilege_must_propagate() -> None:
    assert places(proof(everywhere("VM.Audit", propagate=0)).gaps("guests")) == {("all", "")}
    assert proof(everywhere("VM.Audit", propagate="1")).gaps("guests") == []


def test_top_level_path_that_is_left_out_does_not_inherit() -> None:
    """Proxmox always answers for /vms, unless there is nothing allowed on it: then / says nothing about it."""
    answer = everywhere("VM.Audit")
    del answer["/vms"]
    assert places(proof(answer).gaps("guests")) == {("all", "")}


def test_deeper_paths() -> None:
    answer = everywhere("VM.Audit") | {"/vms/200": {"VM.Console": 1}, "/vms/201": {"VM.Audit": 0}}
    assert places(proof(answer).gaps("guests")) == {("guest", "qemu/200"), ("guest", "lxc/200")}


def test_guests_of_a_pool_do_not_prove_the_rest() -> None:
    answer = {"/pool/web": {"VM.Audit": 1}, "/vms/100": {"VM.Audit": 1}}
    assert places(proof(answer).gaps("guests")) == {("all", "")}


def test_backups_need_both_sides() -> None:
    both = everywhere("Datastore.AllocateSpace", "VM.Backup")
    assert proof(both).gaps("storage_content") == []
    assert proof(everywhere("Datastore.Audit", "Datastore.Allocate")).gaps("storage_content") == []
    [storage] = proof(everywhere("Datastore.Audit", "VM.Backup")).gaps("storage_content")
    assert "Datastore.AllocateSpace on /storage" in storage.reason
    [guests] = proof(everywhere("Datastore.AllocateSpace")).gaps("storage_content")
    assert "VM.Backup on /vms" in guests.reason
    some = both | {"/storage/nas": {"Datastore.Audit": 1}, "/vms/100": {"VM.Audit": 1}}
    assert places(proof(some).gaps("storage_content")) == {
        ("storage", "nas"),
        ("guest", "qemu/100"),
        ("guest", "lxc/100"),
    }


def test_agent_privilege_is_that_of_the_release() -> None:
    audit = everywhere("VM.Audit")
    assert proof(audit | everywhere("VM.Audit", "VM.Monitor")).gaps("guest_agent", "8.4") == []
    [old] = proof(audit).gaps("guest_agent", "8.4")
    [new] = proof(audit).gaps("guest_agent", "9.1")
    assert "lacks VM.Monitor on /vms" in old.reason
    assert "lacks VM.GuestAgent.Audit on /vms" in new.reason


def test_bridges_are_checked_since_release_8() -> None:
    assert places(proof(everywhere("Sys.Audit")).gaps("node_networks", "8.4")) == {("all", "")}
    assert proof(everywhere("Sys.Audit")).gaps("node_networks", "7.4") == []
    local = {"/sdn/zones/localnetwork": {"SDN.Audit": 1}}
    assert proof(local).gaps("node_networks", "9.1") == []


def test_privileges_that_cannot_be_read() -> None:
    [gap] = PrivilegeProof(None, WHO, "status 501").gaps("guests")
    assert (gap.level, gap.kind) == ("all", GapKind.PERMISSION)
    assert "cannot be proved: status 501" in gap.reason


def test_the_line_that_grants_gives_the_whole_role() -> None:
    """An entry on a path replaces what comes down from above: with one privilege it would take the others away."""
    privs = "Datastore.AllocateSpace,Datastore.Audit,Pool.Audit,SDN.Audit,Sys.Audit,VM.Audit,VM.Backup"
    assert grant("/vms", ["VM.Audit"], "u@pve", None) == (
        f"pveum role add ProxboxSync --privs '{privs}' || pveum role modify ProxboxSync --privs '{privs}' --append 1; "
        "pveum acl modify /vms --users u@pve --roles ProxboxSync"
    )
    with_agent = grant("/vms/100", ["VM.Monitor"], "u@pve", "t")
    assert with_agent.endswith("pveum acl modify /vms/100 --users u@pve --tokens 'u@pve!t' --roles ProxboxSync")
    assert f"--privs '{privs},VM.Monitor'" in with_agent


def test_the_documented_role_is_the_one_of_the_code() -> None:
    operations = (Path(__file__).parent.parent / "docs" / "operations.md").read_text()
    for line in setup_lines("netbox@pve", "sync"):
        assert f"# {line}\n" in operations
    assert "`VM.Monitor` instead of `VM.GuestAgent.Audit`" in " ".join(operations.split())


@pytest.fixture
def simulator() -> Iterator[ProxmoxSimulator]:
    with ProxmoxSimulator(load_cluster("ams1")) as simulator:
        yield simulator


def test_scenario_50_least_privileges_read_everything_with_get(simulator: ProxmoxSimulator) -> None:
    with session_of(simulator) as session:
        full = {name: session.fetched(name) for name in SOURCES}
    simulator.cluster.restrict({"/": set(LEAST.split())})
    simulator.reset_counters()
    with session_of(simulator) as session:
        session.prefetch(SOURCES)
        for name, before in full.items():
            read = session.fetched(name)
            assert read.gaps == before.gaps, name
            assert len(read.frame) == len(before.frame), name
    assert {method for method, *_ in simulator.log} == {"GET"}


def test_agent_is_not_asked_without_the_privilege(simulator: ProxmoxSimulator) -> None:
    simulator.cluster.restrict({"/": set(LEAST.split()) - {"VM.GuestAgent.Audit"}})
    with session_of(simulator) as session:
        read = session.fetched("guest_agent")
    gap = read.gap("guest", "qemu/101")
    assert gap is not None
    assert gap.kind is GapKind.PERMISSION
    assert "VM.GuestAgent.Audit" in gap.reason
    assert not any("/agent/" in path for path in simulator.requests)


def test_pools_are_unknown_without_pool_audit(simulator: ProxmoxSimulator) -> None:
    with session_of(simulator) as session:
        assert {row["vmid"]: row["pool"] for row in session.fetched("guests").rows}[105] is None
    simulator.cluster.restrict({"/": set(LEAST.split()) - {"Pool.Audit"}})
    with session_of(simulator) as session:
        assert {repr(row["pool"]) for row in session.fetched("guests").rows} == {"UNOBSERVED"}


def test_sizes_of_nodes_are_unknown_without_sys_audit_on_them(simulator: ProxmoxSimulator) -> None:
    simulator.cluster.restrict({"/": set(LEAST.split()), "/nodes/pve2": {"Sys.Console"}})
    with session_of(simulator) as session:
        read = session.fetched("nodes")
    assert places(list(read.gaps)) == {("node", "pve2")}
    assert {row["node"]: repr(row["maxmem"]) for row in read.rows}["pve2"] == "UNOBSERVED"


def test_privileges_are_read_once(simulator: ProxmoxSimulator) -> None:
    with session_of(simulator) as session:
        session.prefetch(SOURCES)
    assert simulator.requests["GET /access/permissions"] == 1


def test_failing_permission_read_proves_nothing_but_reads_on(simulator: ProxmoxSimulator) -> None:
    simulator.faults.add("/access/permissions", status=501, reason="Method 'GET /access/permissions' not implemented")
    with session_of(simulator) as session:
        read = session.fetched("guests")
    assert len(read.rows) == 13
    assert places(list(read.gaps)) == {("all", "")}
    assert "cannot be proved" in read.gaps[0].reason
