"""What is written into proxbox.yaml, right and wrong: each mistake is one line that names the key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from pydantic import BaseModel

from proxbox_dagster.hosts import host_and_port
from proxbox_dagster.resources import ProxboxResource
from proxbox_dagster.rules import checked, context_of
from proxbox_dagster.scope import Scope
from proxbox_dagster.settings import Settings, SettingsError, load_settings
from proxbox_dagster.settings_file import ConcurrencyConfig, EndpointConfig, NetBoxConfig, SettingsFile

CONFIGURATION = Path(__file__).parent.parent / "docs/configuration.md"


@pytest.fixture(autouse=True)
def _no_limits_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ConcurrencyConfig.model_fields:
        monkeypatch.delenv(f"PROXBOX_{name.upper()}", raising=False)


def endpoint(**keys: Any) -> dict[str, Any]:
    given = {"name": "ams1", "hosts": ["pve1"], "user": "netbox@pve", "password": {"env": "PVE_PASSWORD"}}
    return {**given, **keys}


def loaded(folder: Path, **keys: Any) -> Settings:
    """The settings with these top-level keys, as every command loads them."""
    file = folder / "proxbox.yaml"
    netbox = {"url": "https://netbox.example.org", "token": {"env": "NETBOX_TOKEN"}}
    file.write_text(yaml.safe_dump({"netbox": netbox, "endpoints": [endpoint()], **keys}))
    return checked(load_settings(file))


def refusal(folder: Path, **keys: Any) -> str:
    with pytest.raises(SettingsError) as refused:
        loaded(folder, **keys)
    text = str(refused.value).removeprefix(f"{folder / 'proxbox.yaml'}: ")
    assert "\n" not in text
    return text


# -- rules that name classes and fields -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (
            {"fields": {"virtual_machine": {"role": "create_only"}}},
            "fields.virtual_machine: there is no such object class (did you mean virtual_machines?)",
        ),
        (
            {"fields": {"virtual_machines": {"rolle": "create_only"}}},
            "fields.virtual_machines.rolle: there is no such field of virtual_machines (did you mean role?)",
        ),
        (
            {"removal": {"classes": {"snapshot": "ignore"}}},
            "removal.classes.snapshot: there is no such object class (did you mean snapshots?)",
        ),
        (
            {"removal": {"classes": {"sites": "delete"}}},
            "removal.classes.sites: sites are never removed; leave it out",
        ),
        *(
            ({"fields": {name: {field: "never"}}}, f"fields.{name}.{field}: it cannot be left out")
            for name, field in (("virtual_machines", "cf.proxmox_vm_id"), ("interfaces", "tags"), ("devices", "name"))
        ),
    ],
)
def test_a_rule_for_what_there_is_not_is_no_rule_that_nobody_keeps(
    keys: dict[str, Any], told: str, tmp_path: Path
) -> None:
    """Read as it stands, it would let a run overwrite what a person meant to keep, or delete what he did not."""
    assert refusal(tmp_path, **keys).startswith(told)


def test_rules_may_name_a_class_a_shared_spec_and_what_is_not_removed_anyway(tmp_path: Path) -> None:
    loaded(
        tmp_path,
        plugin="off",
        fields={"virtual_machines": {"role": "create_only"}, "ip_addresses": {"dns_name": "never"}},
        removal={"classes": {"snapshots": "mark", "sites": "ignore"}},
    )


# -- what is no value ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"schedules": {"full_update": "at night"}}, "schedules.full_update: 'at night' is no cron expression of five"),
        ({"schedules": {"quick": "99 * * * *"}}, "schedules.quick: '99 * * * *' is no cron expression"),
        ({"owners": ["bob"]}, "owners.0: no mail address, and no team:NAME"),
        ({"owners": "team:network"}, "owners: a list is needed, such as [one, two]"),
        ({"docs_url": "git.example.org"}, "docs_url: no address such as https://"),
        ({"failure_webhook": "hooks.example.org"}, "failure_webhook: no address such as https://"),
        ({"failure_webhook": {"env": "A", "file": "b"}}, "failure_webhook: give an address, or exactly one of"),
        ({"removal": None}, "removal: no value; leave the key out, or write what belongs to it"),
        ({"brake": 10}, "brake: keys with their values are needed"),
        ({"endpoints": []}, "endpoints: at least one is needed"),
        ({"endpoints": [endpoint(hosts="pve1")]}, "endpoints.ams1.hosts: a list is needed, such as [one, two]"),
        ({"concurrency": {"netbox_max_concurrent": 0}}, "concurrency.netbox_max_concurrent: Input should be greater"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_its_key(keys: dict[str, Any], told: str, tmp_path: Path) -> None:
    """No second error that only follows from it, and no word of Python's."""
    text = refusal(tmp_path, **keys)
    assert text.startswith(told)
    assert len(re.findall(r"(?:^|; )[\w.]+: ", text)) == 1, text
    assert not re.search("[Tt]uple|dictionary|instance", text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("pve1", ("pve1", 8006)),
        (" pve1.example.org:443 ", ("pve1.example.org", 443)),
        ("192.0.2.1:8007", ("192.0.2.1", 8007)),
        ("2001:db8::1", ("2001:db8::1", 8006)),
        ("fe80::1%eth0", ("fe80::1%eth0", 8006)),
        ("[2001:db8::1]:8007", ("2001:db8::1", 8007)),
        ("https://pve1.example.org:8006/", ("pve1.example.org", 8006)),
        ("https://[2001:db8::1]", ("2001:db8::1", 8006)),
    ],
)
def test_hosts_that_are_understood(text: str, found: tuple[str, int], tmp_path: Path) -> None:
    assert host_and_port(text, 8006) == found
    loaded(tmp_path, endpoints=[endpoint(hosts=[text])])


