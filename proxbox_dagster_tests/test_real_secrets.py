"""Scenario 49: canary secrets are looked for in all that runs leave behind, on real servers."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from proxbox_dagster import stages
from proxbox_dagster.cli import app
from proxbox_dagster_tests.support.synced import Synced, described, laid_out

TOKEN = "canary-0f0f-token-of-proxmox"
PASSWORD = "canary-1f1f-password-of-proxmox"
WRONG = "canary-2f2f-wrong-secret"


@pytest.fixture
def lab(netbox_server: Any, tmp_path: Path) -> Iterator[Synced]:
    with laid_out(netbox_server, tmp_path, twin=described("twin")) as lab:
        credentials = lab.simulators["twin"].credentials
        credentials.token_value, credentials.password = TOKEN, PASSWORD
        lab.configure()
        yield lab


def everything_in(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Each file below a folder, and each value of each SQLite database among them, unpacked."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        yield str(path.relative_to(folder)), path.read_bytes()
        if path.suffix == ".db":
            with sqlite3.connect(path) as database:
                for (table,) in database.execute("select name from sqlite_master where type = 'table'").fetchall():
                    for row in database.execute(f'select * from "{table}"'):
                        yield f"{path.name} {table}", b"\n".join(map(_bytes, row))


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        try:
            return zlib.decompress(value)
        except zlib.error:
            return value
    return str(value).encode()


def test_scenario_49_no_secret_in_anything_that_runs_leave_behind(
    lab: Synced, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "dagster-home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    netbox_token = lab._whole
    outputs: dict[str, str] = {}

    def sync(name: str, *, ok: bool) -> None:
        result = CliRunner().invoke(app, ["sync", "--stage", "devices", "--json"])
        outputs[name] = f"{result.output}\n{result.stderr}\n{result.exception!r}"
        assert json.loads(result.stdout)["ok"] is ok, outputs[name]

    endpoint = lab.settings["endpoints"][0]
    sync("a good run with a token", ok=True)
    with_token = dict(endpoint)
    del endpoint["token_name"], endpoint["token_value"]
    endpoint["password"] = {"env": "LAB_PASSWORD"}
    monkeypatch.setenv("LAB_PASSWORD", PASSWORD)
    lab.save()
    sync("a good run with a password", ok=True)
    monkeypatch.setenv("LAB_PASSWORD", WRONG)
    sync("a wrong password", ok=False)
    endpoint.clear()
    endpoint.update(with_token)
    lab.save()
    monkeypatch.setenv("LAB_TWIN_TOKEN", WRONG)
    sync("a wrong token on Proxmox", ok=False)
    monkeypatch.setenv("LAB_TWIN_TOKEN", TOKEN)
    endpoint["verify_ssl"] = True
    lab.save()
    sync("a certificate that is not trusted", ok=False)
    endpoint.update(with_token)
    lab.save()
    monkeypatch.setenv("LAB_NETBOX_TOKEN", f"nbt_abcdefghijkl.{WRONG}")
    sync("a wrong token on NetBox", ok=False)
    monkeypatch.setenv("LAB_NETBOX_TOKEN", netbox_token)

    def broken(inputs: Any, context: Any) -> Any:
        secrets = [lab.simulators["twin"].token_value, netbox_token]
        raise RuntimeError(f"a fault of the program, with {len(secrets)} secrets at hand")

    first = stages.STAGES[0]
    monkeypatch.setattr(stages, "STAGES", (replace(first, build=broken), *stages.STAGES[1:]))
    monkeypatch.setattr("proxbox_dagster.assembly.STAGES", stages.STAGES)
    sync("a fault inside a stage", ok=False)
    assert "a fault of the program" in outputs["a fault inside a stage"]

    left = {name: text.encode() for name, text in outputs.items()}
    kept = list(everything_in(home))
    assert any(name.endswith(".db") for name, _ in kept)
    assert any(b"a fault of the program" in data for _, data in kept), "the traceback is kept"
    for secret in (TOKEN, PASSWORD, WRONG, netbox_token, netbox_token.partition(".")[2]):
        assert [name for name, data in [*left.items(), *kept] if secret.encode() in data] == [], secret
