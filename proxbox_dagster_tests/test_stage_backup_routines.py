"""Stage 12: backup jobs and the guests that they take."""

from __future__ import annotations

from typing import Any

import pytest

from proxbox_dagster.facts import UNOBSERVED, Fetched, GapKind
from proxbox_dagster.netbox.spec import Desired, Outcome, Ref
from proxbox_dagster.stages.backup_routines import ROUTINE, STAGE, schedule_of
from proxbox_dagster_tests.support.guest_data import (
    ENDPOINT,
    built,
    fetched,
    gap,
    guest,
    one,
    skip_of,
    storage,
    told,
)

GUESTS = [
    guest(100, pool="web"),
    guest(101, "lxc", node="pve2", pool="web"),
    guest(102, node="pve2"),
    guest(103, template=True, pool="web/inner"),
]


def job(name: str = "backup-1", **row: Any) -> dict[str, Any]:
    raw = {key: value for key, value in row.items() if key != "raw"}
    return {"id": name, "type": "vzdump", "storage": "nas", "raw": {"id": name, **raw}, **row}


def of(*jobs: dict[str, Any], guests: Fetched | None = None, gaps: Any = ()) -> Desired:
    return built(STAGE, guests=guests or fetched("guests", GUESTS), backup_jobs=fetched("backup_jobs", jobs, gaps))[
        "backup_routines"
    ]


def selection(guests: Fetched | None = None, **row: Any) -> Any:
    return of(job(**row), guests=guests).rows[0].values["selection"]


def test_a_job_field_by_field() -> None:
    made = of(
        job(
            enabled=True,
            schedule="sun 03:00",
            **{
                "next-run": 1_768_705_200,
                "prune-backups": {"keep-last": "4", "keep-daily": 7, "keep-hourly": 2},
                "notes-template": "{{guestname}}",
                "repeat-missed": True,
                "pbs-change-detection-mode": "metadata",
            },
            node="pve2",
            vmid="102,101",
            comment="weekly",
            bwlimit=10240,
            zstd=4,
            performance="max-workers=4,pbs-entries-max=1000",
            fleecing={"enabled": "1", "storage": "local-lvm"},
            raw={"id": "backup-1", "vmid": "102,101", "fleecing": "storage=local-lvm,enabled=1", "zstd": "4"},
        )
    )
    assert made.rows[0].values == {
        "cf.proxmox_endpoint": ENDPOINT,
        "tags": {"proxbox"},
        "endpoint": Ref("endpoints", (ENDPOINT,)),
        "job_id": "backup-1",
        "enabled": True,
        "schedule": "sun 03:00",
        "next_run": 1_768_705_200,
        "node": Ref("proxmox_nodes", (ENDPOINT, "pve2")),
        "storage": storage("nas"),
        "selection": [101, 102],
        "comment": "weekly",
        "status": "active",
        "keep_all": None,
        "keep_last": 4,
        "keep_daily": 7,
        "keep_weekly": None,
        "keep_monthly": None,
        "keep_yearly": None,
        "notes_template": "{{guestname}}",
        "bwlimit": 10240,
        "zstd": 4,
        "io_workers": 4,
        "fleecing": "enabled=1,storage=local-lvm",
        "fleecing_storage": storage("local-lvm"),
        "repeat_missed": True,
        "pbs_change_detection_mode": "metadata",
        "raw_config": {
            "id": "backup-1",
            "vmid": "101,102",
            "fleecing": {"enabled": 1, "storage": "local-lvm"},
            "zstd": 4,
        },
    }
    assert set(made.rows[0].values) == set(ROUTINE.by_name)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"all": True}, [100, 101, 102, 103]),
        ({"all": True, "exclude": "101; 103"}, [100, 102]),
        ({"all": True, "node": "pve2"}, [101, 102]),
        ({"all": True, "exclude": "102", "node": "pve2"}, [101]),
        ({"pool": "web"}, [100, 101]),
        ({"pool": "web", "node": "pve1"}, [100]),
        ({"pool": "web", "exclude": "100"}, [100, 101]),
        ({"vmid": "103, 100 ,100"}, [100, 103]),
        ({"vmid": "100,102,777", "node": "pve1"}, [100, 777]),
        ({"vmid": "100", "all": True}, [100]),
        ({"vmid": "100", "pool": "web"}, [100, 101]),
    ],
)
def test_the_selection_is_expanded_as_proxmox_does(row: dict[str, Any], expected: list[int]) -> None:
    assert selection(**row) == expected


@pytest.mark.parametrize("row", [{"pool": "empty"}, {}, {"vmid": "102", "node": "pve1"}, {"all": True, "node": "pve9"}])
def test_a_job_that_takes_nothing_is_skipped_and_stays(row: dict[str, Any]) -> None:
    made = of(job(**row))
    skip = skip_of(made, "it takes no guest at present")
    assert (skip.outcome, skip.key) == (Outcome.SKIPPED, (ENDPOINT, "backup-1"))
    assert not made.rows