@pytest.mark.parametrize(
    "text",
    ["", "pve 1", "pve1:", "pve1:abc", "pve1:99999", "pve1/api2", "http://pve1", "[pve1]", "[2001:db8::1", "2001:db8"],
)
def test_what_is_no_host_is_refused_before_anything_is_contacted(text: str, tmp_path: Path) -> None:
    told = refusal(tmp_path, endpoints=[endpoint(hosts=["pve1", text])])
    assert told.startswith(f"endpoints.ams1.hosts.1: {text!r} is no host such as pve1.example.org")


def test_scenario_49_a_secret_in_the_wrong_place_is_not_repeated(tmp_path: Path) -> None:
    told = refusal(tmp_path, endpoints=[endpoint(hosts=["root:canary@pve1"])])
    told += refusal(tmp_path, endpoints=[endpoint(password="canary")])
    told += refusal(tmp_path, endpoints=[endpoint(password={"env": "canary-0000"})])
    token = {"password": None, "token_value": {"env": "PVE_TOKEN"}}
    told += refusal(tmp_path, endpoints=[endpoint(**token, token_name="PVEAPIToken=netbox@pve!sync=canary")])
    told += refusal(tmp_path, netbox={"url": "https://a:canary@netbox", "token": {"env": "NETBOX_TOKEN"}})
    told += refusal(tmp_path, reports={"path": "s3://key:canary@bucket"})
    (tmp_path / "proxbox.yaml").write_text("netbox: {token: canary\nendpoints: [")
    with pytest.raises(SettingsError, match=r"is not valid YAML: line 2, column 10: ") as refused:
        load_settings(tmp_path / "proxbox.yaml")
    (tmp_path / "binary").write_bytes(b"\xff\xfecanary")
    keyed = loaded(tmp_path, endpoints=[endpoint(password={"file": str(tmp_path / "binary")})])
    with pytest.raises(SettingsError, match=r"endpoints\.ams1\.password: the file .* is no text") as unread:
        keyed.endpoint("ams1")
    assert "canary" not in f"{told} {refused.value} {unread.value}"


