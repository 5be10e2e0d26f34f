"""The client of Proxmox: what it makes of every kind of answer, when it tries again, and where."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import SecretStr
from tenacity import wait_exponential, wait_fixed, wait_random

from proxbox_dagster.demo.proxmox import ProxmoxSimulator, load_cluster
from proxbox_dagster.proxmox import client as client_module
from proxbox_dagster.proxmox.client import ProxmoxClient
from proxbox_dagster.proxmox.errors import (
    ApiError,
    AuthenticationFailed,
    BadAnswer,
    CertificateNotTrusted,
    NoAnswer,
    NodeUnreachable,
    NotProxmox,
    PermissionDenied,
    ProxmoxError,
    Unreachable,
)

from .proxmox_support import CANARY, Answer, ScriptedServer, data, endpoint, endpoint_of

pytestmark = pytest.mark.filterwarnings("ignore:Unverified HTTPS request")


@pytest.fixture(scope="module")
def shared() -> Iterator[ProxmoxSimulator]:
    with ProxmoxSimulator(load_cluster("ams1")) as simulator:
        simulator.auth_delay = 0.0
        yield simulator


@pytest.fixture
def simulator(shared: ProxmoxSimulator) -> ProxmoxSimulator:
    shared.faults.clear()
    shared.cluster.grant_all()
    shared.reset_counters()
    return shared


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between attempts of milliseconds; their growth and number stay."""
    monkeypatch.setattr(client_module, "PAUSE", wait_exponential(multiplier=0.01, max=0.05) + wait_random(0, 0.01))


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    return tmp_path / "ca.pem"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_reads_and_checks_the_type(simulator: ProxmoxSimulator) -> None:
    client = ProxmoxClient(endpoint_of(simulator))
    assert client.get("/version", expect=dict)["version"] == "9.1.4"
    assert {row["node"] for row in client.get("/nodes", expect=list)} == {"pve1", "pve2", "pve3"}
    assert [row["type"] for row in client.get("/cluster/resources", type="node")] == ["node"] * 3
    with pytest.raises(BadAnswer, match="dict instead of a list"):
        client.get("/version", expect=list)
    client.close()


def test_missing_privilege_is_named_with_the_line_that_grants_it(simulator: ProxmoxSimulator) -> None:
    simulator.cluster.revoke("VM.Audit", "/vms/100")
    client = ProxmoxClient(endpoint_of(simulator))
    with pytest.raises(PermissionDenied) as caught:
        client.get("/nodes/pve1/qemu/100/config")
    error = caught.value
    assert (error.privilege, error.object_path, error.status) == ("VM.Audit", "/vms/100", 403)
    assert "pveum acl modify /vms/100 --users sync@pve --tokens 'sync@pve!netbox' --roles ProxboxSync" in str(error)


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/nodes/pve1/qemu/999/config", 500, "Configuration file 'nodes/pve1/qemu-server/999.conf' does not exist"),
        ("/nosuch/path", 501, "not implemented"),
        ("/cluster/resources?typ=vm", 400, "Parameter verification failed"),
    ],
)
def test_answers_of_proxmox_are_not_tried_again(simulator: ProxmoxSimulator, path: str, status: int, text: str) -> None:
    client = ProxmoxClient(endpoint_of(simulator))
    with pytest.raises(ApiError) as caught:
        client.get(path)
    assert caught.value.status == status
    assert text in str(caught.value)
    assert sum(simulator.requests.values()) == 1


def test_error_text_of_older_releases_is_in_the_reason(simulator: ProxmoxSimulator) -> None:
    simulator.faults.add("/storage", status=500, reason="Speicher nicht verfügbar")
    with pytest.raises(ApiError) as caught:
        ProxmoxClient(endpoint_of(simulator)).get("/storage")
    assert caught.value.reason == "Speicher nicht verfügbar"


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 502, "kind": "html"},
        {"status": 503},
        {"status": 504, "kind": "html"},
        {"status": 595},
        {"status": 596},
        {"kind": "drop"},
        {"kind": "truncate"},
    ],
)
def test_passing_faults_are_ridden_out(simulator: ProxmoxSimulator, fault: dict[str, Any]) -> None:
    struck = simulator.faults.add("/cluster/status", count=1, **fault)
    client = ProxmoxClient(endpoint_of(simulator))
    assert client.get("/cluster/status", expect=list)
    assert struck.struck == 1
    assert client.requests == 2


def test_timeout_is_told_apart_from_an_endpoint_that_is_down(simulator: ProxmoxSimulator) -> None:
    fault = simulator.faults.add("/nodes/pve1/network", delay=5)
    client = ProxmoxClient(endpoint_of(simulator, timeout=0.2, retry_budget=0.5))
    assert client.get("/version")
    with pytest.raises(NoAnswer, match="no answer to GET /nodes/pve1/network in time"):
        client.get("/nodes/pve1/network")
    assert fault.struck >= 2


