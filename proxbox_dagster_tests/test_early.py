"""A run that reads before Dagster is ready for it: who gets it, what it tells, and that none is left over."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from proxbox_dagster import early, sync
from proxbox_dagster.cli import app
from proxbox_dagster.lock import EndpointBusy
from proxbox_dagster.run import EndpointRun, RunOptions
from proxbox_dagster.settings import SettingsError
from proxbox_dagster.terminal import Terminal
from proxbox_dagster_tests.support.graph import two_endpoints

RUN = "11111111-2222-3333-4444-555555555555"


class Seen:
    """What was asked of the runs."""

    def __init__(self) -> None:
        self.prefetched = threading.Event()
        self.closed: set[EndpointRun] = set()


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    """Runs that touch no server."""
    seen = Seen()
    for name in ("AMS1", "LAB", "NETBOX"):
        monkeypatch.setenv(f"TEST_{name}_TOKEN", "secret")
    monkeypatch.setattr(EndpointRun, "hold", lambda run: run.warn("held"))
    monkeypatch.setattr(EndpointRun, "look_ahead", lambda _run, _names: None)
    monkeypatch.setattr(EndpointRun, "prefetch", lambda _run, _names: seen.prefetched.set())
    monkeypatch.setattr(EndpointRun, "close", lambda run: seen.closed.add(run))
    yield seen
    assert not early._begun, "a run was left over"


def begin(options: RunOptions | None = None) -> None:
    early.begin(two_endpoints(), "ams1", RUN, options or RunOptions())


def test_it_is_claimed_once_with_what_it_had_to_say(seen: Seen) -> None:
    begin()
    begin()  # the same run, not another
    said: list[str] = []
    run = early.claim("ams1", RUN, RunOptions(), said.append)
    assert run is not None
    assert said == ["held"]
    run.warn("later")
    assert said == ["held", "later"]
    assert seen.prefetched.wait(30)
    assert early.claim("ams1", RUN, RunOptions(), said.append) is None
    assert not seen.closed


def test_another_run_or_endpoint_does_not_get_it(seen: Seen) -> None:
    begin()
    assert early.claim("lab", RUN, RunOptions(), print) is None
    assert early.claim("ams1", "another", RunOptions(), print) is None
    early.end("ams1", RUN)
    early.end("ams1", RUN)
    assert len(seen.closed) == 1


def test_a_run_that_was_begun_with_other_options_is_closed(seen: Seen) -> None:
    begin(RunOptions(dry_run=True))
    assert early.claim("ams1", RUN, RunOptions(), print) is None
    assert len(seen.closed) == 1


def test_a_run_that_is_ended_before_it_holds_its_endpoint_lets_go_of_it(
    seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_it, ended = threading.Event(), threading.Event()

    def slow(_run: EndpointRun) -> None:
        at_it.set()
        assert ended.wait(30)

    monkeypatch.setattr(EndpointRun, "hold", slow)
    before = set(threading.enumerate())
    begin()
    assert at_it.wait(30)
    early.end("ams1", RUN)
    assert len(seen.closed) == 1
    seen.closed.clear()
    [thread] = set(threading.enumerate()) - before
    ended.set()
    thread.join(30)
    assert len(seen.closed) == 1, "once more, for what it took hold of since"
    assert not seen.prefetched.is_set()


def test_what_kept_it_from_beginning_is_told_to_who_claims_it(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(_run: EndpointRun) -> None:
        raise EndpointBusy("another run has it")

    monkeypatch.setattr(EndpointRun, "hold", busy)
    begin()
    with pytest.raises(EndpointBusy, match="another run has it"):
        early.claim("ams1", RUN, RunOptions(), print)
    assert len(seen.closed) == 1
    assert not seen.prefetched.is_set()


def test_an_endpoint_that_is_named_twice_is_synced_once(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster takes no second run of one id; the command line ended with a traceback."""
    settings = two_endpoints()
    synced: list[str] = []

    def sync_one(_job: Any, _instance: Any, endpoint: str, run_id: str, *_: Any) -> tuple[dict[str, Any], bool]:
        assert early.claim(endpoint, run_id, RunOptions(), print)
        synced.append(endpoint)
        return {"ok": True, "run_id": run_id, "errors": []}, False

    monkeypatch.setattr(sync, "load_settings", lambda: settings)
    monkeypatch.setattr(sync, "_sync_one", sync_one)
    result = sync.sync_endpoints(sync.Order(endpoints=("lab", "ams1", "lab")), Terminal(Console(), quiet=True))
    assert (synced, list(result["endpoints"])) == (["lab", "ams1"], ["lab", "ams1"])


def test_a_folder_that_is_open_to_others_is_told_in_one_line(
    seen: Seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "proxbox-dagster"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    settings = two_endpoints()
    monkeypatch.setattr(sync, "load_settings", lambda: settings)
    result = CliRunner().invoke(app, ["sync", "--json"])
    told = json.loads(result.stdout)
    assert (result.exit_code, told["ok"], told["endpoints"]) == (1, False, {})
    assert told["errors"] == [
        f"{folder} is open to other users (mode 777), who could have put there what a run goes by. "
        f"Empty it, and close it: chmod 700 {folder}"
    ]


def test_a_command_that_is_interrupted_before_its_first_run_tells_so(
    seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_settings: Any) -> None:
        raise KeyboardInterrupt

    settings = two_endpoints()
    monkeypatch.setattr(sync, "load_settings", lambda: settings)
    monkeypatch.setattr(sync, "build_definitions", interrupted)
    result = sync.sync_endpoints(sync.Order(), Terminal(Console(), quiet=True))
    assert (result["ok"], result["cancelled"]) == (False, True)
    assert [endpoint["errors"] for endpoint in result["endpoints"].values()] == [["the run was cancelled"]]
    assert len(seen.closed) == 1


def test_guests_are_refused_for_stages_that_have_none(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "load_settings", two_endpoints)
    with pytest.raises(SettingsError, match="guests, of which there are none in devices, storage: leave it out"):
        sync.sync_endpoints(
            sync.Order(endpoints=("ams1",), stages=("devices", "storage"), vmids=(100,)),
            Terminal(Console(), quiet=True),
        )