@pytest.mark.parametrize("text", ["", "hello", "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n"])
def test_a_ca_file_without_a_certificate_is_told_as_such(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PVE_PASSWORD", "NETBOX_TOKEN"):
        monkeypatch.setenv(name, "0")
    ca = tmp_path / "ca.pem"
    ca.write_text(text)
    netbox = {"url": "https://netbox.example.org", "token": {"env": "NETBOX_TOKEN"}, "verify_ssl": str(ca)}
    settings = loaded(tmp_path, netbox=netbox, endpoints=[endpoint(verify_ssl=str(ca))])
    with pytest.raises(SettingsError, match=r"^netbox\.verify_ssl: the file .* holds no certificates in PEM form"):
        settings.netbox_connection()
    with pytest.raises(SettingsError, match=r"^endpoints\.ams1\.verify_ssl: the file .* holds no certificates"):
        settings.endpoint("ams1")


def test_a_token_may_be_named_as_proxmox_lists_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What becomes of it in NetBox is who asks and the token's name, whatever form it was pasted in."""
    monkeypatch.setenv("PVE_TOKEN", "0")
    token = {"password": None, "token_value": {"env": "PVE_TOKEN"}}
    settings = loaded(tmp_path, endpoints=[endpoint(**token, token_name="other@pve!sync", hosts=["https://pve1"])])
    context = context_of(settings.require(), settings.endpoint("ams1"), Scope())
    assert (context.user, context.token_name) == ("other@pve", "sync")
    assert (context.host, context.port) == ("pve1", 8006)


# -- the seven limits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(ConcurrencyConfig.model_fields))
def test_a_limit_comes_from_the_file_else_from_its_variable_else_from_its_default(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def limit(settings: Settings) -> int:
        return int(getattr(settings.require().concurrency, name))

    assert limit(loaded(tmp_path)) == ConcurrencyConfig.model_fields[name].default
    monkeypatch.setenv(f"PROXBOX_{name.upper()}", "3")
    assert limit(loaded(tmp_path)) == 3
    assert limit(loaded(tmp_path, concurrency={name: 2})) == 2
    monkeypatch.setenv(f"PROXBOX_{name.upper()}", "many")
    assert refusal(tmp_path).startswith(f"concurrency.{name}: ")
    assert refusal(tmp_path).endswith(f"(the environment variable PROXBOX_{name.upper()})")


def test_a_limit_of_the_launchpad_that_is_out_of_range_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded(tmp_path)
    monkeypatch.setenv("PROXBOX_CONFIG", str(tmp_path / "proxbox.yaml"))
    with pytest.raises(dg.Failure) as refused:
        ProxboxResource(netbox_max_concurrent=99).options()
    told = refused.value.description
    assert told == "run config of resource proxbox: netbox_max_concurrent: Input should be less than or equal to 32"


# -- the page of all keys -----------------------------------------------------------------------------------------


def keys_of(model: type[BaseModel], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with its default, dotted."""
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True) if not field.is_required() else ...
        item = EndpointConfig if name == "endpoints" else NetBoxConfig if name == "netbox" else type(default)
        if issubclass(item, BaseModel):
            yield from keys_of(item, f"{above}{name}.")
        else:
            yield f"{above}{name}", default


def keys_told() -> Iterator[tuple[str, str]]:
    """Every key of the page's tables with the default that stands beside it."""
    section = ""
    for line in CONFIGURATION.read_text().splitlines():
        if line.startswith("## "):
            section = line[3:].strip("`") + "." if "`" in line else ""
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        names = re.findall(r"`([^`]+)`", cells[0]) if line.startswith("| `") else []
        defaults = cells[1].split(", ") if len(names) > 1 else cells[1:2]
        yield from ((section + name, default.strip("`")) for name, default in zip(names, defaults * 2, strict=False))


def test_the_page_of_all_keys_has_every_key_with_its_default() -> None:
    told, there = dict(keys_told()), dict(keys_of(SettingsFile))
    assert set(told) == set(there)
    for name, default in there.items():
        if default is ...:
            assert told[name] == "required", name
        elif isinstance(default, bool):
            assert told[name] in (str(default).lower(), "on"), name
        elif isinstance(default, int | float):
            assert told[name] == f"{default:g}", name
        elif isinstance(default, str):
            assert told[name] == default, name
