"""The HTTPS server of a simulated cluster: a thread with its own event loop, one port per node and one for all."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any

from aiohttp import web

from . import wire
from .auth import Credentials, Unauthenticated
from .call import Call
from .cluster import Cluster
from .errors import ProxyError, PveError, died, not_implemented
from .faults import Fault, Faults
from .flavours import FLAVOURS, Flavour
from .routes import Endpoint, find, verify
from .state import Node
from .tls import Certificates

_PREFIX = "/api2/json"
_HOST = "127.0.0.1"
_PAGE = "<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"


class ProxmoxSimulator:
    """Serves one cluster; a context manager.

    ``host`` and ``port`` are those of the first online node, whichever it is; ``ports`` of each node by itself (an
    offline one drops connections). ``requests`` counts ``"GET /nodes/pve1/qemu"``, ``log`` lists (method, path, query,
    status). ``latency`` and ``auth_delay`` are seconds.
    """

    def __init__(self, cluster: Cluster, flavour: str | None = None, *, port: int = 0) -> None:
        """``flavour``: a key of FLAVOURS; None is the cluster's own. ``port`` 0 is any free one."""
        if flavour is not None and flavour != cluster.flavour_name:
            if flavour not in FLAVOURS:
                raise ValueError(f"flavour {flavour!r} is not simulated; there are {', '.join(FLAVOURS)}")
            cluster.set_flavour(flavour)
        self.cluster = cluster
        self.credentials = Credentials()
        self.faults = Faults()
        self.latency = 0.0
        self.auth_delay = 3.0
        self.requests: Counter[str] = Counter()
        self.log: list[tuple[str, str, str, int]] = []
        self.host, self.port = _HOST, port
        self.ports: dict[str, int] = {}
        self._by_port: dict[int, str] = {}
        self._certificates: Certificates | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._random = random.Random()

    @property
    def flavour(self) -> str:
        return self.cluster.flavour_name

    @property
    def user(self) -> str:
        return self.credentials.user

    @property
    def token_name(self) -> str:
        return self.credentials.token_name

    @property
    def token_value(self) -> str:
        return self.credentials.token_value

    @property
    def password(self) -> str:
        return self.credentials.password

    @property
    def url(self) -> str:
        return f"https://{self.host}:{self.port}"

    @property
    def ca_file(self) -> Path:
        """The certificate of the cluster's authority, while the simulator runs."""
        if self._certificates is None:
            raise RuntimeError("the simulator is not running")
        return self._certificates.ca_file

    def reset_counters(self) -> None:
        with self.cluster.lock:
            self.requests.clear()
            self.log.clear()

    # life

    def __enter__(self) -> ProxmoxSimulator:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> ProxmoxSimulator:
        """Listen. Raises OSError when ``port`` is taken."""
        nodes = list(self.cluster.nodes)
        self._certificates = Certificates([_HOST, "localhost", *nodes], self.cluster.name)
        self._ready.clear()
        self._thread = threading.Thread(target=self._run, name=f"pve-{self.cluster.name}", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            self.stop()
            raise failure
        return self

    def stop(self) -> None:
        """Stop listening, close what is open. Safe to call twice."""
        if self._loop is not None and self._stopped is not None and self._loop.is_running():
            self._loop.call_soon_threadsafe(self._stopped.set)
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._certificates is not None:
            self._certificates.close()
            self._certificates = None

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as failure:
            self._failure = failure
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        assert self._certificates is not None
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.1)
        await runner.setup()
        try:
            context = self._certificates.server_context()
            for name in ["", *self.cluster.nodes]:
                listener = socket.create_server((_HOST, self.port if name == "" else 0), backlog=256)
                number = listener.getsockname()[1]
                await web.SockSite(runner, listener, ssl_context=context).start()
                if name == "":
                    self.port = number
                else:
                    self.ports[name], self._by_port[number] = number, name
            self._ready.set()
            await self._stopped.wait()
        finally:
            await runner.cleanup()

    # one request

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path[len(_PREFIX) :] if request.path.startswith(_PREFIX + "/") else request.path
        node = self._answering_node(request)
        if node is None:
            return self._drop(request)
        with self.cluster.lock:
            self.requests[f"{request.method} {path}"] += 1
        fault = self.faults.strike(request.method, path)
        delay = self.latency + (fault.delay if fault else 0.0)
        if delay:
            await asyncio.sleep(delay)
        if fault is not None and fault.kind == "drop":
            self._note(request, path, 0)
            return self._drop(request)
        response = _faulty(fault, self.cluster.flavour) if fault else None
        if response is None:
            cut = fault is not None and fault.kind == "truncate"
            gzip = "gzip" in request.headers.get("Accept-Encoding", "") and not cut
            response = await self._answer(request, path, node, gzip)
            if cut and isinstance(response.body, bytes):
                response.body = response.body[: len(response.body) // 2]
        self._note(request, path, response.status)
        return response

    def _answering_node(self, request: web.BaseRequest) -> Node | None:
        """The node behind the port that was called; None while it is offline."""
        assert request.transport is not None
        name = self._by_port.get(request.transport.get_extra_info("sockname")[1])
        with self.cluster.lock:
            if name is None:
                return self.cluster.first_online
            node = self.cluster.nodes[name]
            return node if node.online else None

    @staticmethod
    def _drop(request: web.BaseRequest) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    def _note(self, request: web.BaseRequest, path: str, status: int) -> None:
        with self.cluster.lock:
            self.log.append((request.method, path, request.query_string, status))

    async def _answer(self, request: web.BaseRequest, path: str, node: Node, gzip: bool) -> web.Response:
        if not request.path.startswith(_PREFIX + "/"):
            return wire.respond_text(501, _wrong_format(request.path))
        if request.method not in ("GET", "POST", "PUT", "DELETE"):
            return wire.respond_empty(501, f"method '{request.method}' not available")
        try:
            if (request.method, path) == ("POST", "/access/ticket"):
                return await self._ticket(request, gzip)
            user = self.credentials.authenticate(request.method, request.headers)
            content = self._content(request.method, path, dict(request.query), user, node)
        except Unauthenticated as error:
            await asyncio.sleep(self.auth_delay)
            return wire.respond_empty(401, str(error))
        except PveError as error:
            return wire.respond_error(error, self.cluster.flavour, self._random, accepts_gzip=gzip)
        return wire.respond(content, accepts_gzip=gzip)

    async def _ticket(self, request: web.BaseRequest, gzip: bool) -> web.Response:
        parameters = {key: str(value) for key, value in (await request.post()).items()}
        try:
            name = None if self.cluster.standalone else self.cluster.name
            answer = self.credentials.ticket(parameters, name)
        except PveError as error:
            if error.status == 401:
                await asyncio.sleep(self.auth_delay)
            raise
        return wire.respond(wire.body(answer, self._random), accepts_gzip=gzip)

    def _content(self, method: str, path: str, query: dict[str, str], user: str, local: Node) -> bytes:
        """The body of the answer, made under the cluster's lock. Raises PveError."""
        with self.cluster.lock:
            found = find(path, self.cluster.flavour) if method == "GET" else None
            if found is None:
                raise not_implemented(method, path)
            endpoint, on_path = found
            if "node" in on_path:
                self._reach(on_path["node"], local)
            answer = self._ask(endpoint, on_path, query, user, local)
            return wire.body(answer, self._random)

    def _reach(self, name: str, local: Node) -> None:
        """Raises PveError where the answering node could not hand the request on to node ``name``."""
        node = self.cluster.nodes.get(name)
        if node is None:
            raise died(f"no such cluster node '{name}'")
        if not node.resolves and node is not local:
            why = f"failed to get address info for: {name}: Name or service not known"
            raise died(f"hostname lookup '{name}' failed - {why}")
        if not node.online:
            raise ProxyError(595, "No route to host")

    def _ask(self, endpoint: Endpoint, on_path: dict[str, str], query: dict[str, str], user: str, local: Node) -> Any:
        parameters = verify(endpoint, on_path, query)
        return endpoint.answer(Call(self.cluster, local, user, parameters, self._random))


def _wrong_format(path: str) -> str:
    """The text of a 501 outside of /api2/json."""
    parts = path.split("/", 3)
    if len(parts) == 4 and parts[1] == "api2" and parts[2] and parts[3]:
        return f"no formatter for uri /{parts[3]}, {parts[2]}"
    return "no such uri"


def _faulty(fault: Fault, flavour: Flavour) -> web.Response | None:
    """The answer that a fault replaces the true one by; None when it only delays or truncates it."""
    if fault.kind == "html":
        status = fault.status or 200
        reason = fault.reason or {200: "OK", 502: "Bad Gateway", 504: "Gateway Time-out"}.get(status, "Error")
        title = "Proxmox Login" if status == 200 else f"{status} {reason}"
        return web.Response(
            body=_PAGE.format(title=title).encode(), status=status, reason=reason, content_type="text/html"
        )
    if fault.kind == "empty":
        return wire.respond(b'{"data":[]}', accepts_gzip=False)
    if fault.kind == "redirect":
        return web.Response(status=fault.status or 302, reason="Found", headers={"Location": "/"})
    if fault.status is not None:
        if fault.status in (401, 595, 596):
            default = {401: "Authentication failed!", 595: "No route to host", 596: "Connection timed out"}
            return wire.respond_empty(fault.status, fault.reason or default[fault.status])
        error = PveError(fault.status, f"{fault.reason or 'internal error'}\n")
        return wire.respond_error(error, flavour, random.Random(), accepts_gzip=False)
    return None
