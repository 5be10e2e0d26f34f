"""Faults that tests can put into the simulated Proxmox."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
import requests

from proxbox_dagster.demo.proxmox import ProxmoxSimulator, load_cluster

from .proxmox_http import Wire


@pytest.fixture
def simulator() -> Iterator[ProxmoxSimulator]:
    with ProxmoxSimulator(load_cluster("ams1")) as running:
        yield running


@pytest.fixture
def wire(simulator: ProxmoxSimulator) -> Wire:
    return Wire(simulator)


def test_status_and_reason(simulator: ProxmoxSimulator, wire: Wire) -> None:
    simulator.faults.add(r"^/nodes/pve1/qemu/100/config$", status=500, reason="got timeout")
    answer = wire.ask("/nodes/pve1/qemu/100/config")
    assert (answer.status_code, answer.reason) == (500, "got timeout")
    assert answer.json() == {"data": None, "message": "got timeout\n"}
    assert wire.ask("/nodes/pve1/qemu/102/config").status_code == 200
    simulator.faults.clear()
    assert wire.ask("/nodes/pve1/qemu/100/config").status_code == 200


@pytest.mark.parametrize(
    ("status", "reason"), [(401, "Authentication failed!"), (595, "No route to host"), (596, "Connection timed out")]
)
def test_statuses_without_a_body(simulator: ProxmoxSimulator, wire: Wire, status: int, reason: str) -> None:
    simulator.faults.add("/version", status=status)
    answer = wire.ask("/version")
    assert (answer.status_code, answer.reason, answer.content) == (status, reason, b"")


def test_skip_and_count(simulator: ProxmoxSimulator, wire: Wire) -> None:
    fault = simulator.faults.add("/version", status=503, reason="busy", skip=1, count=2)
    assert [wire.ask("/version").status_code for _ in range(5)] == [200, 503, 503, 200, 200]
    assert fault.struck == 2


def test_method(simulator: ProxmoxSimulator, wire: Wire) -> None:
    simulator.faults.add(".", method="POST", status=500)
    assert wire.ask("/version").status_code == 200
    assert wire.ask("/access/ticket", "POST", {}).status_code == 500


def test_delay_and_latency(simulator: ProxmoxSimulator, wire: Wire) -> None:
    simulator.faults.add("/version", delay=0.2, count=1)
    before = time.monotonic()
    assert wire.ask("/version").status_code == 200
    assert time.monotonic() - before >= 0.2
    simulator.latency = 0.1
    before = time.monotonic()
    wire.ask("/version")
    assert time.monotonic() - before >= 0.1


def test_a_slow_answer_holds_no_other_back(simulator: ProxmoxSimulator, wire: Wire) -> None:
    simulator.faults.add("/cluster/status", delay=5)
    with pytest.raises(requests.ReadTimeout):
        wire.session.get(simulator.url + "/api2/json/cluster/status", headers=wire.token, timeout=0.2)
    before = time.monotonic()
    assert wire.ask("/version").status_code == 200
    assert time.monotonic() - before < 2


def test_html(simulator: ProxmoxSimulator, wire: Wire) -> None:
    simulator.faults.add("/version", kind="html", count=1)
    answer = wire.ask("/version")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    simulator.faults.add("/version", kind="html", status=502)
    answer = wire.ask("/version")
    assert (answer.status_code, answer.reason) == (502, "Bad Gateway")
    assert answer.text.startswith("<!DOCTYPE html>")


def test_truncation(simulator: ProxmoxSimulator, wire: Wire) -> None:
    simulator.faults.add("/cluster/resources", kind="truncate")
    answer = wire.ask("/cluster/resources")
    assert answer.status_code == 200
    assert answer.text.startswith('{"data":[')
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.text)


def test_a_dropped_connection(simulator: ProxmoxSimulator, wire: Wire) -> None:
    simulator.faults.add("/version", kind="drop", count=1)
    with pytest.raises(requests.ConnectionError):
        wire.ask("/version")
    assert wire.ask("/version").status_code == 200
    assert simulator.requests["GET /version"] == 2


def test_a_redirect(simulator: ProxmoxSimulator, wire: Wire) -> None:
    simulator.faults.add("/version", kind="redirect")
    answer = wire.ask("/version")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/")
