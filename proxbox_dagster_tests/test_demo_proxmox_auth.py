"""Tokens, tickets and privileges of the simulated Proxmox."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from proxmoxer import AuthenticationError, ProxmoxAPI, ResourceException

from proxbox_dagster.demo.proxmox import FLAVOURS, ProxmoxSimulator, load_cluster

from .proxmox_http import Wire

AUDITOR = {"Datastore.Audit", "Mapping.Audit", "Pool.Audit", "SDN.Audit", "Sys.Audit", "VM.Audit"}


@pytest.fixture
def simulator() -> Iterator[ProxmoxSimulator]:
    with ProxmoxSimulator(load_cluster("ams1")) as running:
        running.auth_delay = 0.01
        yield running


@pytest.fixture
def wire(simulator: ProxmoxSimulator) -> Wire:
    return Wire(simulator)


def _proxmoxer(simulator: ProxmoxSimulator, **login: str) -> ProxmoxAPI:
    return ProxmoxAPI(
        simulator.host, port=simulator.port, user=simulator.user, verify_ssl=str(simulator.ca_file), **login
    )


def test_proxmoxer_with_a_token(simulator: ProxmoxSimulator) -> None:
    api = _proxmoxer(simulator, token_name=simulator.token_name, token_value=simulator.token_value)
    assert api.version.get()["release"] == "9.1"
    assert api.nodes("pve1").qemu(100).config.get()["name"] == "web01"


def test_proxmoxer_with_a_password(simulator: ProxmoxSimulator) -> None:
    assert _proxmoxer(simulator, password=simulator.password).version.get()["release"] == "9.1"
    assert simulator.requests["POST /access/ticket"] == 1
    with pytest.raises(AuthenticationError):
        _proxmoxer(simulator, password="wrong")


def test_proxmoxer_reads_the_reason_phrase(simulator: ProxmoxSimulator) -> None:
    api = _proxmoxer(simulator, token_name=simulator.token_name, token_value=simulator.token_value)
    with pytest.raises(ResourceException) as caught:
        api.nodes("pve2").qemu(110).agent("network-get-interfaces").get()
    assert (caught.value.status_code, caught.value.content) == (500, "No QEMU guest agent configured")
    api = _proxmoxer(simulator, token_name=simulator.token_name, token_value="wrong")
    with pytest.raises(ResourceException) as caught:
        api.version.get()
    assert (caught.value.status_code, caught.value.content) == (401, "Authentication failed!")


def test_tickets(simulator: ProxmoxSimulator, wire: Wire) -> None:
    login = {"username": simulator.user, "password": simulator.password}
    answer = wire.ask("/access/ticket", "POST", {}, data=login).json()["data"]
    assert answer["username"] == simulator.user
    assert answer["clustername"] == "ams1"
    cookie = {"Cookie": f"PVEAuthCookie={answer['ticket']}"}
    assert wire.ask("/version", headers=cookie).status_code == 200
    without = wire.ask("/version", "POST", cookie)
    assert (without.status_code, without.reason) == (401, "Permission denied - invalid csrf token")
    signed = wire.ask("/version", "POST", cookie | {"CSRFPreventionToken": answer["CSRFPreventionToken"]})
    assert signed.status_code == 501
    renewed = wire.ask("/access/ticket", "POST", {}, data=login | {"password": answer["ticket"]})
    assert renewed.status_code == 200
    simulator.credentials.expire_tickets()
    assert wire.ask("/version", headers=cookie).status_code == 401


def test_a_ticket_takes_a_user_and_a_realm(simulator: ProxmoxSimulator, wire: Wire) -> None:
    login = {"username": "sync", "realm": "pve", "password": simulator.password}
    assert wire.ask("/access/ticket", "POST", {}, data=login).status_code == 200
    missing = wire.ask("/access/ticket", "POST", {}, data={"username": "sync@pve"})
    assert missing.status_code == 400
    assert set(missing.json()["errors"]) == {"password"}


def test_an_old_ticket_is_void(simulator: ProxmoxSimulator, wire: Wire) -> None:
    login = {"username": simulator.user, "password": simulator.password}
    ticket = wire.ask("/access/ticket", "POST", {}, data=login).json()["data"]["ticket"]
    simulator.credentials.lifetime = -1
    assert wire.ask("/version", headers={"Cookie": f"PVEAuthCookie={ticket}"}).status_code == 401


def test_a_privilege_that_is_missing(simulator: ProxmoxSimulator, wire: Wire) -> None:
    simulator.cluster.revoke("VM.Audit", "/vms/100")
    answer = wire.ask("/nodes/pve1/qemu/100/config")
    assert (answer.status_code, answer.reason) == (403, "Permission check failed (/vms/100, VM.Audit)")
    assert answer.json() == {"data": None, "message": "Permission check failed (/vms/100, VM.Audit)\n"}


def test_lists_are_shortened_without_a_word(simulator: ProxmoxSimulator, wire: Wire) -> None:
    whole = {row["id"] for row in wire.data("/cluster/resources?type=vm")}
    simulator.cluster.revoke("VM.Audit", "/vms/100")
    assert {row["id"] for row in wire.data("/cluster/resources?type=vm")} == whole - {"qemu/100"}
    assert 100 not in {row["vmid"] for row in wire.data("/nodes/pve1/qemu")}
    simulator.cluster.revoke("Datastore.Audit")
    assert wire.data("/cluster/resources?type=storage") == []
    simulator.cluster.revoke("Sys.Audit")
    nodes = wire.data("/cluster/resources?type=node")
    assert {row["node"] for row in nodes} == {"pve1", "pve2", "pve3"}
    assert all("maxcpu" not in row and "mem" not in row for row in nodes)
    for path in ("/cluster/status", "/cluster/backup", "/nodes/pve1/status", "/cluster/ha/status/current"):
        assert wire.ask(path).status_code == 403
    assert wire.data("/nodes/pve1/tasks") == []


def test_a_token_of_nobody_sees_nothing(simulator: ProxmoxSimulator, wire: Wire) -> None:
    simulator.cluster.restrict({})
    assert wire.data("/cluster/resources?type=vm") == []
    assert wire.data("/storage") == []
    assert wire.data("/cluster/replication") == []
    assert set(wire.data("/cluster/options")) == {"console", "tag-style", "allowed-tags"}
    assert wire.data("/access/permissions") == {}


def test_backups_need_more_than_an_auditor_has(simulator: ProxmoxSimulator, wire: Wire) -> None:
    path = "/nodes/pve1/storage/nas/content?content=backup"
    assert len(wire.data(path)) == 3
    simulator.cluster.restrict({"/": AUDITOR})
    assert wire.data(path) == []
    simulator.cluster.restrict({"/": AUDITOR | {"VM.Backup", "Datastore.AllocateSpace"}})
    assert len(wire.data(path)) == 3
    simulator.cluster.revoke("VM.Backup", "/vms/200")
    assert {row["vmid"] for row in wire.data(path)} == {100}


def test_bridges_need_a_privilege_of_sdn(simulator: ProxmoxSimulator, wire: Wire) -> None:
    assert {row["iface"] for row in wire.data("/nodes/pve1/network?type=bridge")} == {"vmbr0", "vmbr1"}
    simulator.cluster.restrict({"/": AUDITOR - {"SDN.Audit"}})
    left = {row["iface"] for row in wire.data("/nodes/pve1/network")}
    assert "vmbr0" not in left
    assert "bond0" in left


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_agent_needs_the_privilege_of_its_release(flavour: str) -> None:
    wanted = "VM.GuestAgent.Audit" if flavour == "9.1" else "VM.Monitor"
    other = {"VM.GuestAgent.Audit": "VM.Monitor", "VM.Monitor": "VM.GuestAgent.Audit"}[wanted]
    with ProxmoxSimulator(load_cluster("ams1"), flavour) as simulator:
        wire = Wire(simulator)
        simulator.cluster.restrict({"/": AUDITOR | {wanted}})
        assert wire.ask("/nodes/pve1/qemu/100/agent/network-get-interfaces").status_code == 200
        assert wire.data("/access/permissions?path=/vms")["/vms"][wanted] == 1
        simulator.cluster.restrict({"/": AUDITOR | {other}})
        answer = wire.ask("/nodes/pve1/qemu/100/agent/network-get-interfaces")
        assert answer.status_code == 403
        assert wanted in answer.reason
        assert other not in wire.data("/access/permissions?path=/vms")["/vms"]


def test_a_pool_grants_its_members(simulator: ProxmoxSimulator, wire: Wire) -> None:
    simulator.cluster.restrict({"/pool/production": {"VM.Audit", "Pool.Audit"}})
    assert {row["vmid"] for row in wire.data("/cluster/resources?type=vm")} == {100, 101, 102, 200, 201}
    assert wire.data("/pools") == [{"poolid": "production", "comment": "Machines that customers see"}]


def test_the_nearest_entry_counts(simulator: ProxmoxSimulator, wire: Wire) -> None:
    simulator.cluster.restrict({"/": AUDITOR, "/vms/100": set()})
    assert wire.ask("/nodes/pve1/qemu/100/config").status_code == 403
    assert wire.ask("/nodes/pve1/qemu/102/config").status_code == 200


def test_an_unknown_privilege_is_a_mistake_of_the_test(simulator: ProxmoxSimulator) -> None:
    with pytest.raises(ValueError, match=r"VM\.Look"):
        simulator.cluster.restrict({"/": {"VM.Look"}})
