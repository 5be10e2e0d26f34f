"""What is wrong with settings or servers, tried as a user runs it: one line with the remedy, and nothing written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from tenacity import wait_fixed
from typer.testing import CliRunner

from proxbox_dagster.cli import app
from proxbox_dagster.demo.ports import free_port
from proxbox_dagster_tests.support.least import for_runs
from proxbox_dagster_tests.support.synced import Synced, described, laid_out

STATUS = {"netbox-version": "4.7.3", "plugins": {"netbox_proxbox": "0.0.29.post6"}}
CLOSED = free_port(28000)
"""A port on which nothing listens."""


@pytest.fixture(scope="module")
def shared(netbox_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synced]:
    """An empty NetBox and one cluster, nothing synced: whatever is written shows in the change log."""
    with laid_out(netbox_server, tmp_path_factory.mktemp("bad"), small=described("small")) as lab:
        yield lab


@pytest.fixture
def lab(shared: Synced) -> Iterator[Synced]:
    shared.restore()
    shared.settings["netbox"]["retry_budget"] = 0.5
    shared.settings["endpoints"][0]["retry_budget"] = 0.5
    shared.save()
    shared.log.forget()
    yield shared
    shared.restore()


def run(*arguments: str) -> tuple[int, str]:
    """Exit status and everything printed."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def refused(lab: Synced, *words: str, only: str = "") -> str:
    """The one line that ``sync`` tells, which has all of ``words``; the run is red and NetBox is untouched."""
    code, output = run("sync", *(["--stage", only] if only else []))
    assert code == 1, output
    told = [line for line in output.splitlines() if line.startswith("✗") and not line.startswith("✗ failed small:")]
    assert len(told) == 1, output
    assert all(word in told[0] for word in words), told[0]
    assert "Traceback" not in output
    assert lab.log.entries() == []
    return told[0]


def netbox_of(lab: Synced) -> dict[str, Any]:
    found: dict[str, Any] = lab.settings["netbox"]
    return found


def endpoint_of(lab: Synced) -> dict[str, Any]:
    found: dict[str, Any] = lab.settings["endpoints"][0]
    return found


def set_up(lab: Synced, change: Callable[[], Any]) -> None:
    change()
    lab.save()


# -- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("netbox.tocken", "x", ("netbox.tocken", "unknown key", "docs/configuration.md")),
        ("endpoints.0.usr", "x", ("endpoints.small.usr", "unknown key")),
        ("plugins", "on", ("plugins", "unknown key")),
        ("netbox.token", "plain-text", ("netbox.token", "{env: NAME} or {file: PATH}")),
        ("netbox.token", {"env": "NOT_SET_ANYWHERE"}, ("netbox.token", "NOT_SET_ANYWHERE", "not set")),
        ("endpoints.0.token_value", {"file": "/nowhere/token"}, ("endpoints.small.token_value", "/nowhere/token")),
        ("endpoints.0.verify_ssl", "/nowhere/ca.pem", ("endpoints.small.verify_ssl", "/nowhere/ca.pem")),
        ("endpoints.0.user", "root", ("endpoints.small.user",)),
        ("netbox.url", "netbox.example.org", ("netbox.url", "https://")),
    ],
)
def test_settings_that_cannot_be_used(key: str, value: Any, words: tuple[str, ...], lab: Synced) -> None:
    *path, last = key.split(".")
    place: Any = lab.settings
    for step in path:
        place = place[int(step)] if step.isdigit() else place[step]
    place[last] = value
    lab.save()
    refused(lab, *words)
    assert lab.proxy.requests == [], "nothing is contacted"
    code, output = run("sync", "--json")
    assert (code, json.loads(output)["ok"]) == (1, False)
    assert len(json.loads(output)["errors"]) == 1


def test_a_settings_file_that_is_no_yaml(lab: Synced) -> None:
    (lab.folder / "proxbox.yaml").write_text("netbox: {url: [")
    refused(lab, "proxbox.yaml", "not valid YAML")


def test_a_secret_of_several_lines_is_refused_without_being_shown(lab: Synced, monkeypatch: Any) -> None:
    """Two tokens in one file would otherwise end up in an error text about an HTTP header."""
    (lab.folder / "token").write_text("canary-one\ncanary-two\n")
    set_up(lab, lambda: endpoint_of(lab).update(token_value={"file": str(lab.folder / "token")}))
    line = refused(lab, "endpoints.small.token_value", "one line")
    assert "canary" not in line


