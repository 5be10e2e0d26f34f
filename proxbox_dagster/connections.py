"""The open connections of one HTTP client, so that another thread can end the requests that are under way.

``requests.Session.close`` only drops connections that are idle; a read that waits for its answer goes on waiting.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import weakref
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


class Connections:
    """Knows every connection that is made through its :meth:`adapter`. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: weakref.WeakSet[HTTPConnection] = weakref.WeakSet()
        self._cut = False
        known = self

        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                known._opened(self)

        class Secure(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                known._opened(self)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        self._pools = {"http": PlainPool, "https": SecurePool}

    def adapter(self) -> HTTPAdapter:
        """What a ``requests.Session`` is to mount for its connections to be known here."""
        return _Adapter(self._pools)

    def cut(self) -> None:
        """End every connection now, and each that is still being made as soon as it is."""
        with self._lock:
            self._cut = True
            connections = list(self._open)
        for connection in connections:
            _end(connection)

    def _opened(self, connection: HTTPConnection) -> None:
        with self._lock:
            self._open.add(connection)
            cut = self._cut
        if cut:
            _end(connection)


class _Adapter(HTTPAdapter):
    def __init__(self, pools: dict[str, type[HTTPConnectionPool]]) -> None:
        self._pools = pools
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager


def _end(connection: HTTPConnection) -> None:
    sock = connection.sock
    if sock is not None:
        with contextlib.suppress(OSError):
            # Not SSLSocket's own: it would take the TLS state away from under the thread that reads.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