def test_slow_nodes_do_not_lose_the_endpoint(simulator: ProxmoxSimulator) -> None:
    simulator.faults.add("/nodes/", delay=5)
    client = ProxmoxClient(endpoint_of(simulator, timeout=0.2, retry_budget=0))
    for node in ("pve1", "pve2", "pve3"):
        with pytest.raises(NoAnswer):
            client.get(f"/nodes/{node}/network")
    assert client.get("/version")


def test_node_out_of_reach_gets_one_second_look(simulator: ProxmoxSimulator) -> None:
    fault = simulator.faults.add("/nodes/pve3/", status=595)
    client = ProxmoxClient(endpoint_of(simulator))
    with pytest.raises(NodeUnreachable) as caught:
        client.get("/nodes/pve3/network")
    assert (caught.value.node, caught.value.status) == ("pve3", 595)
    assert fault.struck == 2


@pytest.mark.parametrize("reason", ["no such cluster node 'pve3'", "hostname lookup 'pve3' failed - Name unknown"])
def test_member_that_the_answering_node_does_not_find_is_out_of_reach(simulator: ProxmoxSimulator, reason: str) -> None:
    """The cluster lists it, so it is no wrong path: it has just been removed, or the cluster's file system restarts."""
    fault = simulator.faults.add("/nodes/pve3/", status=500, reason=reason)
    simulator.faults.add("/nodes/pve2/", status=500, reason=reason)
    client = ProxmoxClient(endpoint_of(simulator))
    with pytest.raises(NodeUnreachable, match=reason) as caught:
        client.get("/nodes/pve3/network")
    assert (caught.value.node, caught.value.status) == ("pve3", 500)
    assert fault.struck == 2
    with pytest.raises(ApiError):
        client.get("/nodes/pve2/network")


@pytest.mark.parametrize("kind", ["html", "redirect"])
def test_something_else_answers(simulator: ProxmoxSimulator, kind: Any) -> None:
    simulator.faults.add("/version", kind=kind)
    with pytest.raises(NotProxmox, match="is no Proxmox VE API") as caught:
        ProxmoxClient(endpoint_of(simulator)).get("/version")
    assert "8006" in str(caught.value)
    assert sum(simulator.requests.values()) == 1, "neither followed nor repeated"


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        (b'{"data":[{"node":"pv', 200, BadAnswer),
        (b"", 200, BadAnswer),
        (b"[1, 2]", 200, BadAnswer),
        (b"7", 200, BadAnswer),
        (b'{"message":"x"}', 200, BadAnswer),
        (b"\xff\xfe", 200, BadAnswer),
        (b"  <html>login</html>", 200, NotProxmox),
        (b"<html>not here</html>", 404, NotProxmox),
        (b"null", 500, BadAnswer),
        (b"[]", 500, BadAnswer),
        (b"", 500, ApiError),
        (b'{"data":null,"errors":{"vmid":"type check failed\\n"}}', 400, ApiError),
    ],
)
def test_bodies_that_proxmoxer_trips_over(body: bytes, status: int, expected: type[ProxmoxError]) -> None:
    def answer(_method: str, _path: str) -> Answer:
        return status, "Some Reason", body, {"Content-Type": "application/json"}

    with ScriptedServer(answer) as server, pytest.raises(expected) as caught:
        ProxmoxClient(endpoint("127.0.0.1", server.port, False)).get("/nodes", expect=list)
    assert f"127.0.0.1:{server.port}" in str(caught.value)
    assert "\n" not in str(caught.value)
    if status == 400:
        assert "vmid: type check failed" in str(caught.value)


def test_dropped_connections_are_no_answer() -> None:
    with ScriptedServer(lambda *_: None) as server:
        client = ProxmoxClient(endpoint("127.0.0.1", server.port, False, retry_budget=1.0))
        with pytest.raises(NoAnswer, match="dropped the connection"):
            client.get("/nodes")
        assert len(server.asked) > 1


def test_nothing_listens() -> None:
    client = ProxmoxClient(endpoint("127.0.0.1", free_port(), False, retry_budget=1.0))
    with pytest.raises(Unreachable, match=r"cannot be reached.*refused.*Check the host, the port"):
        client.get("/version")
    tried = client.requests
    assert tried > 1
    with pytest.raises(Unreachable):
        client.get("/nodes")
    assert client.requests == tried, "a lost endpoint is not tried again by every read"


def test_host_name_unknown() -> None:
    client = ProxmoxClient(endpoint("no-such-host.invalid", 8006, False, retry_budget=0))
    with pytest.raises(Unreachable, match=r"no-such-host\.invalid:8006 cannot be reached"):
        client.get("/version")


