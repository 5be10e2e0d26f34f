"""The full list of a run's changes: complete, in one folder per run, and never more runs than wanted."""

from __future__ import annotations

import csv
import io
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from upath import UPath

from proxbox_dagster.artifacts import artifact_folder
from proxbox_dagster.netbox.spec import Skip
from proxbox_dagster.report import Change, ClassReport
from proxbox_dagster.report_files import COLUMNS, run_folder, write_report

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
NETBOX = "https://netbox.example.org"


@pytest.fixture(params=["file", "memory"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> UPath:
    """A folder on this disk, and one on another fsspec file system."""
    return UPath(tmp_path) if request.param == "file" else UPath(f"memory://reports-{uuid.uuid4()}")


def report(*names: str) -> ClassReport:
    changes = [Change(name, "update", "memory", "1", "2", 7, "/vm/7/", None) for name in names]
    return ClassReport("stage", "virtual_machines", dry_run=False, changes=changes)


def lines(file: UPath) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))


def test_every_change_is_in_the_file(base: UPath) -> None:
    folder = run_folder(base, "ams1", START, "0123456789")
    file = write_report(report(*(f"vm{number}" for number in range(500))), folder, NETBOX, keep=5)
    assert file is not None
    rows = lines(file)
    assert [row["object"] for row in rows] == [f"vm{number}" for number in range(500)]
    assert list(rows[0]) == list(COLUMNS)
    assert rows[0]["netbox"] == f"{NETBOX}/vm/7/"
    assert file.parent.name == "20260301T120000Z-01234567"


def test_a_name_is_no_formula(base: UPath) -> None:
    file = write_report(report("=cmd|' /C calc'!A0"), run_folder(base, "a", START, "0123456789"), NETBOX, keep=5)
    assert file is not None
    assert lines(file)[0]["object"].startswith("'=")


def test_nothing_to_tell_is_no_file(base: UPath) -> None:
    folder = run_folder(base, "ams1", START, "0123456789")
    assert write_report(report(), folder, NETBOX, keep=5) is None
    assert write_report(report("vm"), folder, NETBOX, keep=0) is None
    assert not folder.exists()


def test_only_the_newest_runs_of_an_endpoint_are_kept(base: UPath) -> None:
    stranger = base / "ams1" / "notes"
    stranger.mkdir(parents=True)
    (stranger / "mine.txt").write_text("kept")
    for number in range(6):
        folder = run_folder(base, "ams1", START + timedelta(hours=number), f"{number:08x}")
        write_report(report("vm"), folder, NETBOX, keep=3)
        skipped = ClassReport("stage", "devices", dry_run=False, skips=[Skip("pve1", "offline")])
        write_report(skipped, folder, NETBOX, keep=3)
    write_report(report("vm"), run_folder(base, "lab", START, "0" * 8), NETBOX, keep=3)
    kept = sorted(item.name for item in (base / "ams1").iterdir())
    assert kept == [f"20260301T{hour}0000Z-{number:08x}" for number, hour in ((3, 15), (4, 16), (5, 17))] + ["notes"]
    assert (stranger / "mine.txt").exists()
    assert len(list((base / "lab").iterdir())) == 1


def test_the_place_is_the_instances_storage_unless_the_settings_name_one(tmp_path: Path) -> None:
    class Instance:
        def storage_directory(self) -> str:
            return str(tmp_path)

    assert artifact_folder(None, Instance(), "reports") == UPath(tmp_path) / "proxbox" / "reports"
    assert str(artifact_folder("memory://bucket/x", Instance(), "reports")) == "memory://bucket/x"
