"""A proxy on loopback in front of NetBox that answers wrongly, late, in part or not at all, when it is told to."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal
from urllib.parse import urlsplit

FORWARD_SECONDS = 60.0
# Hop-by-hop (RFC 9110, 7.6.1), and what the proxy says itself.
_NOT_FORWARDED = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "server", "date"})

Drop = Literal["before", "after"]

WRITES = "WRITES"
"""In place of a fault's method: every request that may change something; an empty list only asks for a permission."""


@dataclass
class Fault:
    """What happens to matching requests; ``served`` counts how often it has."""

    method: str | None
    path: re.Pattern[str]
    after: int
    count: int | None
    status: int | None
    body: bytes | None
    headers: Mapping[str, str]
    delay: float
    drop: Drop | None
    truncate: bool
    above: int
    before: Callable[[], None] | None
    act: Callable[[], None] | None
    matched: int = 0
    served: int = 0

    def takes(self, method: str, path: str, body: bytes) -> bool:
        """Whether this request gets the fault; counts it."""
        if self.method == WRITES:
            if method in ("GET", "HEAD", "OPTIONS") or body.strip() == b"[]":
                return False
        elif self.method and self.method != method:
            return False
        if not self.path.search(path) or len(body) < self.above:
            return False
        self.matched += 1
        if self.matched <= self.after or (self.count is not None and self.served >= self.count):
            return False
        self.served += 1
        return True


@dataclass(frozen=True)
class Answer:
    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    reason: str | None = None


