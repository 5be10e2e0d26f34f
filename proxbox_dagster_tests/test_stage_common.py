"""What several stages share: one form for every spelling of an entry."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxbox_dagster.facts import UNOBSERVED
from proxbox_dagster.stages.common import plain_config, sorted_list

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, "1"),
        (1, True),
        (0, "0"),
        (1.0, "1"),
        (12.5, "12.5"),
        (-3, "-3"),
        (10**15 - 1, str(10**15 - 1)),
        (10**20, str(10**20)),
        ({"keep-last": 4, "keep-daily": "7"}, {"keep-daily": 7, "keep-last": "4"}),
        ([1, "2"], ["1", 2]),
    ],
)
def test_spellings_of_one_value(one: Any, other: Any) -> None:
    assert plain_config({"key": one}) == plain_config({"key": other})


@pytest.mark.parametrize("text", ["007", "1e5", "+1", "", "0x10", "1.50", "9.0", " 1", "²", "nan", "12345678901234567"])
def test_texts_that_only_look_like_numbers_stay(text: str) -> None:
    assert plain_config({"key": text}) == {"key": text}


def test_sets_and_objects() -> None:
    one = plain_config(
        {"content": "iso,backup", "prune-backups": "keep-last=3,keep-daily=7"}, ("content",), ("prune-backups",)
    )
    other = plain_config(
        {"prune-backups": {"keep-daily": 7, "keep-last": "3"}, "content": " backup,iso"},
        ("content",),
        ("prune-backups",),
    )
    assert one == other == {"content": "backup,iso", "prune-backups": {"keep-daily": 7, "keep-last": 3}}


def test_nothing_is_an_empty_object() -> None:
    assert plain_config(None) == plain_config({}) == {}  # type: ignore[arg-type]


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_the_result_is_json_that_a_database_takes_and_stays_as_it_is(raw: dict[str, Any]) -> None:
    made = plain_config(raw, sets=("a",), objects=("b",))
    text = json.dumps(made, allow_nan=False)
    assert "\\u0000" not in json.dumps([value for value in made.values() if isinstance(value, str)])
    assert plain_config(json.loads(text), sets=("a",), objects=("b",)) == made


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("iso, backup,iso,", "backup,iso"),
        ("1001,1040, 777", "777,1001,1040"),
        ("pve2,pve10,pve1", "pve1,pve10,pve2"),
        ("", None),
        (None, None),
        (" , ", None),
        (UNOBSERVED, UNOBSERVED),
    ],
)
def test_sorted_list(text: Any, expected: Any) -> None:
    assert sorted_list(text) == expected
