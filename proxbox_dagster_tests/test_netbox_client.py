"""The NetBox client against a small server of its own: back-off within the budget, answers that are none, the end."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import SecretStr

from proxbox_dagster.demo.ports import free_port
from proxbox_dagster.netbox.answers import Passing
from proxbox_dagster.netbox.client import FIRST_CONTACT, NetBoxClient
from proxbox_dagster.netbox.errors import NetBoxRefused, NetBoxUnreachable, RowsRefused, RunEnded, WriteUncertain
from proxbox_dagster.settings import NetBoxConnection
from proxbox_dagster_tests.support.polling import until

PATH = "dcim/sites"
PAGE = (200, {"Content-Type": "text/html"}, b"<html>maintenance</html>")
EMPTY = (200, {}, {"count": 0, "next": None, "results": []})
BROKEN = (500, {}, {"error": "no such column", "exception": "ProgrammingError"})


class Scripted(ThreadingHTTPServer):
    """Answers with what stands first in ``script``, and with an empty list when that is used up."""

    daemon_threads = True

    def __init__(self) -> None:
        self.script: list[tuple[int, dict[str, str], Any]] = []
        self.seen: list[tuple[str, float]] = []
        self.hold = threading.Event()
        self.hold.set()
        self.open = self.most = 0
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error of the server's."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Scripted

    def setup(self) -> None:
        super().setup()
        self.server.open += 1
        self.server.most = max(self.server.most, self.server.open)

    def finish(self) -> None:
        self.server.open -= 1
        super().finish()

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((self.command, time.monotonic()))
        self.server.hold.wait(30)
        status, headers, body = self.server.script.pop(0) if self.server.script else EMPTY
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = do_DELETE = answer

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Scripted]:
    with Scripted() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield running
        running.hold.set()
        running.shutdown()
        thread.join()


def client_of(server: Scripted, **keys: Any) -> NetBoxClient:
    address = f"http://127.0.0.1:{server.server_address[1]}"
    given: dict[str, Any] = {"timeout": 10.0, "retry_budget": 100.0, "max_connections": 1, **keys}
    return NetBoxClient(NetBoxConnection(address, SecretStr("t"), True, bulk_size=75, **given))


class Pauses(threading.Event):
    """In place of the client's own event: notes how long it was to wait, and does not."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.asked.append(timeout or 0.0)
        return self.is_set()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Pauses:
    found = Pauses()
    init = NetBoxClient.__init__

    def patched(self: NetBoxClient, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        self._closed = found

    monkeypatch.setattr(NetBoxClient, "__init__", patched)
    return found


@pytest.mark.parametrize("trouble", [(502, {}, b"bad gateway"), (503, {}, {}), (429, {}, {}), (500, {}, b"oops")])
def test_scenario_39_pauses_double_and_differ(server: Scripted, pauses: Pauses, trouble: Any) -> None:
    server.script = [trouble] * 5
    assert client_of(server).read(PATH) == []
    assert len(pauses.asked) == 5
    for number, pause in enumerate(pauses.asked):
        assert 0.5 * 2**number <= pause <= 0.5 * 2**number + 1
    assert len({pause % 0.5 for pause in pauses.asked}) == 5, "jitter"


def test_scenario_39_retry_after_is_obeyed_as_number_and_as_date(server: Scripted, pauses: Pauses) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    server.script = [
        (429, {"Retry-After": "7"}, {}),
        (503, {"Retry-After": later}, {}),
        (503, {"Retry-After": "x"}, {}),
    ]
    assert client_of(server).read(PATH) == []
    first, second, third = pauses.asked
    assert (first, 25 < second <= 30, third < 4) == (7, True, True)


def test_scenario_39_the_budget_ends_the_tries_and_further_requests_fail_at_once(
    server: Scripted, pauses: Pauses
) -> None:
    server.script = [(503, {}, {})] * 50
    client = client_of(server, retry_budget=3.0)
    with pytest.raises(NetBoxUnreachable, match=r"HTTP 503 .*tried [34] times within 3 s.*start the run again"):
        client.read(PATH)
    assert max(pauses.asked) < 3
    sent = len(server.seen)
    with pytest.raises(NetBoxUnreachable):
        client.read("dcim/devices")
    assert len(server.seen) == sent


@pytest.mark.parametrize(
    ("answer", "settle", "fault"),
    [
        ((502, {}, b""), 2.0, False),
        ((504, {}, b""), 10.0, False),
        (PAGE, 2.0, False),
        (BROKEN, 0.0, True),
        ((500, {}, {"error": "deadlock detected", "exception": "OperationalError"}), 0.0, False),
    ],
)
def test_a_post_is_never_repeated(server: Scripted, pauses: Pauses, answer: Any, settle: float, fault: bool) -> None:
    client = client_of(server)
    client.read(PATH)
    server.script = [answer]
    with pytest.raises(WriteUncertain) as caught:
        client.create(PATH, [{"name": "a"}])
    assert (caught.value.settle, caught.value.fault) == (settle, fault)
    assert [method for method, _ in server.seen] == ["GET", "POST"]


def test_a_post_that_was_turned_away_is_sent_again(server: Scripted, pauses: Pauses) -> None:
    server.script = [(429, {}, {}), (201, {}, [{"id": 1}])]
    assert client_of(server).create(PATH, [{"name": "a"}]) == [{"id": 1}]


def test_a_page_in_place_of_json_is_another_server_at_first_and_a_passing_trouble_later(
    server: Scripted, pauses: Pauses
) -> None:
    client = client_of(server)
    server.script = [PAGE]
    with pytest.raises(NetBoxRefused, match=r"check netbox\.url"):
        client.read(PATH)
    assert client.read(PATH) == []
    server.script = [PAGE, PAGE]
    assert client.read(PATH) == []
    assert len(server.seen) == 5


def test_a_list_at_which_netbox_fails_is_handed_back_to_be_parted(server: Scripted, pauses: Pauses) -> None:
    client = client_of(server)
    server.script = [BROKEN] * 5
    with pytest.raises(RowsRefused, match="no such column"):
        client.update(PATH, [{"id": 1}, {"id": 2}])
    assert len(server.seen) == 1
    with pytest.raises(RowsRefused, match="tried 3 times"):
        client.delete(PATH, [1])
    assert len(server.seen) == 4


def test_what_is_under_way_ends_with_the_client(server: Scripted) -> None:
    server.hold.clear()
    client = client_of(server, max_connections=2)
    with ThreadPoolExecutor(4) as pool:
        reads = [pool.submit(client.read, PATH) for _ in range(4)]
        until(lambda: len(server.seen) == 2, "two reads under way")
        started = time.monotonic()
        client.close(grace=0.1)
        for read in reads:
            with pytest.raises(RunEnded):
                read.result(5)
        assert time.monotonic() - started < 3
    assert len(server.seen) == 2, "what waited for its turn was not sent"


def test_a_pause_between_two_tries_ends_with_the_client(server: Scripted) -> None:
    server.script = [(503, {"Retry-After": "60"}, {})]
    client = client_of(server)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(client.read, PATH)
        until(lambda: server.seen, "the first try")
        client.close()
        with pytest.raises(RunEnded):
            read.result(5)


def test_scenario_40_threads_come_and_go_and_connections_stay_within_the_limit(server: Scripted) -> None:
    client = client_of(server, max_connections=2)
    for _ in range(5):
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda _: client.read(PATH), range(12)))
    assert len(server.seen) == 60
    assert server.most <= 2


@pytest.mark.parametrize("url", ["http://netbox.invalid", f"http://127.0.0.1:{free_port(28100)}"])
def test_a_wrong_name_or_port_is_told_soon_unless_netbox_has_answered_before(url: str) -> None:
    """A mistyped address in the settings; during a run it is an outage like any other."""
    connection = NetBoxConnection(url, SecretStr("t" * 40), True, 5.0, 180.0, 75, 1)
    client = NetBoxClient(connection)
    with pytest.raises(Passing) as trouble:
        client._send("GET", "status", lambda: client._request("status")._make_call("get"))
    assert trouble.value.nobody
    assert client._budget(trouble.value) == FIRST_CONTACT
    client._known = True
    assert client._budget(trouble.value) == connection.retry_budget