def test_no_tls_on_the_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)

        def speak_http() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=speak_http)
        thread.start()
        client = ProxmoxClient(endpoint("127.0.0.1", listener.getsockname()[1], False, retry_budget=0))
        with pytest.raises(Unreachable, match="does not speak TLS"):
            client.get("/version")
        thread.join()


def test_certificate_that_is_not_trusted(simulator: ProxmoxSimulator, ca_file: Path) -> None:
    for verify in (True, str(ca_file)):
        trustme.CA().cert_pem.write_to_path(ca_file)
        client = ProxmoxClient(endpoint_of(simulator, verify_ssl=verify))
        with pytest.raises(CertificateNotTrusted, match=r"pve-root-ca\.pem"):
            client.get("/version")
        assert client.requests == 1
    assert ProxmoxClient(endpoint_of(simulator, verify_ssl=False)).get("/version")


def test_certificate_of_another_name(ca_file: Path) -> None:
    with ScriptedServer(lambda *_: data({}), name="elsewhere.example.org") as server:
        server.authority.cert_pem.write_to_path(ca_file)
        with pytest.raises(CertificateNotTrusted, match="use a host name that is in the certificate"):
            ProxmoxClient(endpoint("127.0.0.1", server.port, ca_file)).get("/version")


def test_ca_file_that_is_gone(simulator: ProxmoxSimulator, ca_file: Path) -> None:
    with pytest.raises(CertificateNotTrusted, match=f"CA file {ca_file}"):
        ProxmoxClient(endpoint_of(simulator, verify_ssl=str(ca_file))).get("/version")


def test_fails_over_to_the_next_host_and_stays(simulator: ProxmoxSimulator) -> None:
    with ScriptedServer(lambda *_: (200, "OK", b"<html>", {})) as page:
        dead, html = f"127.0.0.1:{free_port()}", f"127.0.0.1:{page.port}"
        settings = endpoint_of(simulator, hosts=(dead, html, f"localhost:{simulator.port}"), verify_ssl=False)
        client = ProxmoxClient(settings)
        for _ in range(3):
            assert client.get("/version", expect=dict)
        assert len(page.asked) == 1
        assert client.requests == 5
        assert client.host == f"localhost:{simulator.port}"


def test_failover_when_the_chosen_node_goes_down() -> None:
    with ProxmoxSimulator(load_cluster("ams1")) as simulator:
        hosts = tuple(f"127.0.0.1:{simulator.ports[name]}" for name in ("pve1", "pve2"))
        client = ProxmoxClient(endpoint_of(simulator, hosts=hosts))
        assert client.get("/version")
        simulator.cluster.node_offline("pve1")
        rows = client.get("/cluster/status", expect=list)
        assert {row["name"]: row["online"] for row in rows if row["type"] == "node"}["pve1"] == 0
        assert client.host == hosts[1]


def test_all_hosts_fail_and_all_are_named() -> None:
    hosts = tuple(f"127.0.0.1:{free_port()}" for _ in range(2))
    client = ProxmoxClient(endpoint("", 8006, False, hosts=hosts, retry_budget=0))
    with pytest.raises(Unreachable) as caught:
        client.get("/version")
    assert all(host in str(caught.value) for host in hosts)


def test_loopback_is_not_asked_through_a_proxy(simulator: ProxmoxSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert ProxmoxClient(endpoint_of(simulator)).get("/version")
    secret = {"token_name": None, "token_value": None, "password": SecretStr(simulator.password)}
    assert ProxmoxClient(endpoint_of(simulator, **secret)).get("/version")


def test_connections_are_bounded(simulator: ProxmoxSimulator) -> None:
    under_way, most, lock = 0, 0, threading.Lock()
    all_in = threading.Barrier(2)

    def answer(_method: str, _path: str) -> Answer:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        all_in.wait(timeout=5)
        with lock:
            under_way -= 1
        return data([])

    with ScriptedServer(answer) as server:
        client = ProxmoxClient(endpoint("127.0.0.1", server.port, False), max_connections=2)
        threads = [threading.Thread(target=client.get, args=("/nodes",)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (most, len(server.asked)) == (2, 6)


def test_close_ends_the_wait_for_the_next_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PAUSE", wait_fixed(60))
    client = ProxmoxClient(endpoint("127.0.0.1", free_port(), False, retry_budget=600))
    client._connected = True
    failed = threading.Event()

    def read() -> None:
        with pytest.raises(ProxmoxError):
            client.get("/version")
        failed.set()

    thread = threading.Thread(target=read)
    thread.start()
    client.close()
    assert failed.wait(5)
    thread.join()


def test_nothing_secret_is_logged(simulator: ProxmoxSimulator, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        ProxmoxClient(endpoint_of(simulator)).get("/version")
        with pytest.raises(AuthenticationFailed):
            ProxmoxClient(endpoint_of(simulator, token_value=SecretStr(CANARY))).get("/version")
    assert simulator.token_value not in caplog.text
    assert CANARY not in caplog.text
