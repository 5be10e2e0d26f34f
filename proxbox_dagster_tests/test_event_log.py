"""The event log that stays open: the same files as Dagster's own, and nothing left open at its end."""

from pathlib import Path

import dagster as dg
import pytest

from proxbox_dagster.event_log import INDEX, KEPT, OpenEventLog

OURS = "event_log_storage: {module: proxbox_dagster.event_log, class: OpenEventLog}\n"


@dg.asset
def thing(context: dg.AssetExecutionContext) -> None:
    context.log.info("made")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    settle(tmp_path, OURS)
    return tmp_path


def settle(home: Path, storage: str = "") -> None:
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n" + storage)


def run() -> str:
    with dg.DagsterInstance.get() as instance:
        return dg.materialize([thing], instance=instance).run_id


def events(run_id: str) -> list[str]:
    with dg.DagsterInstance.get() as instance:
        return [entry.user_message for entry in instance.all_logs(run_id)]


def made_by() -> str:
    with dg.DagsterInstance.get() as instance:
        event = instance.get_latest_materialization_event(thing.key)
    assert event is not None
    return event.run_id


def test_either_class_reads_what_the_other_one_wrote(home: Path) -> None:
    ours = run()
    seen = events(ours)
    assert "made" in seen
    assert made_by() == ours
    settle(home)
    assert events(ours) == seen
    assert made_by() == ours
    theirs = run()
    assert len(events(theirs)) == len(seen)
    settle(home, OURS)
    assert made_by() == theirs
    assert len(events(theirs)) == len(seen)


def test_it_stands_for_the_default_in_the_default_place(home: Path) -> None:
    with dg.DagsterInstance.get() as instance:
        assert isinstance(instance.event_log_storage, OpenEventLog)
    assert (home / "history" / "runs" / "index.db").is_file()


def test_nothing_stays_open_at_the_end_of_the_instance(home: Path) -> None:
    with dg.DagsterInstance.get() as instance:
        dg.materialize([thing], instance=instance)
        assert list(home.rglob("index.db-wal"))
    assert list(home.rglob("*.db"))
    assert not list(home.rglob("*.db-wal"))


def test_of_many_runs_only_some_databases_are_open(home: Path) -> None:
    storage = OpenEventLog(str(home / "log"))
    for number in range(KEPT + 4):
        with storage.run_connection(f"run-{number}"):
            pass
    with storage.index_connection():
        pass
    # Who closes a database last removes its journal.
    still_open = {path.name for path in (home / "log").glob("*.db-wal")}
    assert len(still_open) == KEPT
    assert f"{INDEX}.db-wal" in still_open
    with storage.run_connection("run-0") as connection:  # and one that was closed opens again
        assert connection.exec_driver_sql("select count(*) from event_logs").scalar() == 0
    storage.dispose()


def test_after_a_wipe_it_goes_on_with_an_empty_log(home: Path) -> None:
    with dg.DagsterInstance.get() as instance:
        before = dg.materialize([thing], instance=instance).run_id
        instance.event_log_storage.wipe()
        assert not instance.all_logs(before)
        after = dg.materialize([thing], instance=instance)
        assert after.success
        assert instance.all_logs(after.run_id)
