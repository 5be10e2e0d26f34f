"""The real NetBox of the tests: one server per test worker, made empty again for every test that asks for it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, settings

from proxbox_dagster.demo.netbox import NetBoxServer, NetBoxUnavailable
from proxbox_dagster.demo.netbox.python import find_python
from proxbox_dagster.netbox.changes import Plan
from proxbox_dagster.netbox.plan import plan
from proxbox_dagster.netbox.spec import Desired
from proxbox_dagster.report import ClassReport, report_of
from proxbox_dagster_tests.support.synced import Synced, synced

# How fast a busy machine makes examples says nothing about them.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")

NO_NETBOX = "without NetBox: "
REAL = "netbox_server"
"""Whatever a test asks for, this is among its fixtures where it needs the real NetBox; a module's own ``netbox`` is
none."""

# A worker takes one file after the other, in this order (xdist's own is by the number of tests): begun late, a long one
# would keep it busy when the rest is done. Half a minute and more, the longest first.
LONG = """
    failing_netbox real_truth scenarios_evidence scenarios_removal scenarios_basic scenarios_ownership
    real_histories real_partial_runs cancellation real_trust scenario_06_killed scenario_41_bad_rows dagster_dev
    scenarios_identity real_networking automation real_inventory bench browser real_plugin_off source_changes
    scenario_38_two_runs real_bad_input real_secrets deploy
"""


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever asks for the real NetBox is marked ``real``, so that ``-m "not real"`` is the fast part."""
    for item in items:
        if REAL in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.real)
    order = {f"test_{name}.py": number for number, name in enumerate(LONG.split())}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Where there was no Python for NetBox, the ways out: once, not with each of the tests that were skipped for it."""
    if any(NO_NETBOX in str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])):
        try:
            find_python()
        except NetBoxUnavailable as error:
            terminalreporter.write_line(str(error))


@pytest.fixture(autouse=True)
def every_object_is_accounted_for(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Scenario 48 in every run of every test, also in one that failed or was cancelled: no run goes around it.

    What a mapping handed to the plan is seen, and what is seen is in exactly one outcome.
    """
    wrong: list[str] = []

    def planned(desired: Desired, *args: Any, **kwargs: Any) -> Plan:
        handed_over = len(desired.rows) + len(desired.skips)
        made = plan(desired, *args, **kwargs)
        if made.seen != handed_over:
            wrong.append(f"{made.object_class.name}: {handed_over} objects handed over, {made.seen} seen")
        return made

    def reported(*args: Any, **kwargs: Any) -> ClassReport:
        report = report_of(*args, **kwargs)
        if not report.accounted:
            wrong.append(f"{report.object_class}: {report.counts()}")
        return report

    monkeypatch.setattr("proxbox_dagster.run.plan", planned)
    monkeypatch.setattr("proxbox_dagster.run.report_of", reported)
    yield
    assert not wrong, wrong


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
        pytest.skip(NO_NETBOX + str(error).partition(". ")[0])
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


@pytest.fixture(scope="module")
def shared(
    netbox_server: NetBoxServer, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Synced]:
    """A module's lab over the described clusters that its ``CLUSTERS`` names, synced once."""
    with synced(netbox_server, tmp_path_factory.mktemp("lab"), *request.module.CLUSTERS) as found:
        yield found


@pytest.fixture
def lab(shared: Synced) -> Synced:
    """The module's lab as its first run left it, whatever the test before has done."""
    shared.rewind()
    return shared
