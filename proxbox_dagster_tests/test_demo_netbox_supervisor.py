"""Nothing that a NetBox server starts outlives the program that wanted it, whatever ends that program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxbox_dagster.demo.netbox.errors import NetBoxError
from proxbox_dagster.demo.netbox.home import RunFolder, locked, sweep, try_lock
from proxbox_dagster.demo.netbox.processes import Supervisor, clean_environment
from proxbox_dagster_tests.support.polling import PATIENCE, until

# A program that starts, through the supervisor, a process with a child; or two, the second deaf to SIGTERM.
PROGRAM = """
    import json, os, sys, time
    from pathlib import Path
    from proxbox_dagster.demo.netbox.processes import Supervisor

    folder = Path(sys.argv[1])
    supervisor = Supervisor()
    run = folder / "run"
    run.mkdir()
    supervisor.remove_at_end(run)
    supervisor.run_at_end(["/bin/sh", "-c", f"echo done > {folder}/last"], os.environ)
    pids = {"supervisor": supervisor.pid}
    names = sys.argv[2:]
    for name in names:
        trap = "trap '' TERM INT;" if name == "deaf" else ""
        script = f"{trap} sleep 300 & echo $! > {folder}/{name}.child; touch {run}/{name}; wait; wait; sleep 300"
        pids[name] = supervisor.start(name, ["/bin/sh", "-c", script], log=folder / "log", stop_signal=15)
    while not all((folder / f"{name}.child").exists() and (folder / f"{name}.child").read_text().strip()
                  for name in names):
        time.sleep(0.01)
    for name in names:
        pids[f"{name}.child"] = int((folder / f"{name}.child").read_text())
    print(json.dumps(pids), flush=True)
    sys.stdin.readline()
    {end}
"""


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# In short steps: Python runs its handler of a signal that came just before a sleep after the sleep.
STAYS = "while True: time.sleep(0.05)"


def _heed_signals() -> None:
    """What a shell runs in the background ignores Ctrl-C (and Dagster lets SIGTERM follow that): not the programs."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def program(folder: Path, end: str, *names: str) -> tuple[subprocess.Popen[str], dict[str, int]]:
    """Start :data:`PROGRAM`, which does ``end`` last; returns it and the pids of all that hangs on it."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM).replace("{end}", end), str(folder), *names],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_signals,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    pids = json.loads(process.stdout.readline())
    assert all(alive(pid) for pid in pids.values())
    process.stdin.write("go on\n")
    process.stdin.flush()
    return process, pids


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    running = Supervisor()
    yield running
    running.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("end", "number", "names"),
    [
        pytest.param(STAYS, signal.SIGKILL, ["plain"], id="SIGKILL"),
        pytest.param(STAYS, signal.SIGKILL, ["plain", "deaf"], id="SIGKILL, deaf to signals"),
        pytest.param(STAYS, signal.SIGTERM, ["plain"], id="SIGTERM"),
        pytest.param(STAYS, signal.SIGINT, ["plain"], id="Ctrl-C"),
        pytest.param("supervisor.close()", None, ["plain"], id="close"),
        pytest.param("raise SystemExit('failed')", None, ["plain"], id="error"),
        pytest.param(
            "os.fork() or (os.close(1), time.sleep(2)); os._exit(0)", None, ["plain"], id="a fork holds the pipe"
        ),
    ],
)
def test_all_ends_with_the_program(tmp_path: Path, end: str, number: signal.Signals | None, names: list[str]) -> None:
    process, pids = program(tmp_path, end, *names)
    if number is not None:
        process.send_signal(number)
    process.communicate(timeout=PATIENCE)
    until(lambda: not any(alive(pid) for pid in pids.values()), f"the end of {pids}")
    assert (tmp_path / "last").read_text() == "done\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_the_started_end_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    process, pids = program(tmp_path, STAYS, "plain")
    try:
        os.kill(pids["supervisor"], signal.SIGKILL)
        until(lambda: not alive(pids["plain"]), "the end of what the supervisor had started")
    finally:
        process.kill()
        process.communicate()
        for pid in pids.values():
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def test_a_finished_command_gives_its_status_and_output(supervisor: Supervisor, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert supervisor.run("it", ["/bin/sh", "-c", "echo out; echo err >&2; exit 3"], log=log, timeout=10) == 3
    assert log.read_text() == "out\nerr\n"


def test_a_command_that_takes_too_long_is_ended_and_shown(supervisor: Supervisor, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(NetBoxError, match=r"slow did not end within 0 s[\s\S]*only this"):
        supervisor.run("slow", ["/bin/sh", "-c", "echo only this; exec sleep 300"], log=log, timeout=0.3)


def test_a_program_that_is_not_there_is_named(supervisor: Supervisor, tmp_path: Path) -> None:
    with pytest.raises(NetBoxError, match="web could not be started: FileNotFoundError"):
        supervisor.start("web", [tmp_path / "gone"], log=tmp_path / "log")


def test_a_dead_supervisor_is_said(tmp_path: Path) -> None:
    supervisor = Supervisor()
    os.kill(supervisor.pid, signal.SIGKILL)
    with pytest.raises(NetBoxError, match=r"not running any more|ended from outside"):
        supervisor.start("web", ["/bin/true"], log=tmp_path / "log")
    supervisor.close()


def test_children_do_not_get_what_is_meant_for_this_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("PROXBOX_SOMETHING", "kept")
    environment = clean_environment({"NETBOX_ROOT": "/here"})
    assert "PYTHONPATH" not in environment
    assert environment["NETBOX_ROOT"] == "/here"
    assert environment["PROXBOX_SOMETHING"] == "kept"


def test_a_dead_runs_folder_is_swept_and_a_living_ones_is_not(tmp_path: Path) -> None:
    dead, living = RunFolder(tmp_path), RunFolder(tmp_path)
    dead.release()
    removed: list[str] = []
    sweep(tmp_path, removed.append)
    assert removed == [dead.name]
    assert (dead.path.exists(), living.path.exists()) == (False, True)
    living.release()


def test_two_installations_wait_for_each_other(tmp_path: Path) -> None:
    waited: list[bool] = []
    with locked(tmp_path / "lock"):
        assert try_lock(tmp_path / "lock") is None
        script = (
            "import sys; from pathlib import Path; from proxbox_dagster.demo.netbox.home import locked\n"
            "with locked(Path(sys.argv[1]), lambda: print('waiting', flush=True)): print('held', flush=True)"
        )
        other = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True
        )
        assert other.stdout is not None
        waited.append(other.stdout.readline() == "waiting\n")
    assert other.communicate(timeout=PATIENCE)[0] == "held\n"
    assert waited == [True]
