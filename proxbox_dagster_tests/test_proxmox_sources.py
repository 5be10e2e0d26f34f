"""The table of sources, and rows made of whatever Proxmox answers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxbox_dagster.facts import UNOBSERVED, Fetched, Gap, GapKind, frame_of
from proxbox_dagster.proxmox.errors import BadAnswer, ProxmoxError
from proxbox_dagster.proxmox.fetch import FETCHES
from proxbox_dagster.proxmox.normalise import Rows, guest_place, normalised
from proxbox_dagster.proxmox.session import ProxmoxSession
from proxbox_dagster.proxmox.sources import SOURCES, data_version
from proxbox_dagster.scope import Scope
from proxbox_dagster.settings import ConcurrencyConfig

from .proxmox_support import endpoint

NAMES = (
    "cluster_status nodes storage node_storage guests guest_configs cluster_options node_tasks storage_content "
    "guest_snapshots node_networks guest_agent container_interfaces replication_jobs backup_jobs"
)


def fetched(rows: list[dict[str, Any]], source: str = "guests", gaps: tuple[Gap, ...] = ()) -> Fetched:
    return Fetched(source, "ams1", frame_of(rows, SOURCES[source].column_names), gaps)


def test_table_is_whole_and_in_order() -> None:
    assert set(SOURCES) == set(NAMES.split()) == set(FETCHES)
    seen: set[str] = set()
    for name, source in SOURCES.items():
        assert source.name == name
        assert set(source.needs) <= seen, f"{name} stands before what it needs"
        seen.add(name)
        assert len(set(source.column_names)) == len(source.columns)
        assert all(column.type in ("int", "float", "bool", "str", "json") for column in source.columns)
        assert all(column.description for column in source.columns)
        assert source.description
        assert source.privilege


def test_data_version() -> None:
    rows: list[dict[str, Any]] = [{"vmid": 100, "name": "a", "tags": "x;y", "cpu": 0.5}, {"vmid": 101, "name": None}]
    version = data_version(fetched(rows))
    assert data_version(fetched(rows[::-1])) == version
    assert data_version(fetched([{**rows[0], "cpu": 0.9, "tags": "y,x"}, rows[1]])) == version
    assert data_version(fetched([{**rows[0], "name": UNOBSERVED}, rows[1]])) != version
    assert data_version(fetched([{**rows[0], "name": "b"}, rows[1]])) != version
    assert data_version(fetched(rows[:1])) != version
    gap = Gap("node", "pve1", GapKind.OFFLINE, "one reason")
    assert data_version(fetched(rows, gaps=(gap,))) != version
    reworded = Gap("node", "pve1", GapKind.OFFLINE, "another reason")
    assert data_version(fetched(rows, gaps=(gap,))) == data_version(fetched(rows, gaps=(reworded,)))


def test_cells_have_their_types() -> None:
    entry = {"vmid": "100", "type": "qemu", "node": "pve1", "template": "", "maxmem": "1073741824", "maxcpu": 4,
             "name": 7, "uptime": "12", "brand-new": {"key": 1}}  # fmt: skip
    row, problems = normalised("guests", entry, {})
    assert row is not None
    assert problems == []
    assert (row["vmid"], row["template"], row["maxmem"], row["maxcpu"], row["name"]) == (
        100,
        False,
        1073741824,
        4.0,
        "7",
    )
    assert "brand-new" not in row
    assert row["pool"] is None


def test_cell_that_cannot_be_read_is_not_observed() -> None:
    out = Rows("guests")
    out.add([{"vmid": 100, "type": "qemu", "node": "pve1", "maxmem": "lots"}], guest_place, ("all", ""))
    assert out.rows[0]["maxmem"] is UNOBSERVED
    assert out.rows[0]["vmid"] == 100
    [gap] = out.gaps
    assert (gap.level, gap.name, gap.kind) == ("guest", "qemu/100", GapKind.UNREADABLE)
    assert "maxmem: no whole number: 'lots'" in gap.reason


@pytest.mark.parametrize("entry", [None, [], "x", {}, {"vmid": "x", "type": "qemu", "node": "pve1"}, {"vmid": 1}])
def test_entry_without_its_key_is_a_gap_over_all(entry: Any) -> None:
    out = Rows("guests")
    out.add([entry], guest_place, ("all", ""))
    assert out.rows == []
    assert [(gap.level, gap.kind) for gap in out.gaps] == [("all", GapKind.UNREADABLE)]


def test_raw_holds_what_was_configured() -> None:
    entry = {"storage": "nas", "type": "nfs", "digest": "abc", "prune-backups": {"keep-last": "3"}, "new": "x"}
    row, problems = normalised("storage", entry, {})
    assert row is not None
    assert problems == []
    assert row["raw"] == {"new": "x", "prune-backups": {"keep-last": "3"}, "storage": "nas", "type": "nfs"}
    assert row["prune-backups"] == "keep-last=3"


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 10**13), st.floats(), st.text(max_size=8),
    st.sampled_from(["100", "", "qemu", "lxc", "pve1", "node", "running", "unknown", "cluster", "backup", "1", "eth0"]),
)  # fmt: skip
KEYS = st.sampled_from(
    sorted({column.name for source in SOURCES.values() for column in source.columns} | {"agent", "ip-addresses"})
)
ENTRIES = st.one_of(
    SCALARS,
    st.dictionaries(
        KEYS, st.one_of(SCALARS, st.lists(SCALARS, max_size=2), st.dictionaries(KEYS, SCALARS, max_size=2))
    ),
)
ANSWERS = st.one_of(SCALARS, st.lists(ENTRIES, max_size=4), st.dictionaries(KEYS, ENTRIES, max_size=4))


@pytest.mark.parametrize("source", SOURCES)
@settings(max_examples=40, deadline=None)
@given(entry=ENTRIES)
def test_normalised_never_raises(source: str, entry: Any) -> None:
    row, problems = normalised(source, entry, {})
    assert row is not None or problems
    assert row is None or list(row) == SOURCES[source].column_names


class OddSession(ProxmoxSession):
    """A session whose Proxmox answers whatever was drawn, wherever that has the expected type."""

    def __init__(self, answers: list[Any], scope: Scope) -> None:
        super().__init__(endpoint("127.0.0.1", 1, False), ConcurrencyConfig(), scope)
        self.answers = answers

    def get(self, source: str, /, *segments: str | int, expect: type | None = list, **params: Any) -> Any:
        # By its path, so that one answer stays the same for all who ask for it.
        value = self.answers[sum(map(ord, "/".join(map(str, segments)))) % len(self.answers)]
        if segments == ("cluster", "status"):
            return [{"type": "node", "name": "pve1", "online": 1}, {"type": "cluster", "name": "c", "quorate": 1}]
        if segments == ("nodes",):
            return [{"node": "pve1", "status": "online", "maxmem": 1}]
        if segments == ("cluster", "resources"):
            guests = [{"type": "qemu", "vmid": 100}, {"type": "lxc", "vmid": 101}]
            known = [{**guest, "node": "pve1", "status": "running"} for guest in guests]
            return known + (value if isinstance(value, list) else [])
        if expect is not None and not isinstance(value, expect):
            raise BadAnswer("odd")
        return value


@settings(max_examples=60, deadline=None)
@given(
    answers=st.lists(ANSWERS, min_size=1, max_size=8),
    scope=st.sampled_from([Scope(), Scope(vmids=frozenset({100, 101})), Scope(storages=frozenset({"100"}))]),
)
def test_45_no_answer_of_proxmox_breaks_a_fetch(answers: list[Any], scope: Scope) -> None:
    with OddSession(answers, scope) as session:
        for name in SOURCES:
            try:
                read = session.fetched(name)
            except ProxmoxError:
                continue
            assert data_version(read)
            assert all(gap.reason for gap in read.gaps)
