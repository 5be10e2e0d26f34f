"""How the client logs in, and that nobody but Proxmox is given the secret."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from proxbox_dagster.demo.proxmox import ProxmoxSimulator, load_cluster
from proxbox_dagster.proxmox.client import ProxmoxClient
from proxbox_dagster.proxmox.errors import AuthenticationFailed, NotProxmox, ProxmoxError

from .proxmox_support import CANARY, ScriptedServer, data, endpoint, endpoint_of

pytestmark = pytest.mark.filterwarnings("ignore:Unverified HTTPS request")


@pytest.fixture
def simulator() -> Iterator[ProxmoxSimulator]:
    with ProxmoxSimulator(load_cluster("ams1")) as simulator:
        simulator.auth_delay = 0.0
        yield simulator


def test_password_logs_in_with_a_ticket(simulator: ProxmoxSimulator) -> None:
    settings = endpoint_of(simulator, token_name=None, token_value=None, password=SecretStr(simulator.password))
    client = ProxmoxClient(settings)
    assert client.get("/version", expect=dict)
    assert client.get("/nodes", expect=list)
    assert simulator.requests["POST /access/ticket"] == 1
    assert {method for method, *_ in simulator.log} == {"GET", "POST"}


def test_wrong_token_names_the_token_and_not_its_value(simulator: ProxmoxSimulator) -> None:
    client = ProxmoxClient(endpoint_of(simulator, token_value=SecretStr(CANARY)))
    with pytest.raises(AuthenticationFailed) as caught:
        client.get("/version")
    assert "API token sync@pve!netbox" in str(caught.value)
    assert CANARY not in str(caught.value)
    assert CANARY not in repr(client.credentials)
    with pytest.raises(AuthenticationFailed):
        client.get("/nodes")
    assert sum(simulator.requests.values()) == 1, "a refused token is not tried again"


def test_wrong_password_is_tried_once_by_all_threads(simulator: ProxmoxSimulator) -> None:
    settings = endpoint_of(simulator, token_name=None, token_value=None, password=SecretStr(CANARY))
    client = ProxmoxClient(settings)
    errors: list[BaseException] = []

    def read() -> None:
        try:
            client.get("/version")
        except ProxmoxError as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [type(error) for error in errors] == [AuthenticationFailed] * 6
    assert CANARY not in str(errors[0])
    assert simulator.requests["POST /access/ticket"] == 1


def test_token_is_not_handed_to_where_a_redirect_leads() -> None:
    other = ScriptedServer(lambda *_: data([]))
    here = ScriptedServer(
        lambda *_: (302, "Found", b"", {"Location": f"https://127.0.0.1:{other.port}/api2/json/nodes"})
    )
    with other, here, pytest.raises(NotProxmox):
        ProxmoxClient(endpoint("127.0.0.1", here.port, False)).get("/nodes")
    assert other.asked == []


@pytest.mark.parametrize("status", [302, 307, 308])
def test_password_is_not_handed_to_where_a_redirect_leads(status: int) -> None:
    other = ScriptedServer(lambda *_: data({"ticket": "PVE:x", "CSRFPreventionToken": "y", "username": "sync@pve"}))
    target = "/api2/json/access/ticket"
    here = ScriptedServer(lambda *_: (status, "Moved", b"", {"Location": f"https://127.0.0.1:{other.port}{target}"}))
    login = {"token_name": None, "token_value": None, "password": SecretStr(CANARY)}
    with other, here, pytest.raises(NotProxmox, match="a redirect"):
        ProxmoxClient(endpoint("127.0.0.1", here.port, False, **login)).get("/nodes")
    assert here.asked == [target]
    assert other.asked == []