def test_odd_numbers_in_a_list_are_told() -> None:
    made = of(job(vmid="100,abc"))
    assert made.rows[0].values["selection"] == [100]
    assert any("'abc', which is no VMID" in note for note in made.notes)


def test_guests_out_of_sight_leave_the_selection_alone() -> None:
    shortened = fetched("guests", GUESTS, [gap("all", "", GapKind.PERMISSION, "the token lacks VM.Audit on /vms")])
    made = of(job(all=True), guests=shortened)
    assert made.rows[0].values["selection"] is UNOBSERVED
    assert any("lacks VM.Audit" in note for note in made.notes)
    assert selection(shortened, vmid="100") == [100], "a list does not depend on what is seen"


def test_guests_of_a_node_that_is_off_are_selected_all_the_same() -> None:
    off = fetched("guests", GUESTS, [gap("node", "pve2", GapKind.OFFLINE, "node pve2 is offline")])
    assert selection(off, all=True) == [100, 101, 102, 103]


def test_pools_that_are_not_shown_leave_the_selection_alone() -> None:
    unseen = fetched("guests", [{**row, "pool": UNOBSERVED} for row in GUESTS])
    made = of(job(pool="web"), guests=unseen)
    assert made.rows[0].values["selection"] is UNOBSERVED
    assert any("Pool.Audit" in note for note in made.notes)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"schedule": "*/6:00"}, "*/6:00"),
        ({"dow": "tue,mon", "starttime": "00:00"}, "mon,tue 00:00"),
        ({"dow": "mon,tue,wed,thu,fri,sat,sun", "starttime": "01:30"}, "01:30"),
        ({"starttime": "02:00"}, "02:00"),
        ({}, None),
        ({"schedule": UNOBSERVED, "starttime": "02:00"}, UNOBSERVED),
    ],
)
def test_schedules(row: dict[str, Any], expected: Any) -> None:
    assert schedule_of({"schedule": None, "dow": None, "starttime": None, **row}) == expected


def test_a_job_is_on_unless_it_says_otherwise() -> None:
    made = of(job("a", all=True, **{"next-run": 5}), job("b", all=True, enabled=False, **{"next-run": 5}))
    assert [(row.values["enabled"], row.values["next_run"]) for row in made.rows] == [(True, 5), (False, None)]


@pytest.mark.parametrize(
    ("row", "kept"),
    [
        ({"prune-backups": "keep-all=1"}, {"keep_all": True}),
        (
            {"prune-backups": "keep-yearly=1,keep-monthly=2,keep-weekly=3"},
            {"keep_yearly": 1, "keep_monthly": 2, "keep_weekly": 3},
        ),
        ({"maxfiles": 3}, {"keep_last": 3}),
        ({"maxfiles": 0}, {"keep_all": True}),
        ({"maxfiles": 3, "prune-backups": {"keep-last": 5}}, {"keep_last": 5}),
        ({}, {}),
    ],
)
def test_retention(row: dict[str, Any], kept: dict[str, Any]) -> None:
    values = of(job(all=True, **row)).rows[0].values
    found = {name: value for name, value in values.items() if name.startswith("keep_") and value is not None}
    assert found == kept


@pytest.mark.parametrize(
    ("row", "fields"),
    [
        ({"prune-backups": "keep-last=many"}, ["keep_last", "keep_all", "keep_daily"]),
        ({"fleecing": "=,="}, ["fleecing", "fleecing_storage"]),
        ({"performance": "max-workers=lots"}, ["io_workers"]),
    ],
)
def test_what_cannot_be_read_is_left_alone_and_told(row: dict[str, Any], fields: list[str]) -> None:
    made = of(job(all=True, **row))
    assert all(made.rows[0].values[name] is UNOBSERVED for name in fields)
    assert any("cannot be read" in note for note in made.notes)


def test_equal_spellings_make_equal_rows() -> None:
    ours = of(job(all=True, fleecing="1,storage=ceph", **{"prune-backups": {"keep-last": "3"}}, raw={"zstd": 1}))
    other = of(
        job(all=True, fleecing={"storage": "ceph", "enabled": 1}, **{"prune-backups": "keep-last=3"}, raw={"zstd": "1"})
    )
    assert told(ours.rows) == told(other.rows)


def test_only_a_complete_read_makes_jobs_stale() -> None:
    assert of(job(all=True)).coverage.everything
    assert not of(job(all=True), gaps=[gap("all", "", GapKind.OFFLINE, "no quorum")]).coverage.everything
    assert (ROUTINE.missing_status, ROUTINE.removal) == ("stale", "mark")


def test_the_order_of_jobs_and_guests_makes_no_difference() -> None:
    jobs = [job("b", pool="web"), job("a", all=True)]
    ours = of(*jobs)
    other = of(*reversed(jobs), guests=fetched("guests", GUESTS[::-1]))
    assert told(ours.rows) == told(other.rows)
    assert one(ours, job_id="a")["selection"] == [100, 101, 102, 103]