def test_no_settings_at_all(lab: Synced, monkeypatch: Any) -> None:
    for name in ("PROXBOX_CONFIG", "PROXMOX_HOST", "NETBOX_URL", "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(lab.folder.parent)
    refused(lab, "proxbox.yaml", "PROXMOX_HOST", "NETBOX_URL")


# -- NetBox -------------------------------------------------------------------------------------------------------


def test_netbox_does_not_take_the_token(lab: Synced, monkeypatch: Any) -> None:
    monkeypatch.setenv("LAB_NETBOX_TOKEN", "nbt_abcdefghijkl.0123456789012345678901234567890123456789")
    refused(lab, "does not accept the token", "Invalid v2 token", "netbox.token")


def test_netbox_out_of_reach(lab: Synced, monkeypatch: Any) -> None:
    """Nobody waits for three minutes, or without a word, for a port that never answered."""
    monkeypatch.setattr("proxbox_dagster.netbox.client.FIRST_CONTACT", 1.0)
    monkeypatch.setattr("proxbox_dagster.netbox.client.PAUSE", wait_fixed(0.2))  # by chance it is over a second
    set_up(lab, lambda: netbox_of(lab).update(url=f"http://127.0.0.1:{CLOSED}", retry_budget=180))
    refused(lab, f"check that NetBox at http://127.0.0.1:{CLOSED} is up", "within 1 s")
    code, output = run("sync", "--stage", "devices")
    [said] = [line for line in output.splitlines() if "trying again in" in line]
    assert (code, said.startswith("! NetBox GET status: "), said.endswith("s, for 1 s at most")) == (1, True, True)


def test_netbox_has_no_such_name(lab: Synced) -> None:
    set_up(lab, lambda: netbox_of(lab).update(url="http://netbox.invalid"))
    refused(lab, "http://netbox.invalid")


def test_scenario_49_netbox_with_a_certificate_that_is_not_trusted(lab: Synced) -> None:
    set_up(lab, lambda: netbox_of(lab).update(url=lab.simulators["small"].url))
    refused(lab, "certificate", "not trusted", "netbox.verify_ssl")


def test_scenario_44_another_server_in_netboxs_place(lab: Synced) -> None:
    simulator = lab.simulators["small"]
    set_up(lab, lambda: netbox_of(lab).update(url=simulator.url, verify_ssl=str(simulator.ca_file)))
    refused(lab, "NetBox", "netbox.url")


def test_scenario_44_a_web_page_in_netboxs_place(lab: Synced) -> None:
    lab.proxy.add_fault(path_regex="/api/status", count=None, body="<html>Sign in</html>")
    refused(lab, "not with NetBox's JSON", "netbox.url")


def test_scenario_44_another_instance(lab: Synced) -> None:
    lab.proxy.add_fault(path_regex="/api/status", count=None, body={"status": "fine"})
    refused(lab, "is no NetBox", "netbox.url")


def test_scenario_44_a_redirect_from_http_to_https(lab: Synced) -> None:
    target = {"Location": "https://netbox.example.org/api/status/"}
    lab.proxy.add_fault(path_regex="/api/", count=None, status=301, headers=target)
    refused(lab, "redirects to https://netbox.example.org/", "netbox.url")


def test_scenario_44_without_the_plugin(lab: Synced) -> None:
    lab.proxy.add_fault(path_regex="/api/status", count=None, body={**STATUS, "plugins": {}})
    refused(lab, "no plugin netbox-proxbox", "install it", "plugin: off")


@pytest.mark.parametrize(
    ("version", "plugin", "words"),
    [
        ("4.2.9", "0.0.29", ("NetBox is version 4.2.9", "4.6.0 or newer")),
        ("5.1.0", "0.0.29", ("NetBox is version 5.1.0", "below 5.0.0")),
        ("nightly", "0.0.29", ("NetBox", "nightly")),
        ("4.7.3", "0.0.20", ("netbox-proxbox is version 0.0.20", "0.0.29 or newer")),
        ("4.7.3", "0.2.0", ("netbox-proxbox is version 0.2.0", "below 0.1.0")),
    ],
)
def test_scenario_45_a_version_that_is_not_supported(
    version: str, plugin: str, words: tuple[str, ...], lab: Synced
) -> None:
    lab.proxy.add_fault(
        path_regex="/api/status", count=None, body={"netbox-version": version, "plugins": {"netbox_proxbox": plugin}}
    )
    refused(lab, *words)


def test_scenario_44_a_read_only_token(lab: Synced, monkeypatch: Any) -> None:
    token = lab.netbox.make_token("reader", permissions=for_runs(), write_enabled=False)
    monkeypatch.setenv("LAB_NETBOX_TOKEN", token)
    refused(lab, "token is read-only", "Write enabled", only="devices")


@pytest.mark.parametrize(
    ("model", "action"),
    [
        ("dcim.device", "add"),
        ("ipam.ipaddress", "change"),
        ("netbox_proxbox.vmsnapshot", "delete"),
        ("virtualization.virtualdisk", "view"),
        ("extras.customfield", "add"),
    ],
)
def test_scenario_44_one_permission_is_missing_on_one_model(
    model: str, action: str, lab: Synced, monkeypatch: Any
) -> None:
    """Also where it is needed late: nothing is written before all of it is known to be there."""
    permissions = [(actions, [name for name in models if name != model]) for actions, models in for_runs()]
    [held] = [actions for actions, models in for_runs() if model in models]
    permissions.append(([name for name in held if name != action], [model]))
    token = lab.netbox.make_token(f"no-{action}-{model}", permissions=permissions)
    monkeypatch.setenv("LAB_NETBOX_TOKEN", token)
    refused(lab, f"{action} {model}", "docs/operations.md", only="devices")


# -- Proxmox ------------------------------------------------------------------------------------------------------


def test_proxmox_does_not_take_the_token(lab: Synced, monkeypatch: Any) -> None:
    monkeypatch.setenv("LAB_SMALL_TOKEN", "00000000-0000-0000-0000-000000000000")
    refused(lab, "refused the API token sync@pve!netbox", "token_value")


def test_proxmox_does_not_take_the_password(lab: Synced, monkeypatch: Any) -> None:
    monkeypatch.setenv("LAB_SMALL_TOKEN", "wrong")
    endpoint = endpoint_of(lab)
    del endpoint["token_name"], endpoint["token_value"]
    set_up(lab, lambda: endpoint.update(password={"env": "LAB_SMALL_TOKEN"}))
    refused(lab, "refused the user sync@pve", "password")


def test_proxmox_out_of_reach(lab: Synced) -> None:
    set_up(lab, lambda: endpoint_of(lab).update(hosts=[f"127.0.0.1:{CLOSED}"]))
    refused(lab, f"Proxmox at 127.0.0.1:{CLOSED} cannot be reached", "Check the host")


def test_proxmox_has_no_such_name(lab: Synced) -> None:
    set_up(lab, lambda: endpoint_of(lab).update(hosts=["pve.invalid"]))
    refused(lab, "pve.invalid", "Check the host")


def test_scenario_49_proxmox_with_a_certificate_that_is_not_trusted(lab: Synced) -> None:
    """Scenario 49: nothing need be set for that."""
    set_up(lab, lambda: endpoint_of(lab).pop("verify_ssl"))
    refused(lab, "certificate", "not trusted", "/etc/pve/pve-root-ca.pem")


@pytest.mark.parametrize("kind", ["html", "redirect"])
def test_an_endpoint_that_is_not_proxmox(kind: Any, lab: Synced) -> None:
    lab.simulators["small"].faults.add("", kind=kind)
    refused(lab, "is no Proxmox VE API", "8006")


def test_an_endpoint_that_speaks_no_tls(lab: Synced) -> None:
    host = lab.proxy.url.removeprefix("http://")
    set_up(lab, lambda: endpoint_of(lab).update(hosts=[host]))
    refused(lab, host, "TLS")


def test_proxmox_lets_the_token_see_nothing(lab: Synced) -> None:
    lab.clusters["small"].restrict({})
    try:
        refused(lab, "Sys.Audit on /", "pveum acl modify / --users sync@pve --tokens 'sync@pve!netbox'")
    finally:
        lab.clusters["small"].grant_all()


# -- two clusters into one ----------------------------------------------------------------------------------------


def test_scenario_29_two_endpoints_of_one_netbox_cluster_are_refused_at_the_start(lab: Synced) -> None:
    second = {**endpoint_of(lab), "name": "again"}
    for endpoint in (endpoint_of(lab), second):
        endpoint["cluster"] = "one"
    set_up(lab, lambda: lab.settings["endpoints"].append(second))
    refused(lab, "cluster 'one' is used twice")
    assert yaml.safe_load((lab.folder / "proxbox.yaml").read_text())["endpoints"][1]["name"] == "again"