class FaultyProxy:
    """Forwards everything to ``target_url`` (plain HTTP), apart from faults; a context manager with its own thread.

    ``requests``: (method, path with query, status) of every request in the order they were answered; the status is
    the one that NetBox or the fault gave, None where NetBox was not asked (``drop="before"``) or did not answer.
    """

    def __init__(self, target_url: str) -> None:
        target = urlsplit(target_url)
        if target.scheme != "http" or not target.hostname:
            raise ValueError(f"FaultyProxy forwards to http:// addresses only, not to {target_url}")
        self._address = (target.hostname, target.port or 80)
        self._prefix = target.path.rstrip("/")
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._sockets: set[socket.socket] = set()
        self.requests: list[tuple[str, str, int | None]] = []
        self.max_open_connections = 0
        self.closing = threading.Event()
        self._server = _Server(self)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{self._prefix}"

    def __enter__(self) -> FaultyProxy:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        with self._lock:
            for connection in self._sockets:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        self._thread.join()

    def add_fault(
        self,
        method: str | None = None,
        path_regex: str | None = None,
        after: int = 0,
        count: int | None = 1,
        status: int | None = None,
        body: str | bytes | dict[str, Any] | list[Any] | None = None,
        headers: Mapping[str, str] | None = None,
        delay: float = 0.0,
        drop: Drop | None = None,
        truncate: bool = False,
        above: int = 0,
        before: Callable[[], None] | None = None,
        act: Callable[[], None] | None = None,
    ) -> Fault:
        """Let ``count`` requests (None: all) go wrong, once ``after`` matching ones have passed.

        ``path_regex`` is searched in path and query. ``status``, ``body`` and ``headers`` answer in NetBox's place,
        which then never sees the request (a body alone: status 200). ``delay`` holds the answer back by that many
        seconds, after NetBox has done its work. ``drop="before"`` closes the connection without asking NetBox,
        ``"after"`` asks it and closes without answering. ``truncate`` promises the whole body and sends half of it.
        ``before`` is called before NetBox is asked (and may hold the request back, as a queue does: NetBox does its
        work afterwards, whether or not anybody still waits); ``act`` where the fault strikes: before NetBox is asked
        with ``drop="before"``, else after it, and before the answer. ``above`` takes requests with as many bytes in
        their body. ``method`` may be :data:`WRITES`.
        """
        if drop not in (None, "before", "after"):
            raise ValueError(f'drop is None, "before" or "after", not {drop!r}')
        data = (
            body if isinstance(body, bytes | None) else (body if isinstance(body, str) else json.dumps(body)).encode()
        )
        given = dict(headers or {})
        if isinstance(body, dict | list):
            given.setdefault("Content-Type", "application/json")
        fault = Fault(
            method=method.upper() if method else None,
            path=re.compile(path_regex or ""),
            after=after,
            count=count,
            status=status if status is not None or (data is None and not given) else 200,
            body=data,
            headers=given,
            delay=delay,
            drop=drop,
            truncate=truncate,
            above=above,
            before=before,
            act=act,
        )
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """No faults from now on, and an empty record."""
        with self._lock:
            self._faults.clear()
            self.requests.clear()
            self.max_open_connections = len(self._sockets)

    def count(self, method: str | None = None, path_regex: str = "") -> int:
        """How many requests of this method and path were answered so far."""
        with self._lock:
            return sum(
                (method is None or seen == method) and re.search(path_regex, path) is not None
                for seen, path, _ in self.requests
            )

    def fault_for(self, method: str, path: str, body: bytes) -> Fault | None:
        with self._lock:
            # Every fault counts what it matches; the first that is due is served.
            return next((fault for fault in self._faults if fault.takes(method, path, body)), None)

    def record(self, method: str, path: str, status: int | None) -> None:
        with self._lock:
            self.requests.append((method, path, status))

    def opened(self, connection: socket.socket) -> None:
        with self._lock:
            self._sockets.add(connection)
            self.max_open_connections = max(self.max_open_connections, len(self._sockets))

    def closed(self, connection: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(connection)

    def forward(self, method: str, path: str, headers: list[tuple[str, str]], body: bytes) -> Answer:
        """NetBox's own answer; 502 with the reason if it cannot be reached."""
        upstream = http.client.HTTPConnection(*self._address, timeout=FORWARD_SECONDS)
        try:
            upstream.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            # The Host header stays: NetBox builds the links of its pages from it, so they lead here again.
            for name, value in headers:
                if name.lower() not in _NOT_FORWARDED:
                    upstream.putheader(name, value)
            upstream.putheader("Connection", "close")
            upstream.putheader("Content-Length", str(len(body)))
            upstream.endheaders(body)
            response = upstream.getresponse()
            return Answer(response.status, response.getheaders(), response.read(), response.reason)
        except (OSError, http.client.HTTPException) as error:
            return Answer(502, [("Content-Type", "text/plain")], f"no answer from the target: {error}".encode())
        finally:
            upstream.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, proxy: FaultyProxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is no error of the proxy's."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        # Without this, headers and body go out as two packets and the second waits for the first one's ACK.
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server.proxy.opened(self.connection)

    def finish(self) -> None:
        self.server.proxy.closed(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def answer(self) -> None:
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = proxy.fault_for(self.command, self.path, body)
        if fault is not None and fault.before:
            fault.before()
        if fault is not None and fault.drop == "before":
            if fault.act:
                fault.act()
            proxy.closing.wait(fault.delay)
            proxy.record(self.command, self.path, None)
            self.close_connection = True
            return
        if fault is not None and fault.status is not None:
            answer = Answer(fault.status, list(fault.headers.items()), fault.body or b"")
        else:
            answer = proxy.forward(self.command, self.path, self.headers.items(), body)
        if fault is not None:
            if fault.act:
                fault.act()
            proxy.closing.wait(fault.delay)
        proxy.record(self.command, self.path, answer.status)
        if fault is not None and fault.drop == "after":
            self.close_connection = True
            return
        self.send(answer, truncate=fault is not None and fault.truncate)

    def send(self, answer: Answer, *, truncate: bool) -> None:
        self.send_response(answer.status, answer.reason)
        for name, value in answer.headers:
            if name.lower() not in _NOT_FORWARDED:
                self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: len(answer.body) // 2] if truncate else answer.body)
        if truncate:
            self.close_connection = True

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = do_OPTIONS = do_HEAD = answer

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on standard error: ``requests`` is the record."""
