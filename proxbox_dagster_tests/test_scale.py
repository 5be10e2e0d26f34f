"""Nothing quadratic: a run's work grows with its objects, its reads of NetBox with the pages. Counted, not timed."""

from __future__ import annotations

import cProfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from proxbox_dagster.bench.replay import make, replayed, run_stages

SIZES = (50, 100, 200)


@dataclass(frozen=True)
class Effort:
    """What one run took: Python calls of the thread that maps and plans, and requests to NetBox."""

    objects: int
    changes: int
    calls: int
    requests: int


def effort(kept: Path, *, empty: bool) -> Effort:
    run = replayed(kept, empty=empty)
    profile = cProfile.Profile()
    profile.enable()
    run_stages(run)
    profile.disable()
    reports = run.reports.values()
    assert not [skip.reason for report in reports for skip in report.failures]
    return Effort(
        objects=sum(report.seen for report in reports),
        changes=sum(report.created + report.updated for report in reports),
        calls=sum(entry.callcount for entry in profile.getstats()),
        requests=sum(run.netbox.requests.values()),
    )


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The answers of both sides for clusters of SIZES guests."""
    folder = tmp_path_factory.mktemp("answers")
    found = [folder / f"{guests}.sqlite" for guests in SIZES]
    for guests, kept in zip(SIZES, found, strict=True):
        assert make(guests, kept) > 10 * guests
    return found


@pytest.mark.parametrize("empty", [False, True], ids=["no-op", "cold"])
def test_scenario_54_the_work_grows_with_the_objects_and_not_with_their_square(
    empty: bool, answers: list[Path]
) -> None:
    small, middle, large = (effort(kept, empty=empty) for kept in answers)

    # What each further object costs, so that what every run costs does not hide it.
    first = (middle.calls - small.calls) / (middle.objects - small.objects)
    second = (large.calls - middle.calls) / (large.objects - middle.objects)
    assert second < 1.15 * first
    assert empty or (small.changes, middle.changes, large.changes) == (0, 0, 0)


def test_scenario_53_a_run_without_changes_asks_netbox_for_pages_and_not_for_objects(answers: list[Path]) -> None:
    small, _, large = (effort(kept, empty=False) for kept in answers)

    assert large.objects > 3 * small.objects
    # Every table of both fits a page; 200 guests have at most a few more distinct VLANs and tags to look up.
    assert large.requests <= small.requests + 5 < 60
