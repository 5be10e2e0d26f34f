"""The observation sweep over simulated clusters, and the notice of failed runs to a real HTTP server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from proxbox_dagster.demo.proxmox import make_cluster
from proxbox_dagster.notify import MAX_ERROR, failure_sensor
from proxbox_dagster.sensors import observation_sensor, patience, sweep, swept
from proxbox_dagster.settings import ScheduleConfig, load_settings
from proxbox_dagster.settings_file import Webhook
from proxbox_dagster_tests.support.lab import Lab

SECRET = "c0ffee-secret-path"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """Two clusters of two nodes and twelve guests; NetBox is not asked."""
    netbox = SimpleNamespace(url="http://127.0.0.1:1", token="unused", make_token=lambda *_, **__: "unused")
    clusters = {name: make_cluster(name, nodes=2, guests=12, seed=seed) for seed, name in enumerate(("one", "two"))}
    with Lab(netbox, tmp_path, monkeypatch, **clusters) as lab:
        yield lab


class Looks:
    """The sensor over time; ``look()`` gives endpoint to source to data version."""

    def __init__(self, **clock: Any) -> None:
        self.now = 1_000_000.0
        self.sensor = observation_sensor(ScheduleConfig(observe_seconds=300, **clock), lambda: self.now)
        self.cursor: str | None = None

    def look(self, after: float = 300) -> dict[str, dict[str, str]]:
        self.now += after
        with dg.DagsterInstance.ephemeral() as instance:
            result = self.sensor(dg.build_sensor_context(instance=instance, cursor=self.cursor))
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        assert not result.run_requests
        found: dict[str, dict[str, str]] = {}
        for event in result.asset_events:
            assert isinstance(event, dg.AssetObservation)
            assert event.partition
            version = event.tags["dagster/data_version"]
            found.setdefault(event.partition, {})[event.asset_key.path[-1]] = version
        return found


# -- the sweep --------------------------------------------------------------------------------------------------


def test_what_moves_by_itself_changes_no_version_and_a_stopped_guest_does(lab: Lab) -> None:
    looks = Looks()
    first = looks.look()
    assert {name: set(found) for name, found in first.items()} == {key: set(swept("nodes")) for key in ("one", "two")}
    for cluster in lab.clusters.values():
        cluster.churn()
        cluster.shuffle(3)
    assert looks.look() == first
    guest = next(guest for guest in lab.clusters["two"].guests.values() if guest.status == "running")
    guest.status = "stopped"
    second = looks.look()
    assert second["one"] == first["one"]
    assert {name for name in first["two"] if second["two"][name] != first["two"][name]} == {"guests"}


@pytest.mark.parametrize("depth", ["cluster", "nodes", "guests"])
def test_a_sweep_costs_what_its_depth_says(depth: str, lab: Lab) -> None:
    looks = Looks(observe=depth)
    first = looks.look()
    asked = lab.simulators["one"].requests
    of_guests = [path for path in asked if "/qemu/" in path or "/lxc/" in path]
    assert bool(of_guests) == (depth == "guests")
    assert bool([path for path in asked if path.endswith("/network")]) == (depth != "cluster")
    if depth != "guests":
        assert sum(asked.values()) <= 10 + 4 * 2, dict(asked)
    guest = next(guest for guest in lab.clusters["one"].guests.values() if guest.kind == "qemu")
    lab.clusters["one"].set_config("qemu", guest.vmid, "net7", "virtio=BC:24:11:AA:00:01,bridge=vmbr0")
    second = looks.look()
    changed = {name for name in first["one"] if second["one"][name] != first["one"][name]}
    assert ("guest_configs" in changed) == (depth == "guests"), "a card shows in the guest's own configuration only"


def test_one_endpoint_down_is_left_alone_for_longer_each_time_and_the_other_is_observed(lab: Lab) -> None:
    looks = Looks(observe="cluster")
    assert set(looks.look()) == {"one", "two"}
    lab.simulators["one"].faults.add("", status=401)
    tries = 0
    for _ in range(16):
        lab.simulators["one"].reset_counters()
        assert set(looks.look()) == {"two"}
        tries += bool(lab.simulators["one"].requests)
    assert tries == 4, "after 10, 20, 40 and 60 minutes, not 16 times"
    lab.simulators["one"].faults.clear()
    assert set(looks.look(3600)) == {"one", "two"}
    assert set(looks.look()) == {"one", "two"}


def test_all_endpoints_down_fails_the_tick(lab: Lab) -> None:
    for simulator in lab.simulators.values():
        simulator.faults.add("", status=401)
    with pytest.raises(dg.Failure, match=r"no endpoint could be observed: one: .*two: "):
        Looks(observe="cluster").look()


def test_endpoints_that_went_down_one_after_the_other_fail_the_tick_too(lab: Lab) -> None:
    """The first is not due when the second stops to answer: nothing is looked at, and that must not look like quiet."""
    looks = Looks(observe="cluster")
    lab.simulators["one"].faults.add("", status=401)
    assert set(looks.look()) == {"two"}
    lab.simulators["two"].faults.add("", status=401)
    for _ in range(8):
        with pytest.raises(dg.Failure, match=r"no endpoint could be observed: .*two: "):
            looks.look()
    lab.simulators["two"].faults.clear()
    assert set(looks.look()) == {"two"}


def test_one_source_that_fails_keeps_the_others_and_is_told(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    lab.simulators["one"].faults.add("cluster/backup", status=500, reason="internal error")
    found = Looks(observe="cluster").look()
    assert set(swept("cluster")) - set(found["one"]) == {"backup_jobs"}
    assert "one: backup_jobs is not observed: Proxmox at" in capfd.readouterr().err


def test_an_endpoint_that_never_ends_its_answer_stops_nobody(lab: Lab) -> None:
    lab.simulators["one"].faults.add("", delay=8)
    started = time.monotonic()
    found, failed = sweep(load_settings(), ["one", "two"], swept("cluster"), 4)
    assert time.monotonic() - started < 8
    assert (set(found), set(failed)) == ({"two"}, {"one"})
    assert "did not tell everything within 4 seconds" in failed["one"]


def test_a_sweep_has_its_part_of_the_time_that_dagster_gives_a_sensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS", raising=False)
    assert patience() == 40
    monkeypatch.setenv("DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS", "600")
    assert patience() == 400


# -- the notice ---------------------------------------------------------------------------------------------------


class Receiver:
    """A real HTTP server; ``answer`` is the status it gives, ``None`` never answers."""

    def __init__(self) -> None:
        self.received: list[tuple[str, dict[str, str]]] = []
        self.answer: int | None = 204
        self._ended = threading.Event()
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                webhook.received.append((self.path, json.loads(body)))
                if webhook.answer is None:
                    webhook._ended.wait(30)
                    return
                self.send_response(webhook.answer)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/{SECRET}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def webhook() -> Iterator[Receiver]:
    webhook = Receiver()
    yield webhook
    webhook.close()


def failed_run(instance: dg.DagsterInstance, reason: str) -> dg.SensorEvaluationContext:
    """The context in which Dagster calls a run failure sensor for a run of endpoint ams1 that failed for ``reason``."""

    @dg.op
    def storage() -> None:
        raise dg.Failure(reason, allow_retries=False)

    @dg.job
    def full_update() -> None:
        storage()

    result = full_update.execute_in_process(instance=instance, tags={"dagster/partition": "ams1"}, raise_on_error=False)
    event = next(item for item in result.all_events if item.event_type is dg.DagsterEventType.RUN_FAILURE)
    context = dg.build_run_status_sensor_context("notify_failures", event, instance, result.dagster_run)
    return context.for_run_failure()


def call(webhook: Any, reason: str, capfd: pytest.CaptureFixture[str]) -> str:
    """Call the sensor and give what it has logged."""
    with dg.DagsterInstance.ephemeral() as instance:
        context = failed_run(instance, reason)
        capfd.readouterr()
        failure_sensor(Webhook.model_validate(webhook) if webhook else None)(context)
    return capfd.readouterr().err


def test_a_failed_run_is_posted_with_its_cause(webhook: Receiver, capfd: pytest.CaptureFixture[str]) -> None:
    call(webhook.url, "NetBox answered 403: the token may not write", capfd)
    [(path, notice)] = webhook.received
    assert path == f"/{SECRET}"
    assert notice.pop("run_id")
    assert notice == {
        "job": "full_update",
        "endpoint": "ams1",
        "stage": "storage",
        "error": "NetBox answered 403: the token may not write",
        "text": "full_update of ams1 failed in storage: NetBox answered 403: the token may not write",
    }


def test_the_address_may_be_a_secret_of_the_environment(
    webhook: Receiver, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = call({"env": "TEST_WEBHOOK"}, "x", capfd)
    assert "failure_webhook: the environment variable TEST_WEBHOOK is not set or empty" in told
    monkeypatch.setenv("TEST_WEBHOOK", webhook.url)
    told = call({"env": "TEST_WEBHOOK"}, "x", capfd)
    assert [path for path, _ in webhook.received] == [f"/{SECRET}"]
    assert SECRET not in told


def test_without_a_webhook_it_is_logged(capfd: pytest.CaptureFixture[str]) -> None:
    assert "full_update of ams1 failed in storage: the brake" in call(None, "the brake", capfd)


def test_a_long_error_is_cut(webhook: Receiver, capfd: pytest.CaptureFixture[str]) -> None:
    call(webhook.url, "word " * 1000, capfd)
    assert len(webhook.received[0][1]["error"]) <= MAX_ERROR


def test_a_webhook_that_fails_fails_no_sensor_and_tells_no_address(
    webhook: Receiver, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    webhook.answer = 500
    told = call(webhook.url, "x", capfd)
    assert "failure_webhook: 127.0.0.1 answered 500" in told
    webhook.answer = 302
    told += call(webhook.url, "x", capfd)
    assert "answered 302" in told
    webhook.answer = None
    monkeypatch.setattr("proxbox_dagster.notify.WEBHOOK_TIMEOUT", (0.5, 0.5))
    started = time.monotonic()
    told += call(webhook.url, "x", capfd)
    assert "could not be reached (ReadTimeout)" in told
    assert time.monotonic() - started < 10
    gone = f"http://127.0.0.1:1/{SECRET}"
    told += call(gone, "x", capfd)
    assert "could not be reached (ConnectionError)" in told
    assert SECRET not in told
