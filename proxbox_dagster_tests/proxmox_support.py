"""What the tests of the Proxmox side share: settings for a simulator, and a server that answers from a script."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme
from pydantic import SecretStr

from proxbox_dagster.demo.proxmox import ProxmoxSimulator
from proxbox_dagster.proxmox.session import ProxmoxSession
from proxbox_dagster.scope import Scope
from proxbox_dagster.settings import ConcurrencyConfig, EndpointSettings

CANARY = "5ec2e7c0-ffee-4bad-8a57-0123456789ab"
"""A token's value that must appear nowhere."""


def endpoint(host: str, port: int, ca_file: Path | str | bool, **changes: Any) -> EndpointSettings:
    """An endpoint with a token and short times."""
    values: dict[str, Any] = {
        "name": "ams1",
        "hosts": (host,),
        "port": port,
        "user": "sync@pve",
        "token_name": "netbox",
        "token_value": SecretStr(CANARY),
        "password": None,
        "verify_ssl": ca_file if isinstance(ca_file, bool) else str(ca_file),
        "timeout": 10.0,
        "retry_budget": 3.0,
    }
    return EndpointSettings(**(values | changes))


def endpoint_of(simulator: ProxmoxSimulator, **changes: Any) -> EndpointSettings:
    values: dict[str, Any] = {
        "user": simulator.user,
        "token_name": simulator.token_name,
        "token_value": SecretStr(simulator.token_value),
    }
    return endpoint(simulator.host, simulator.port, simulator.ca_file, **(values | changes))


@contextlib.contextmanager
def session_of(simulator: ProxmoxSimulator, scope: Scope = Scope(), **changes: Any) -> Iterator[ProxmoxSession]:  # noqa: B008
    """A session; ``changes`` are of the endpoint, but for ``cursor``, ``pause`` and the limits ``concurrency``."""
    options = {name: changes.pop(name) for name in ("cursor", "pause") if name in changes}
    concurrency = ConcurrencyConfig(**changes.pop("concurrency", {}))
    with ProxmoxSession(endpoint_of(simulator, **changes), concurrency, scope, **options) as session:
        yield session


Answer = tuple[int, str, bytes, dict[str, str]]


def data(value: Any) -> Answer:
    return 200, "OK", json.dumps({"data": value}).encode(), {"Content-Type": "application/json;charset=UTF-8"}


class ScriptedServer:
    """An HTTPS server whose every answer is given by ``answer(method, path with query)``; counts what was asked."""

    def __init__(self, answer: Callable[[str, str], Answer | None], name: str = "127.0.0.1") -> None:
        self.asked: list[str] = []
        self.authority = trustme.CA()
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                script.asked.append(self.path)
                if length := int(self.headers.get("Content-Length") or 0):
                    self.rfile.read(length)
                answer_ = answer(self.command, self.path)
                if answer_ is None:
                    self.close_connection = True
                    return
                status, reason, body, headers = answer_
                self.send_response(status, reason)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(name).configure_cert(context)
        self.server.socket = context.wrap_socket(
            self.server.socket, server_side=True, do_handshake_on_connect=False
        )  # fmt: skip
        self.port = int(self.server.server_address[1])
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()
