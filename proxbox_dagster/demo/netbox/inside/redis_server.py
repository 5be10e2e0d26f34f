"""A Redis server in Python, run inside NetBox's virtual environment: ``redis_server.py PORT``."""

from __future__ import annotations

import sys

from fakeredis import TcpFakeServer
from fakeredis._clients import _tcp_server

# An idle connection looks for pushed messages this often (in seconds; 0.01 by default, which keeps a core busy with
# the dozen connections of a NetBox that nothing is pushed to). Data from the client wakes it at once all the same.
if hasattr(_tcp_server, "_POLL_INTERVAL"):
    _tcp_server._POLL_INTERVAL = 0.5


def main() -> None:
    server = TcpFakeServer(("127.0.0.1", int(sys.argv[1])), server_type="redis")
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main()
