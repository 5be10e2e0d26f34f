"""Scenario 6: a run is killed at any write and run again. NetBox ends as it would have without."""

from __future__ import annotations

import subprocess
import sys

from proxbox_dagster_tests.support.faulty_proxy import WRITES
from proxbox_dagster_tests.support.history import (
    History,
    Kill,
    assert_quiet,
    assert_same,
    history_lab,
    killed,
    make_changes,
)

lab = history_lab


FIRST = [Kill(0, True), Kill(2, False), Kill(7, True), Kill(14, False), Kill(19, True)]
CHANGES = [Kill(0, True), Kill(2, False), Kill(4, True)]


def test_scenario_06_the_command_is_killed_at_its_very_first_write(lab: History) -> None:
    lab.begin()
    running: list[subprocess.Popen[bytes]] = []
    lab.proxy.add_fault(WRITES, drop="after", act=lambda: running[0].kill())
    with subprocess.Popen(
        [sys.executable, "-m", "proxbox_dagster.cli", "sync", "--json"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as it:
        running.append(it)
        assert it.wait(120) == -9
    lab.proxy.clear()
    lab.run()
    assert_same(lab, lab.after_first)


def test_scenario_06_killed_again_and_again_on_an_empty_netbox(lab: History) -> None:
    lab.begin()
    struck = [kill for kill in FIRST if killed(lab, kill)]
    assert len(struck) >= 4, [str(kill) for kill in struck]
    lab.run()
    assert_same(lab, lab.after_first)
    assert_quiet(lab)


def test_scenario_06_killed_again_and_again_in_a_run_over_changes(lab: History) -> None:
    undisturbed = lab.after_changes()
    lab.rewind()
    make_changes(lab)
    struck = [kill for kill in CHANGES if killed(lab, kill)]
    assert len(struck) >= 2, [str(kill) for kill in struck]
    lab.run()
    assert_same(lab, undisturbed)
    assert_quiet(lab)
