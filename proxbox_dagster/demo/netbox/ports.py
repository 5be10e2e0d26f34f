"""Loopback ports that stay ours between being chosen and being listened on."""

from __future__ import annotations

import socket
import sys
from types import TracebackType

from proxbox_dagster.demo.ports import free_port


class ReservedPort:
    """A free port of 127.0.0.1, kept from others until :meth:`close`.

    On Linux a socket that is bound with SO_REUSEADDR but does not listen lets just such a server listen there, again
    after a restart too, while a connection is refused as long as none does; nobody else is given the port as a free
    one. Elsewhere the port is only chosen.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        if sys.platform == "linux":
            self._socket = socket.socket()
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(("127.0.0.1", 0))
            self.number = int(self._socket.getsockname()[1])
        else:
            self.number = free_port()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def __enter__(self) -> ReservedPort:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
