"""The proxy that NetBox's failures are made with, against a tiny server of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

from proxbox_dagster_tests.support.faulty_proxy import FaultyProxy


class Target(ThreadingHTTPServer):
    """Answers with what it was asked, and keeps it."""

    daemon_threads = True

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, bytes]] = []
        super().__init__(("127.0.0.1", 0), Echo)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Echo(BaseHTTPRequestHandler):
    server: Target

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((self.command, self.path, body))
        empty = self.command == "DELETE"
        text = json.dumps({"path": self.path, "body": body.decode(), "host": self.headers["Host"]}).encode()
        self.send_response(204 if empty else 201 if self.command == "POST" else 200)
        self.send_header("API-Version", "4.7")
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        if not empty:
            self.wfile.write(text)

    do_GET = do_POST = do_PATCH = do_DELETE = answer

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def target() -> Iterator[Target]:
    with Target() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(target: Target) -> Iterator[FaultyProxy]:
    with FaultyProxy(target.url) as running:
        yield running


def test_forwards_everything_and_keeps_a_record(target: Target, proxy: FaultyProxy) -> None:
    answer = requests.post(f"{proxy.url}/api/x/?a=1", data=b"hello", timeout=5)
    assert (answer.status_code, answer.headers["API-Version"]) == (201, "4.7")
    assert answer.json() == {"path": "/api/x/?a=1", "body": "hello", "host": proxy.url.removeprefix("http://")}
    assert requests.delete(f"{proxy.url}/api/x/1/", timeout=5).content == b""
    assert target.seen == [("POST", "/api/x/?a=1", b"hello"), ("DELETE", "/api/x/1/", b"")]
    assert proxy.requests == [("POST", "/api/x/?a=1", 201), ("DELETE", "/api/x/1/", 204)]


def test_a_status_is_given_in_the_targets_place(target: Target, proxy: FaultyProxy) -> None:
    proxy.add_fault("POST", "/api/x/$", status=429, body={"detail": "slow down"}, headers={"Retry-After": "7"})
    answer = requests.post(f"{proxy.url}/api/x/", timeout=5)
    assert (answer.status_code, answer.json()) == (429, {"detail": "slow down"})
    assert answer.headers["Retry-After"] == "7"
    assert target.seen == []
    assert requests.post(f"{proxy.url}/api/x/", timeout=5).status_code == 201


def test_a_fault_takes_its_method_its_path_and_its_turn_only(proxy: FaultyProxy) -> None:
    proxy.add_fault("GET", "/x", after=1, count=2, status=500)

    def ask(method: str, path: str) -> int:
        return requests.request(method, proxy.url + path, timeout=5).status_code

    assert [ask("GET", "/x"), ask("POST", "/x"), ask("GET", "/y")] == [200, 201, 200]
    assert [ask("GET", "/x"), ask("GET", "/x"), ask("GET", "/x")] == [500, 500, 200]
    assert proxy.count("GET", "/x") == 4


def test_no_count_means_always(proxy: FaultyProxy) -> None:
    proxy.add_fault(path_regex="/x", count=None, status=503)
    assert [requests.get(f"{proxy.url}/x", timeout=5).status_code for _ in range(5)] == [503] * 5
    proxy.clear()
    assert requests.get(f"{proxy.url}/x", timeout=5).status_code == 200
    assert proxy.requests == [("GET", "/x", 200)]


@pytest.mark.parametrize(("drop", "reached"), [("before", 0), ("after", 1)])
def test_a_dropped_connection(target: Target, proxy: FaultyProxy, drop: Any, reached: int) -> None:
    proxy.add_fault("POST", drop=drop)
    with pytest.raises(requests.ConnectionError):
        requests.post(f"{proxy.url}/x", data=b"1", timeout=5)
    assert len(target.seen) == reached
    assert proxy.requests == [("POST", "/x", 201 if reached else None)]


def test_a_delay_comes_after_the_work_is_done(target: Target, proxy: FaultyProxy) -> None:
    proxy.add_fault("POST", delay=30)
    with pytest.raises(requests.ReadTimeout):
        requests.post(f"{proxy.url}/x", timeout=0.3)
    assert [method for method, _, _ in target.seen] == ["POST"]


def test_a_truncated_answer_is_an_error_to_the_client(proxy: FaultyProxy) -> None:
    proxy.add_fault(truncate=True)
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        requests.get(f"{proxy.url}/x", timeout=5)


def test_open_connections_are_counted(proxy: FaultyProxy) -> None:
    both = threading.Barrier(3)

    def ask() -> None:
        with requests.Session() as session:
            session.get(f"{proxy.url}/x", timeout=5)
            session.get(f"{proxy.url}/x", timeout=5)
            both.wait(5)

    with ThreadPoolExecutor(3) as pool:
        for task in [pool.submit(ask) for _ in range(3)]:
            task.result()
    assert proxy.max_open_connections == 3
    assert len(proxy.requests) == 6


def test_a_target_that_is_down_is_a_502(target: Target) -> None:
    closed = target.url
    target.server_close()
    with FaultyProxy(closed) as proxy:
        assert requests.get(f"{proxy.url}/x", timeout=5).status_code == 502


def test_only_plain_http_is_forwarded() -> None:
    with pytest.raises(ValueError, match="http:// addresses only"):
        FaultyProxy("https://127.0.0.1:1")
