"""The simulated Proxmox answers on the wire as the real HTTP server was seen to answer."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator

import pytest
import requests

from proxbox_dagster.demo.proxmox import ProxmoxSimulator, load_cluster

from .proxmox_http import Wire

CONFIG_GONE = "Configuration file 'nodes/pve1/qemu-server/999.conf' does not exist"
ERRORS = [
    # path, status, reason phrase, message in the body
    ("/nosuch/path", 501, "Method 'GET /nosuch/path' not implemented", "Method 'GET /nosuch/path' not implemented"),
    ("/nodes/pve1/qemu/999/config", 500, CONFIG_GONE, CONFIG_GONE + "\n"),
    ("/nodes/gone/qemu", 500, "no such cluster node 'gone'", "no such cluster node 'gone'\n"),
    ("/cluster/replication/100-9", 500, "no such replication job '100-9'", "no such replication job '100-9'\n"),
    (
        "/nodes/pve2/qemu/110/agent/network-get-interfaces",
        500,
        "No QEMU guest agent configured",
        "No QEMU guest agent configured\n",
    ),
    ("/nodes/pve3/qemu/104/agent/network-get-interfaces", 500, "VM 104 is not running", "VM 104 is not running\n"),
]
HEADERS = {"Server": "pve-api-daemon/3.0", "Cache-Control": "max-age=0", "Pragma": "no-cache"}


@pytest.fixture
def simulator() -> Iterator[ProxmoxSimulator]:
    with ProxmoxSimulator(load_cluster("ams1")) as running:
        running.auth_delay = 0.05
        yield running


@pytest.fixture
def wire(simulator: ProxmoxSimulator) -> Wire:
    return Wire(simulator)


def test_success(wire: Wire) -> None:
    answer = wire.ask("/version")
    assert (answer.status_code, answer.reason) == (200, "OK")
    assert answer.headers["Content-Type"] == "application/json;charset=UTF-8"
    assert answer.headers["Connection"] == "Keep-Alive"
    assert {key: answer.headers[key] for key in HEADERS} == HEADERS
    assert answer.headers["Expires"] == answer.headers["Date"]
    assert answer.json()["data"].items() >= {"version": "9.1.4", "release": "9.1"}.items()


def test_keys_come_in_no_order(wire: Wire) -> None:
    orders = {tuple(wire.data("/nodes/pve1/qemu/100/config")) for _ in range(12)}
    assert len(orders) > 1
    assert len({frozenset(order) for order in orders}) == 1


def test_gzip_over_1024_bytes_when_accepted(wire: Wire) -> None:
    url = wire.simulator.url + "/api2/json/cluster/resources"
    accepting = wire.session.get(url, headers=wire.token | {"Accept-Encoding": "gzip"}, stream=True, timeout=20)
    raw = accepting.raw.read(decode_content=False)
    assert accepting.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(raw).startswith(b'{"data":[')
    plain = wire.session.get(url, headers=wire.token | {"Accept-Encoding": "identity"}, timeout=20)
    assert "Content-Encoding" not in plain.headers
    small = wire.session.get(wire.simulator.url + "/api2/json/version", headers=wire.token, timeout=20)
    assert "Content-Encoding" not in small.headers


def test_text_is_raw_utf8(simulator: ProxmoxSimulator, wire: Wire) -> None:
    simulator.cluster.set_config("qemu", 100, "description", "bäckup-测试")
    assert "bäckup-测试".encode() in wire.ask("/nodes/pve1/qemu/100/config").content


def test_no_value_is_null(wire: Wire) -> None:
    answer = wire.ask("/nodes/pve3/lxc/202/interfaces")
    assert (answer.status_code, answer.content) == (200, b'{"data":null}')


def test_total_stands_beside_the_data(wire: Wire) -> None:
    answer = wire.ask("/nodes/pve1/tasks", params={"limit": 2}).json()
    assert answer["total"] > len(answer["data"]) == 2


def test_a_network_that_waits_to_be_applied_is_listed_with_its_difference_beside(
    simulator: ProxmoxSimulator, wire: Wire
) -> None:
    assert wire.ask("/nodes/pve1/network").json().keys() == {"data"}
    rows = [{**row} for row in simulator.cluster.nodes["pve1"].network]
    [bridge] = [row for row in rows if row["iface"] == "vmbr0"]
    bridge["cidr"], bridge["address"] = "192.0.2.99/24", "192.0.2.99"
    simulator.cluster.network_waits("pve1", rows)
    answer = wire.ask("/nodes/pve1/network").json()
    assert answer.keys() == {"data", "changes"}
    lines = answer["changes"].splitlines()
    assert lines[:2] == ["--- /etc/network/interfaces", "+++ /etc/network/interfaces.new"]
    assert "+\taddress 192.0.2.99" in lines
    assert [row["address"] for row in answer["data"] if row["iface"] == "vmbr0"] == ["192.0.2.99"]
    assert wire.data("/nodes/pve1/network/vmbr0")["address"] == "192.0.2.99"
    simulator.cluster.network_waits("pve1", None)
    assert wire.ask("/nodes/pve1/network").json().keys() == {"data"}


def test_a_node_whose_name_does_not_resolve(simulator: ProxmoxSimulator, wire: Wire) -> None:
    simulator.cluster.node_unresolved("pve2")
    text = "hostname lookup 'pve2' failed - failed to get address info for: pve2: Name or service not known"
    for path in ("/nodes/pve2/qemu", "/nodes/pve2/version", "/nodes/pve2/network"):
        answer = wire.ask(path)
        assert (answer.status_code, answer.reason) == (500, text)
        assert answer.json() == {"data": None, "message": text + "\n"}
    assert [row["status"] for row in wire.data("/cluster/resources?type=node") if row["node"] == "pve2"] == ["online"]
    assert [row.get("ip") for row in wire.data("/cluster/status") if row.get("name") == "pve2"] == [None]
    own = f"https://127.0.0.1:{simulator.ports['pve2']}/api2/json/nodes/pve2/version"
    assert wire.session.get(own, headers=wire.token, timeout=20).status_code == 200, "it knows itself"


def test_the_state_of_ha_may_name_a_node_that_is_none(simulator: ProxmoxSimulator, wire: Wire) -> None:
    before = wire.data("/cluster/ha/status/current")
    simulator.cluster.ha_strangers.append("")
    [row] = [row for row in wire.data("/cluster/ha/status/current") if row not in before]
    assert row == {"id": "lrm:", "type": "lrm", "node": "", "status": " (unable to read lrm status)"}


@pytest.mark.parametrize(("path", "status", "reason", "message"), ERRORS)
def test_errors(wire: Wire, path: str, status: int, reason: str, message: str) -> None:
    answer = wire.ask(path)
    assert (answer.status_code, answer.reason) == (status, reason)
    assert answer.json() == {"data": None, "message": message}
    assert answer.headers["Connection"] == "close"


def test_releases_before_8_3_say_it_only_in_the_reason_phrase() -> None:
    with ProxmoxSimulator(load_cluster("ams1"), flavour="7.4") as old:
        answer = Wire(old).ask("/nodes/pve1/qemu/999/config")
        assert (answer.status_code, answer.reason, answer.content) == (500, CONFIG_GONE, b'{"data":null}')


@pytest.mark.parametrize(
    ("path", "parameter", "text"),
    [
        ("/cluster/resources?typ=vm", "typ", "property is not defined in schema"),
        ("/cluster/resources?type=guests", "type", "does not have a value in the enumeration 'vm, storage, node, sdn'"),
        ("/nodes/pve1/tasks?limit=many", "limit", "type check ('integer') failed - got 'many'"),
        ("/nodes/pve1/tasks?vmid=99", "vmid", "must have a minimum value of 100"),
        ("/nodes/pve1/qemu/abc/config", "vmid", "type check ('integer') failed - got 'abc'"),
        ("/nodes/pve1/qemu/100/config?current=maybe", "current", "type check ('boolean') failed - got 'maybe'"),
        ("/nodes/pve1/qemu/100/config?vmid=100", "vmid", "duplicate parameter"),
    ],
)
def test_a_bad_parameter_is_refused(wire: Wire, path: str, parameter: str, text: str) -> None:
    answer = wire.ask(path)
    assert (answer.status_code, answer.reason) == (400, "Parameter verification failed.")
    body = answer.json()
    assert body["data"] is None
    assert body["message"] == "Parameter verification failed.\n"
    assert set(body["errors"]) == {parameter}
    assert text in body["errors"][parameter]
    assert body["errors"][parameter].endswith("\n")


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "No ticket"),
        ({"Authorization": "PVEAPIToken=sync@pve!netbox=wrong"}, "Authentication failed!"),
        ({"Authorization": "PVEAPIToken=nonsense"}, "Authentication failed!"),
        ({"Cookie": "PVEAuthCookie=bad"}, "Authentication failed!"),
    ],
)
def test_401_is_late_empty_and_closes(
    simulator: ProxmoxSimulator, wire: Wire, headers: dict[str, str], reason: str
) -> None:
    simulator.auth_delay = 0.3
    before = time.monotonic()
    answer = wire.ask("/version", headers=headers)
    assert time.monotonic() - before >= 0.3
    assert (answer.status_code, answer.reason, answer.content) == (401, reason, b"")
    assert "Content-Type" not in answer.headers
    assert answer.headers["Connection"] == "close"


def test_the_delay_of_a_401_is_three_seconds_unless_a_test_says_otherwise() -> None:
    assert ProxmoxSimulator(load_cluster("lab")).auth_delay == 3.0


def test_wrong_password(wire: Wire) -> None:
    answer = wire.ask("/access/ticket", "POST", {}, data={"username": "sync@pve", "password": "wrong"})
    assert (answer.status_code, answer.reason) == (401, "authentication failure")
    assert answer.json() == {"data": None, "message": "authentication failure\n"}


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "OPTIONS"])
def test_a_method_that_the_server_does_not_have(wire: Wire, method: str) -> None:
    answer = wire.ask("/version", method)
    assert (answer.status_code, answer.reason, answer.content) == (501, f"method '{method}' not available", b"")


def test_nothing_can_be_written(wire: Wire) -> None:
    answer = wire.ask("/nodes/pve1/qemu/100/config", "PUT", data={"cores": 8})
    assert (answer.status_code, answer.reason) == (501, "Method 'PUT /nodes/pve1/qemu/100/config' not implemented")


@pytest.mark.parametrize(
    ("path", "text"),
    [("/api2/yaml/version", "no formatter for uri /version, yaml"), ("/api2/", "no such uri"), ("/", "no such uri")],
)
def test_outside_of_the_json_api(wire: Wire, path: str, text: str) -> None:
    answer = wire.session.get(wire.simulator.url + path, headers=wire.token, timeout=20)
    assert (answer.status_code, answer.reason, answer.text) == (501, text, text)


def test_a_node_that_is_down_answers_595_to_everything_below_it(simulator: ProxmoxSimulator, wire: Wire) -> None:
    simulator.cluster.node_offline("pve2")
    for path in ("/nodes/pve2/qemu", "/nodes/pve2/version", "/nodes/pve2/qemu/101/config", "/nodes/pve2/lxc/1/config"):
        answer = wire.ask(path)
        assert (answer.status_code, answer.reason, answer.content) == (595, "No route to host", b"")
        assert "Content-Type" not in answer.headers
    assert wire.ask("/cluster/resources").status_code == 200


def test_each_node_has_an_address_of_its_own(simulator: ProxmoxSimulator, wire: Wire) -> None:
    for name, port in simulator.ports.items():
        answer = wire.session.get(f"https://127.0.0.1:{port}/api2/json/cluster/status", headers=wire.token, timeout=20)
        local = [row["name"] for row in answer.json()["data"] if row.get("local")]
        assert local == [name]
    simulator.cluster.node_offline("pve1")
    with pytest.raises(requests.ConnectionError):
        wire.session.get(f"https://127.0.0.1:{simulator.ports['pve1']}/", timeout=20)
    assert [row["name"] for row in wire.data("/cluster/status") if row.get("local")] == ["pve2"]


def test_the_certificate_is_trusted_through_its_own_authority_only(simulator: ProxmoxSimulator, wire: Wire) -> None:
    stranger = requests.Session()
    stranger.trust_env = False
    with pytest.raises(requests.exceptions.SSLError):
        stranger.get(simulator.url, timeout=20)
    assert wire.ask("/version").status_code == 200


def test_requests_are_counted_and_logged(simulator: ProxmoxSimulator, wire: Wire) -> None:
    wire.ask("/version")
    wire.ask("/cluster/resources?type=vm")
    wire.ask("/cluster/resources?type=vm")
    wire.ask("/nope")
    assert simulator.requests == {"GET /version": 1, "GET /cluster/resources": 2, "GET /nope": 1}
    assert simulator.log[1:] == [
        ("GET", "/cluster/resources", "type=vm", 200),
        ("GET", "/cluster/resources", "type=vm", 200),
        ("GET", "/nope", "", 501),
    ]
    simulator.reset_counters()
    assert not simulator.requests
    assert not simulator.log


def test_it_can_be_stopped_and_started_again() -> None:
    simulator = ProxmoxSimulator(load_cluster("lab"))
    for _ in range(2):
        with simulator:
            assert Wire(simulator).data("/version")["release"] == "8.4"
            folder = simulator.ca_file.parent
        assert not folder.exists()
        with pytest.raises(RuntimeError):
            _ = simulator.ca_file


def test_a_port_that_is_taken_is_reported() -> None:
    with ProxmoxSimulator(load_cluster("lab")) as first, pytest.raises(OSError):
        ProxmoxSimulator(load_cluster("lab"), port=first.port).start()
