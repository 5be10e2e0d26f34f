"""What runs have read, kept as files: lossless, once for each content, and never at the cost of a run."""

from __future__ import annotations

import gzip
import json
import math
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from upath import UPath

from proxbox_dagster.assembly import build_definitions
from proxbox_dagster.demo.proxmox import ProxmoxSimulator, load_cluster
from proxbox_dagster.facts import UNOBSERVED, Fetched, Gap, GapKind, frame_of
from proxbox_dagster.keys import source_key
from proxbox_dagster.proxmox.sources import SOURCES, data_version
from proxbox_dagster.settings_file import SnapshotsConfig
from proxbox_dagster.snapshot_files import Snapshots, read_snapshot, write_snapshot
from proxbox_dagster_tests.proxmox_support import session_of
from proxbox_dagster_tests.support.fake_run import FakeWorld
from proxbox_dagster_tests.support.graph import two_endpoints

KEYS = st.one_of(st.text(max_size=4), st.sampled_from(["$unobserved", "$$unobserved", "$", ""]))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(), max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)
CELLS = st.one_of(st.just(UNOBSERVED), st.just({"$unobserved": True}), JSON)
GAPS = st.builds(
    Gap, st.sampled_from(["all", "node", "guest", "storage"]), st.text(max_size=6), st.sampled_from(GapKind), st.text()
)


