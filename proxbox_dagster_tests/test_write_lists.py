"""How rows are parted into lists for the connections that there are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxbox_dagster.parallel import WORTH_PARTING, in_lists


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
