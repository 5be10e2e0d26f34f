"""The real NetBox of the tests: one server per test worker, made empty again for every test that asks for it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from proxbox_dagster.demo.netbox import NetBoxServer, NetBoxUnavailable

REAL_FIXTURES = frozenset({"netbox", "netbox_server"})


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever asks for the real NetBox is marked ``real``, so that ``-m "not real"`` is the fast part."""
    for item in items:
        if REAL_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.real)


@pytest.fixture(scope="session")
def netbox_server() -> Iterator[NetBoxServer]:
    """A running NetBox of this worker's own, as the last test left it.

    Skips only where there is no Python that NetBox runs on; a NetBox that cannot be installed or started is an error.
    """
    # Several test workers keep the machine's cores busy by themselves.
    crowded = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1
    server = NetBoxServer(workers=1 if crowded else 2)
    try:
        server.__enter__()
    except NetBoxUnavailable as error:
        pytest.skip(str(error))
    try:
        yield server
    finally:
        server.__exit__(None, None, None)


@pytest.fixture
def netbox(netbox_server: NetBoxServer) -> NetBoxServer:
    """An empty NetBox, serving even if an earlier test failed while it was stopped."""
    netbox_server.reset()
    address = urlsplit(netbox_server.url)
    with socket.socket() as probe:
        refused = probe.connect_ex((address.hostname, address.port)) != 0
    if refused:
        netbox_server.start_web()
    return netbox_server
