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
    folder = run_folder(base, "ams1", START, "0123456789", "full_update")
    file = write_report(report(*(f"vm{number}" for number in range(500))), folder, NETBOX, keep=5)
    assert file is not None
    rows = lines(file)
    assert [row["object"] for row in rows] == [f"vm{number}" for number in range(500)]
    assert list(rows[0]) == list(COLUMNS)
    assert rows[0]["netbox"] == f"{NETBOX}/vm/7/"
    assert file.parent.name == "20260301T120000Z-01234567-full_update"


def test_a_name_is_no_formula(base: UPath) -> None:
    file = write_report(
        report("=cmd|' /C calc'!A0"), run_folder(base, "a", START, "0123456789", "full_update"), NETBOX, keep=5
    )
    assert file is not None
    assert lines(file)[0]["object"].startswith("'=")


def test_nothing_to_tell_is_no_file(base: UPath) -> None:
    folder = run_folder(base, "ams1", START, "0123456789", "full_update")
    assert write_report(report(), folder, NETBOX, keep=5) is None
    assert write_report(report("vm"), folder, NETBOX, keep=0) is None
    assert not folder.exists()


def test_only_the_newest_runs_of_an_endpoint_and_job_are_kept(base: UPath) -> None:
    """The quick runs of one morning must not drive out what the last nights have told."""
    stranger = base / "ams1" / "notes"
    stranger.mkdir(parents=True)
    (stranger / "mine.txt").write_text("kept")
    skipped = ClassReport("stage", "devices", dry_run=False, skips=[Skip("pve1", "offline")])
    for number in range(6):
        for job in ("full_update", *["quick_update"] * 4 * (number > 3)):
            moment = START + timedelta(hours=number)
            folder = run_folder(base, "ams1", moment, uuid.uuid4().hex, job)
            write_report(report("vm"), folder, NETBOX, keep=3)
            write_report(skipped, folder, NETBOX, keep=3)
    write_report(report("vm"), run_folder(base, "lab", START, "0" * 8, "full_update"), NETBOX, keep=3)
    kept = [item.name for item in (base / "ams1").iterdir()]
    hours = {job: sorted(name[9:11] for name in kept if name.endswith(job)) for job in ("full_update", "quick_update")}
    assert hours == {"full_update": ["15", "16", "17"], "quick_update": ["17", "17", "17"]}
    assert len(kept) == 7
    assert (stranger / "mine.txt").exists()
    assert len(list((base / "lab").iterdir())) == 1


def test_the_place_is_the_instances_storage_unless_the_settings_name_one(tmp_path: Path) -> None:
    class Instance:
        def storage_directory(self) -> str:
            return str(tmp_path)

    assert artifact_folder(None, Instance(), "reports") == UPath(tmp_path) / "proxbox" / "reports"
    assert str(artifact_folder("memory://bucket/x", Instance(), "reports")) == "memory://bucket/x"
