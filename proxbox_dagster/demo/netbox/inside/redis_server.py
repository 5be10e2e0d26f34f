"""A Redis server in Python, run inside NetBox's virtual environment: ``redis_server.py PORT``."""

from __future__ import annotations

import sys
from typing import Any

from fakeredis import TcpFakeServer
from fakeredis._clients import _tcp_server
from redis import ResponseError

# An idle connection looks for pushed messages this often (in seconds; 0.01 by default, which keeps a core busy with
# the dozen connections of a NetBox that nothing is pushed to). Data from the client wakes it at once all the same.
if hasattr(_tcp_server, "_POLL_INTERVAL"):
    _tcp_server._POLL_INTERVAL = 0.5


class Handler(_tcp_server.TCPFakeRequestHandler):
    """One connection, which an error does not end, as with Redis itself.

    rq asks for INFO, which fakeredis does not have, and goes on without. With the connection gone NetBox answered 500
    to a write that it had done.
    """

    def setup(self) -> None:
        super().setup()
        read = self.current_client.read_response

        def response() -> Any:
            try:
                return read()
            except ResponseError as error:
                return error

        self.current_client.read_response = response


def main() -> None:
    server = TcpFakeServer(("127.0.0.1", int(sys.argv[1])), server_type="redis")
    server.RequestHandlerClass = Handler
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main()
