"""What is marked and what is deleted: the planner's rules over a NetBox in memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proxbox_dagster.netbox.changes import Rules
from proxbox_dagster.netbox.removal import RemovalRules
from proxbox_dagster.netbox.spec import OWNER_TAG, Policy
from proxbox_dagster_tests.support.core import OPEN, Run, base, later, synced, whole
from proxbox_dagster_tests.support.core_specs import (
    DISK,
    MACHINE,
    disk,
    machine_ref,
    snapshot,
    wanted,
)
from proxbox_dagster_tests.support.fake_netbox import FakeNetBox

VMS = MACHINE.path


def missing(netbox: FakeNetBox, row_id: int) -> dict[str, Any]:
    found = netbox.one(VMS, id=row_id)["custom_fields"]["proxbox_missing"]
    assert isinstance(found, dict)
    return found


def test_a_status_that_a_person_chose_comes_back_with_the_guest() -> None:
    rules = Rules(policies={"virtual_machines": {"status": Policy.MANAGED}}, removal=OPEN)
    netbox = synced(whole(100, 101), rules=rules)
    row_id = netbox.one(VMS, name="vm100")["id"]
    netbox.edit(VMS, row_id, status="staged")
    Run(netbox, rules).write(*base(), whole(101))
    assert (netbox.one(VMS, id=row_id)["status"], missing(netbox, row_id)["status"]) == ("decommissioning", "staged")
    for _ in range(2):
        Run(netbox, rules).write(*base(), whole(100, 101))
        assert netbox.one(VMS, id=row_id)["status"] == "staged"


def test_a_status_that_nobody_chose_follows_the_guest_as_it_comes_back() -> None:
    rules = Rules(policies={"virtual_machines": {"status": Policy.MANAGED}}, removal=OPEN)
    netbox = synced(whole(100, 101), rules=rules)
    row_id = netbox.one(VMS, name="vm100")["id"]
    Run(netbox, rules).write(*base(), whole(101))
    run = Run(netbox, rules).write(*base(), whole(100, 101, status="offline"))
    assert netbox.one(VMS, id=row_id)["status"] == "offline"
    assert run.plans["virtual_machines"].conflicts == []


@pytest.mark.parametrize("damage", [{"since": "never", "confirmed": "x"}, {"since": "2099-01-01T00:00:00Z"}, {"a": 1}])
def test_a_damaged_record_begins_the_grace_period_anew(damage: dict[str, Any]) -> None:
    removal = replace(OPEN, default="delete", grace_days=1, confirmations=1)
    netbox = synced(whole(100, 101))
    later(netbox, whole(101), removal=removal)
    row_id = netbox.one(VMS, name="vm100")["id"]
    netbox.edit(VMS, row_id, cf_proxbox_missing=damage)
    assert later(netbox, whole(101), days=9, removal=removal).counts("virtual_machines") == {"seen": 1, "unchanged": 1}
    assert missing(netbox, row_id)["since"] == "2026-03-10T12:00:00+00:00"
    waits = later(netbox, whole(101), days=9.5, removal=removal)
    assert (waits.counts("virtual_machines")["seen"], waits.reports["virtual_machines"].waiting) == (1, 1)
    assert later(netbox, whole(101), days=11, removal=removal).counts("virtual_machines")["deleted"] == 1


def test_the_brake_stops_deletions_as_it_stops_marks() -> None:
    removal = RemovalRules(default="delete", grace_days=0, confirmations=1, brake_percent=10, brake_minimum=1)
    vmids = range(100, 110)
    netbox = synced(whole(*vmids))
    left = list(vmids)[2:]
    assert later(netbox, whole(*left), removal=removal).plans["virtual_machines"].removals.braked
    later(netbox, whole(*left), removal=replace(removal, override=True))
    stopped = later(netbox, whole(*left), days=1, removal=removal)
    assert stopped.plans["virtual_machines"].removals.braked
    assert len(netbox.all(VMS)) == 10
    done = later(netbox, whole(*left), days=1, removal=replace(removal, override=True))
    assert done.counts("virtual_machines")["deleted"] == 2


def test_a_list_that_turns_over_is_counted_by_what_it_loses() -> None:
    removal = RemovalRules(brake_percent=10, brake_minimum=0)
    parents = frozenset({machine_ref(100)})
    netbox = synced(whole(100), wanted("virtual_disks", disk(100, "a"), disk(100, "b")))
    turned = wanted("virtual_disks", disk(100, "c"), disk(100, "d"), parents=parents)
    assert later(netbox, whole(100), turned, removal=removal).counts("virtual_disks")["deleted"] == 2
    lost = wanted("virtual_disks", disk(100, "c"), parents=parents)
    assert later(netbox, whole(100), lost, removal=removal).plans["virtual_disks"].removals.braked


def test_a_class_that_mirrors_a_list_is_staged_where_the_settings_say_mark() -> None:
    removal = replace(OPEN, classes={"snapshots": "mark", "virtual_disks": "ignore"})
    parents = frozenset({machine_ref(100)})
    rows = (wanted("virtual_disks", disk(100, "a"), parents=parents), wanted("snapshots", snapshot(100, "s")))
    netbox = synced(whole(100), *rows)
    nothing = (wanted("virtual_disks", parents=parents), wanted("snapshots", parents=parents))
    run = later(netbox, whole(100), *nothing, removal=removal)
    assert run.counts("virtual_disks") == {}
    assert run.counts("snapshots") == {"marked": 1}
    assert "proxbox-missing" in netbox.one("plugins/proxbox/snapshots")["tags"]


@pytest.mark.parametrize("policy", [Policy.NEVER, Policy.CREATE_ONLY, Policy.FILL_IF_EMPTY])
def test_a_status_that_the_settings_leave_to_people_is_theirs_when_the_guest_is_gone_too(policy: Policy) -> None:
    rules = Rules(removal=OPEN, policies={"virtual_machines": {"status": policy}})
    netbox = synced(whole(100, 101), rules=rules)
    row_id = netbox.one(VMS, name="vm100")["id"]
    netbox.edit(VMS, row_id, status="planned")
    for guests, marked in ((whole(101), True), (whole(100, 101), False)):
        Run(netbox, rules).write(*base(), guests)
        row = netbox.one(VMS, id=row_id)
        assert (row["status"], "proxbox-missing" in row["tags"]) == ("planned", marked)


def test_what_people_hung_on_it_or_want_kept_under_it_keeps_a_row() -> None:
    removal = replace(OPEN, default="delete", grace_days=0, confirmations=1)
    netbox = synced(whole(100, 101, 102), wanted("virtual_disks", disk(100, "a"), disk(101, "a"), disk(102, "a")))
    ids = {row["name"]: row["id"] for row in netbox.all(VMS)}
    netbox.add("extras/journal-entries", assigned_object_type=MACHINE.model, assigned_object_id=ids["vm100"])
    keep = next(row["id"] for row in netbox.all(DISK.path) if row["virtual_machine"] == ids["vm101"])
    netbox.edit(DISK.path, keep, tags=[OWNER_TAG, "proxbox-keep"])
    later(netbox, whole(), removal=replace(removal, override=True))
    run = later(netbox, whole(), removal=replace(removal, override=True))
    assert run.counts("virtual_machines") == {"deleted": 1}
    assert {row["name"] for row in netbox.all(VMS)} == {"vm100", "vm101"}
    assert len(run.reports["virtual_machines"].warnings) == 2


def test_rows_that_were_not_seen_are_named_with_the_reason() -> None:
    netbox = synced(whole(100, 101))
    desired = whole(100)
    desired.coverage = replace(desired.coverage, everything=False, gap=True, reason="the token lacks VM.Audit")
    run = later(netbox, desired)
    assert later(netbox, replace(desired, rows=whole(100, 101).rows)).reports["virtual_machines"].warnings == []
    assert run.reports["virtual_machines"].warnings == [
        f"kept: 1 not seen (vm101 (id {netbox.one(VMS, name='vm101')['id']})) and not taken for gone: "
        "the token lacks VM.Audit"
    ]


def test_what_proxmox_may_only_hide_is_neither_marked_nor_deleted_and_only_what_would_be_is_asked_for() -> None:
    asked: list[str] = []

    def hidden(_spec: Any, row: dict[str, Any]) -> str | None:
        asked.append(row["name"])
        return "the token may not see it" if row["name"] == "vm100" else None

    def run(proof: Any, *rows: Any) -> Run:
        rules = Rules(removal=replace(OPEN, default="delete", grace_days=0, confirmations=1), proof=proof)
        return Run(netbox, rules).write(*base(), *rows)

    netbox = synced(whole(100, 101, 102))
    first = run(hidden, whole(102))
    assert first.counts("virtual_machines") == {"seen": 1, "unchanged": 1, "marked": 1}
    assert asked == ["vm100", "vm101"]
    [kept] = first.reports["virtual_machines"].warnings
    assert kept.endswith("the token may not see it")
    run(None, whole(102))
    asked.clear()
    last = run(hidden, whole(102))
    assert last.counts("virtual_machines")["seen"] == 1
    assert {row["name"] for row in netbox.all(VMS)} == {"vm100", "vm102"}, "101 went in the run that asked nobody"
    assert asked == ["vm100"]
