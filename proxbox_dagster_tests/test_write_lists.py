"""How rows are parted into lists for the connections that there are."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxbox_dagster.netbox.changes import Rules
from proxbox_dagster.netbox.removal import RemovalRules
from proxbox_dagster.netbox.spec import Desired, Row
from proxbox_dagster.parallel import WORTH_PARTING, in_lists
from proxbox_dagster_tests.support.core import Run, synced
from proxbox_dagster_tests.support.core_specs import DISK, TASK, disk, machine, wanted


@given(st.integers(0, 700), st.integers(1, 100), st.integers(1, 8))
def test_lists_keep_every_row_in_order_and_give_each_worker_as_many(rows: int, most: int, workers: int) -> None:
    lists = in_lists(range(rows), most, workers)

    assert [row for part in lists for row in part] == list(range(rows))
    assert all(0 < len(part) <= most for part in lists)
    if lists:
        assert max(map(len, lists)) - min(map(len, lists)) <= 1
    if rows > max(WORTH_PARTING, workers):
        assert len(lists) % workers == 0 or len(lists) == rows


def test_one_worker_gets_as_few_lists_as_possible() -> None:
    assert [len(part) for part in in_lists(range(151), 75, 1)] == [51, 50, 50]
    assert [len(part) for part in in_lists(range(151), 75, 2)] == [38, 38, 38, 37]
    assert [len(part) for part in in_lists(range(20), 75, 2)] == [20]


@given(st.lists(st.integers(0, 12), max_size=120), st.integers(1, 30), st.integers(1, 4))
def test_rows_of_one_sum_are_never_written_by_two_at_once(owners: list[int], most: int, workers: int) -> None:
    rows = list(enumerate(owners))
    lists = in_lists(rows, most, workers, lambda row: row[1])

    assert sorted(row for part in lists for row in part) == rows
    if workers > 1:
        assert len({owner for _, owner in rows}) == sum(len({owner for _, owner in part}) for part in lists)
        assert all(len(part) <= most or len({owner for _, owner in part}) == 1 for part in lists)
    for part in lists:
        assert part
        for owner in {owner for _, owner in part}:
            mine = [number for number, one in part if one == owner]
            assert mine == sorted(mine)


def test_the_disks_of_a_machine_are_made_resized_and_deleted_in_one_list() -> None:
    """NetBox sums them up in the machine; two requests at once would each miss the other's."""
    vmids = range(100, 112)
    netbox = synced(wanted("virtual_machines", *(machine(vmid) for vmid in vmids)))

    rules = Rules(removal=RemovalRules(grace_days=0, confirmations=1, override=True))

    def disks(size: int, each: int) -> Desired:
        rows = [disk(vmid, f"scsi{unit}", size) for unit in range(each) for vmid in vmids]
        return wanted("virtual_disks", *rows, whole=True)

    for method, desired in (("POST", disks(1024, 3)), ("PATCH", disks(2048, 3)), ("DELETE", disks(2048, 1))):
        owners = {row["id"]: row["virtual_machine"]["id"] for row in netbox.read(DISK.path)}
        del netbox.log[:]
        Run(netbox, rules, bulk_size=4, workers=3).write(desired)
        lists = [rows for how, path, rows in netbox.log if (how, path) == (method, DISK.path)]
        assert len(lists) > 3
        machines = [{row.get("virtual_machine") or owners[row["id"]] for row in rows} for rows in lists]
        assert sum(map(len, machines)) == len(vmids), machines


def test_history_is_written_one_list_after_the_other_in_its_order() -> None:
    """Whatever moment a run is killed at, NetBox then has the oldest rows, without a hole."""
    netbox = synced()
    meeting, met, create = threading.Barrier(2), [], netbox.create

    def send(path: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        try:
            meeting.wait(0.02)
            met.append(path)
        except threading.BrokenBarrierError:
            meeting.reset()
        return create(path, rows)

    netbox.create = send  # type: ignore[method-assign]
    rows = [Row({"upid": f"{99 - day}", "start_time": f"2026-01-{day:02}T00:00:00Z"}, str(day)) for day in range(1, 25)]
    Run(netbox, bulk_size=4, workers=3).write(wanted("task_history", *rows))
    written = [row["start_time"] for row in netbox.all(TASK.path)]
    assert written == sorted(written)
    assert len(written) == len(rows)
    assert met == []
