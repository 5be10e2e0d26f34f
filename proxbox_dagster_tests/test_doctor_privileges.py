"""Scenario 50, the Proxmox side: the documented role suffices, and each privilege that it lacks is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxbox_dagster.demo.ports import free_port
from proxbox_dagster.demo.proxmox import ProxmoxSimulator, load_cluster, make_cluster
from proxbox_dagster.doctor import Finding, endpoint_findings
from proxbox_dagster.proxmox.grants import role_privileges
from proxbox_dagster.settings import Settings
from proxbox_dagster_tests.support import least


@pytest.fixture(scope="module")
def simulator() -> Iterator[ProxmoxSimulator]:
    with ProxmoxSimulator(load_cluster("lab"), flavour="9.1") as simulator:
        simulator.auth_delay = 0.05
        yield simulator


def findings(simulator: ProxmoxSimulator, monkeypatch: Any, **keys: Any) -> list[Finding]:
    monkeypatch.setenv("CANARY", simulator.password if "password" in keys else simulator.token_value)
    token = {} if "password" in keys else {"token_name": simulator.token_name, "token_value": {"env": "CANARY"}}
    endpoint = {
        "name": "lab",
        "hosts": [f"{simulator.host}:{simulator.port}"],
        "user": simulator.user,
        "verify_ssl": str(simulator.ca_file),
        "retry_budget": 1,
        **token,
        **keys,
    }
    settings = Settings(least.settings(endpoints=[endpoint]), str(Path("proxbox.yaml")))
    return list(endpoint_findings(settings, "lab"))


@pytest.mark.parametrize("keys", [{}, {"password": {"env": "CANARY"}}], ids=["token", "password"])
def test_scenario_50_the_documented_role_suffices_and_proxmox_is_only_read(
    keys: dict[str, Any], simulator: ProxmoxSimulator, monkeypatch: Any
) -> None:
    simulator.cluster.restrict({"/": role_privileges()})
    simulator.reset_counters()
    found = findings(simulator, monkeypatch, **keys)
    assert [finding for finding in found if finding.ok is not True] == []
    asked = {(method, path) for method, path, _, _ in simulator.log if method != "GET"}
    assert asked == ({("POST", "/access/ticket")} if keys else set())
    refused = {path for _, path, _, status in simulator.log if status >= 400}
    assert refused <= {"/"}, "only the page whose Date tells the clock is no part of the API"


@pytest.mark.parametrize("before_9", [False, True])
def test_scenario_50_each_missing_privilege_is_named_with_the_line_that_grants_it(
    before_9: bool, simulator: ProxmoxSimulator, monkeypatch: Any
) -> None:
    simulator.cluster.set_flavour("8.4" if before_9 else "9.1")
    everything = set(role_privileges(before_9=before_9))
    for privilege in sorted(everything):
        # Whoever may allocate space on a storage sees it, too: both must be missing for it to be hidden.
        also = {"Datastore.AllocateSpace"} if privilege == "Datastore.Audit" else set()
        simulator.cluster.restrict({"/": everything - {privilege} - also})
        wrong = [finding.text for finding in findings(simulator, monkeypatch) if finding.ok is False]
        told = [text for text in wrong if f"lacks {privilege}" in text]
        assert told, (privilege, wrong)
        for text in told:
            assert "pveum acl modify" in text
            line = text.split("pveum role add", 1)[1]
            assert privilege in line.split("'")[1].split(","), text
    simulator.cluster.set_flavour("9.1")


def test_each_host_is_tried_and_must_be_of_the_same_cluster(tmp_path: Path, monkeypatch: Any) -> None:
    """A second host that is wrong would else be found in the night in which the first one is down."""
    here, there = make_cluster("here", nodes=2, guests=0), make_cluster("there", nodes=1, guests=0)
    with ProxmoxSimulator(here) as simulator, ProxmoxSimulator(there) as other:
        other.credentials = simulator.credentials
        nodes = [f"{simulator.host}:{port}" for port in simulator.ports.values()]
        found = findings(simulator, monkeypatch, hosts=nodes)
        assert [(item.ok, item.text) for item in found if item.subject == "proxmox lab hosts"] == [
            (True, f"each of {nodes[0]}, {nodes[1]} answers for this cluster")
        ]
        dead, foreign = f"{simulator.host}:{free_port(28100)}", f"{other.host}:{other.port}"
        both = tmp_path / "ca.pem"
        both.write_text(Path(simulator.ca_file).read_text() + Path(other.ca_file).read_text())
        found = findings(simulator, monkeypatch, hosts=[dead, nodes[0], foreign], verify_ssl=str(both))
    [reached] = [item for item in found if item.subject == "proxmox lab"]
    assert reached.text.startswith(f"{nodes[0]}: "), "not the host that does not answer"
    told = {item.ok: item.text for item in found if item.subject == "proxmox lab hosts"}
    assert told[None].startswith(f"Proxmox at {dead} cannot be reached")
    assert told[False] == f"{foreign} is of another cluster: make it an endpoint of its own"