@pytest.fixture(params=["file", "memory"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> UPath:
    """A folder on this disk, and one on another fsspec file system."""
    return UPath(tmp_path / "kept") if request.param == "file" else UPath(f"memory://snapshots-{uuid.uuid4()}")


def read(*names: str, cpu: float = 0.5, endpoint: str = "ams1") -> Fetched:
    rows = [{"vmid": 100 + number, "name": name, "cpu": cpu} for number, name in enumerate(names)]
    return Fetched("guests", endpoint, frame_of(rows, SOURCES["guests"].column_names), requests=1, seconds=0.25)


def written(fetched: Fetched, base: UPath, keep: int = 5) -> UPath:
    return write_snapshot(fetched, data_version(fetched), base, keep)


def dated(file: UPath, second: int) -> None:
    """Have the file system say that the file was written at this second: its clock is coarser than a test is fast."""
    if file.fs.protocol == "memory":
        file.fs.store[file.path].modified = datetime.fromtimestamp(second, UTC)
    else:
        os.utime(file.path, (second, second))


def same(one: Any, other: Any) -> bool:
    """Equal in value and type, all the way down; NaN is NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other)


@given(
    rows=st.lists(st.fixed_dictionaries(dict.fromkeys(("storage", "raw", "shared"), CELLS)), max_size=3),
    gaps=st.lists(GAPS, max_size=2),
    seconds=st.floats(0, 1000),
)
def test_what_is_read_back_is_what_was_read(rows: list[dict[str, Any]], gaps: list[Gap], seconds: float) -> None:
    columns = SOURCES["storage"].column_names
    fetched = Fetched("storage", "ams1", frame_of(rows, columns), tuple(gaps), 3, seconds)
    back = read_snapshot(written(fetched, UPath(f"memory://snapshots-{uuid.uuid4()}")))
    assert (back.source, back.endpoint, back.gaps) == (fetched.source, fetched.endpoint, fetched.gaps)
    assert (back.requests, back.seconds) == (fetched.requests, fetched.seconds)
    assert list(back.frame.columns) == columns
    assert list(back.frame.dtypes) == list(fetched.frame.dtypes)
    assert same(back.rows, fetched.rows)
    assert data_version(back) == data_version(fetched)


def test_every_source_of_a_cluster_without_a_secret() -> None:
    base = UPath(f"memory://snapshots-{uuid.uuid4()}")
    with ProxmoxSimulator(load_cluster("ams1")) as simulator, session_of(simulator) as session:
        for name in SOURCES:
            fetched = session.fetched(name)
            file = written(fetched, base)
            assert same(read_snapshot(file).rows, fetched.rows), name
            content = gzip.decompress(file.read_bytes()).decode()
            for secret in (simulator.token_value, simulator.password, "hidden"):
                assert secret not in content, name
            assert name != "guest_configs" or '"cipassword": "**********"' in content


def test_the_document_can_be_read_without_this_project(base: UPath) -> None:
    fetched = read("web")
    fetched.frame.at[0, "tags"] = UNOBSERVED
    before = datetime.now(UTC).replace(microsecond=0)
    file = written(fetched, base)
    assert file == base / "ams1" / "guests" / f"{data_version(fetched)}.json.gz"
    document = json.loads(gzip.decompress(file.read_bytes()))
    assert (document["source"], document["endpoint"], document["gaps"]) == ("guests", "ams1", [])
    assert before <= datetime.fromisoformat(document["read_at"]) <= datetime.now(UTC)
    assert document["rows"][0]["vmid"] == 100
    assert document["rows"][0]["tags"] == {"$unobserved": True}
    assert document["rows"][0]["pool"] is None


def test_unchanged_content_is_not_written_again(base: UPath) -> None:
    file = written(read("web", cpu=0.5), base)
    first = file.read_bytes()
    assert written(read("web", cpu=0.9), base) == file
    assert file.read_bytes() == first
    assert written(read("db"), base) != file
    assert len(list(file.parent.iterdir())) == 2


def test_the_newest_of_each_source_and_endpoint_are_kept(base: UPath) -> None:
    other = written(read("web", endpoint="lab"), base)
    stranger = base / "ams1" / "guests" / "notes.txt"
    stranger.parent.mkdir(parents=True)
    stranger.write_text("mine")
    dated(stranger, 1)
    killed = stranger.with_name("0" * 32 + ".json.gz.part")
    killed.write_bytes(b"half")
    dated(killed, 2)
    files = []
    for number in range(6):
        files.append(written(read(f"vm{number}"), base, keep=3))
        dated(files[-1], 100 + number)
    assert {file.name for file in stranger.parent.iterdir()} == {"notes.txt", *(file.name for file in files[3:])}
    assert other.exists()
    assert stranger.read_text() == "mine"
    last = written(read("vm6"), base, keep=1)
    dated(last, 1)  # a clock that was set back
    newest = written(read("vm7"), base, keep=1)
    assert {file.name for file in stranger.parent.iterdir()} == {"notes.txt", newest.name}


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", gzip.compress(b"{}"), gzip.compress(b"[]"), gzip.compress(b"x")],
    ids=["nothing", "no gzip", "no snapshot", "a list", "no JSON"],  # a name of the content has the time in it
)
def test_another_file_is_refused(content: bytes, tmp_path: Path) -> None:
    file = UPath(tmp_path / "x.json.gz")
    file.write_bytes(content)
    with pytest.raises(ValueError):
        read_snapshot(file)
    whole = written(read("web"), UPath(tmp_path))
    whole.write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(ValueError, match="no snapshot of a read"):
        read_snapshot(whole)


@pytest.mark.parametrize("path", [None, "/dev/null/snapshots", "nosuch://bucket"])
def test_a_place_that_fails_is_told_once(path: str | None) -> None:
    told: list[str] = []
    snapshots = Snapshots(SnapshotsConfig(path=path), None, told.append)
    for name in ("web", "db"):
        assert snapshots.keep(read(name), data_version(read(name))) is None
    assert len(told) == (0 if path is None else 1)
    assert all("what was read of guests could not be kept ('snapshots')" in line for line in told)


def test_settings() -> None:
    assert SnapshotsConfig().path is None
    with pytest.raises(ValidationError, match="leave user and password to the environment"):
        SnapshotsConfig(path="s3://key:secret@bucket/x")
    with pytest.raises(ValidationError, match="keep"):
        SnapshotsConfig(path="/srv/proxbox", keep=0)


def observed(
    monkeypatch: pytest.MonkeyPatch, path: str, *, dry_run: bool = False
) -> dict[str, dict[str, dg.MetadataValue[Any]]]:
    """Metadata by source of a run that observes all sources of ams1, through the real definitions."""
    world = FakeWorld(two_endpoints(snapshots={"path": path}))
    world.install(monkeypatch)
    job = build_definitions(world.settings).resolve_job_def("observe_proxmox")
    config = {"resources": {"proxbox": {"config": {"dry_run": dry_run}}}}
    result = job.execute_in_process(run_config=config, tags={"dagster/partition": "ams1"})
    assert result.success
    found = (event.asset_observation_data.asset_observation for event in result.get_asset_observation_events())
    return {item.asset_key.path[-1]: dict(item.metadata) for item in found}


def test_a_run_names_the_snapshot_of_each_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    metadata = observed(monkeypatch, str(tmp_path / "kept"))
    assert {source_key(name) for name in metadata} == {source_key(name) for name in SOURCES}
    for name, data in metadata.items():
        back = read_snapshot(UPath(data["snapshot"].value))
        assert (back.source, back.endpoint) == (name, "ams1")
        assert data_version(back) in data["snapshot"].value
    assert len([file for file in (tmp_path / "kept").rglob("*") if file.is_file()]) == len(SOURCES)


def test_a_dry_run_keeps_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    metadata = observed(monkeypatch, str(tmp_path / "kept"), dry_run=True)
    assert metadata
    assert not any("snapshot" in data for data in metadata.values())
    assert not (tmp_path / "kept").exists()


def test_a_run_outlives_a_place_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = observed(monkeypatch, "/dev/null/snapshots")
    assert set(metadata) == set(SOURCES)
    assert not any("snapshot" in data for data in metadata.values())
