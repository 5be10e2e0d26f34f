"""Hosts, tokens, ids and errors in every spelling and form."""

from __future__ import annotations

import pickle

import pytest
from pydantic import SecretStr

from proxbox_dagster.proxmox.client import ProxmoxClient, api_path
from proxbox_dagster.proxmox.credentials import Credentials
from proxbox_dagster.proxmox.errors import NodeUnreachable, PermissionDenied
from proxbox_dagster.rules import context_of
from proxbox_dagster.scope import Scope
from proxbox_dagster_tests.support.graph import two_endpoints

from .proxmox_support import CANARY, Answer, ScriptedServer, data, endpoint

pytestmark = pytest.mark.filterwarnings("ignore:Unverified HTTPS request")


def test_ids_are_percent_encoded() -> None:
    seen: list[str] = []

    def answer(_method: str, path: str) -> Answer:
        seen.append(path)
        return data([])

    with ScriptedServer(answer) as server:
        client = ProxmoxClient(endpoint("127.0.0.1", server.port, False))
        client.get(api_path("nodes", "pve1", "storage", "a#b?c/d e%", "content"), content="backup", vmid=None)
    assert seen == ["/api2/json/nodes/pve1/storage/a%23b%3Fc%2Fd%20e%25/content?content=backup"]
    for bad in ("", ".", ".."):
        with pytest.raises(ValueError):
            api_path("nodes", bad, "network")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("netbox", CANARY),
        ("sync@pve!netbox", CANARY),
        (f"PVEAPIToken=sync@pve!netbox={CANARY}", CANARY),
        ("netbox", f"PVEAPIToken=sync@pve!netbox={CANARY}"),
        ("netbox", f"sync@pve!netbox={CANARY}"),
    ],
)
def test_tokens_in_every_spelling(name: str, value: str) -> None:
    found = Credentials.of(endpoint("h", 1, True, token_name=name, token_value=SecretStr(value)))
    assert (found.user, found.token_name, found.token_value) == ("sync@pve", "netbox", CANARY)


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("pve1", "pve1:8006"),
        ("pve1:443", "pve1:443"),
        ("2001:db8::1", "[2001:db8::1]:8006"),
        ("[2001:db8::1]", "[2001:db8::1]:8006"),
        ("[2001:db8::1]:443", "[2001:db8::1]:443"),
        ("https://pve1.example.org:8007/", "pve1.example.org:8007"),
    ],
)
def test_hosts_in_every_spelling(host: str, shown: str) -> None:
    client = ProxmoxClient(endpoint(host, 8006, True))
    assert client.host == shown
    assert client._api(0)._store["base_url"] == f"https://{shown}/api2/json"
    context = context_of(two_endpoints().require(), endpoint(host, 8006, True), Scope())
    assert context.link("cluster") == f"https://{shown}/#v1:0:=cluster"


def test_errors_survive_pickling() -> None:
    error = PermissionDenied("no", reason="Permission check failed (/, Sys.Audit)", host="h", path="/p", status=403)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.privilege, again.path) == (PermissionDenied, "no", "Sys.Audit", "/p")
    node = pickle.loads(pickle.dumps(NodeUnreachable("down", node="pve1")))
    assert (node.node, str(node)) == ("pve1", "down")
