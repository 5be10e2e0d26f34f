"""One sync in a fresh process, measured: what ``make bench`` starts for every figure.

Reads one JSON object (``order``; paths ``result``, and if wanted ``record`` and ``profile``) from the file that its
first argument names.
"""

from __future__ import annotations

import cProfile
import json
import pstats
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proxbox_dagster import run as runs
from proxbox_dagster import sync
from proxbox_dagster.bench.clock import Clock
from proxbox_dagster.bench.world import LIST_SIZE
from proxbox_dagster.netbox.applied import Applied
from proxbox_dagster.netbox.apply import Writer
from proxbox_dagster.netbox.changes import Create
from proxbox_dagster.netbox.client import NetBoxClient
from proxbox_dagster.netbox.payload import payload_of
from proxbox_dagster.netbox.spec import ModelSpec
from proxbox_dagster.netbox.state import NetBoxState
from proxbox_dagster.progress import Progress

TOP = 60


class Watcher:
    """Keeps the reports of the runs."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, int]] = {}

    def notice(self, text: str) -> None:
        pass

    def endpoint_started(self, name: str) -> None:
        pass

    def progress(self, step: Progress) -> None:
        if step.report:
            counts = step.report.counts()
            sums = self.rows.setdefault(step.object_class, dict.fromkeys(counts, 0))
            for name, count in counts.items():
                sums[name] += count

    def endpoint_ended(self, name: str, result: dict[str, Any]) -> None:
        pass


def main(job: dict[str, Any]) -> int:
    """Run and write what it took. Exit status 0 when the run was green."""
    clock, clients = Clock(), _clients()
    _time_phases(clock)
    recorded = _record() if job.get("record") else None
    watcher = Watcher()
    profile = cProfile.Profile() if job.get("profile") else None
    wall, cpu = time.perf_counter(), time.process_time()
    with clock.phase("Dagster"):
        if profile:
            profile.enable()
        outcome = sync.sync_endpoints(sync.Order(**job["order"]), watcher)
        if profile:
            profile.disable()
    result = {
        "ok": outcome["ok"],
        "errors": [line for endpoint in outcome["endpoints"].values() for line in endpoint["errors"]],
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "phases": dict(clock.seconds),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "netbox_requests": dict(sum((client.requests for client in clients), Counter())),
        "netbox_rows": dict(sum((client.rows for client in clients), Counter())),
        "classes": watcher.rows,
    }
    Path(job["result"]).write_text(json.dumps(result))
    if recorded is not None:
        Path(job["record"]).write_text(json.dumps(recorded))
    if profile:
        with Path(job["profile"]).open("w") as out:
            for order in ("cumulative", "tottime"):
                pstats.Stats(profile, stream=out).strip_dirs().sort_stats(order).print_stats(TOP)
    return 0 if outcome["ok"] else 1


def _time_phases(clock: Clock) -> None:
    for name in ("fetched", "prefetch"):
        clock.time(runs.EndpointRun, name, "fetch")
    for name in ("read", "newest", "check", "may"):
        clock.time(NetBoxClient, name, "read NetBox")
    clock.time(NetBoxState, "load", "read NetBox")
    clock.time(runs.EndpointRun, "build", "plan")
    clock.time(runs, "plan", "plan")
    clock.time(runs, "report_of", "plan")
    clock.time(Writer, "apply", "write")


def _clients() -> list[NetBoxClient]:
    """Every client that is made from now on."""
    made: list[NetBoxClient] = []
    original = NetBoxClient.__init__

    def init(self: NetBoxClient, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        made.append(self)

    NetBoxClient.__init__ = init  # type: ignore[method-assign]
    return made


def _record() -> list[dict[str, Any]]:
    """Every write from now on: method, path, rows as sent, and the ids of the rows that NetBox made.

    A row counts as made when the writer takes it for made: also one whose answer was lost and that was looked up.
    """
    written: list[dict[str, Any]] = []
    latest: dict[int, dict[str, Any]] = {}
    """By thread: the list that it writes."""
    lock = threading.Lock()

    def note(method: str, path: str, rows: list[Any], ids: list[int]) -> None:
        with lock:
            last = latest.get(threading.get_ident(), {})
            if ids and (last.get("method"), last.get("path")) == (method, path) and len(last["ids"]) < LIST_SIZE:
                last["rows"] += rows
                last["ids"] += ids
            else:
                entry = {"method": method, "path": path, "rows": rows, "ids": ids}
                latest[threading.get_ident()] = entry
                written.append(entry)

    made, update, delete = Writer._made, NetBoxClient.update, NetBoxClient.delete

    def noted_made(self: Writer, spec: ModelSpec, item: Create, answer: dict[str, Any], done: Applied) -> None:
        made(self, spec, item, answer, done)
        note("POST", spec.path, [payload_of(spec, item.values, self._state)], [answer["id"]])

    def noted_update(self: NetBoxClient, path: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        answers = update(self, path, rows)
        note("PATCH", path, list(rows), [])
        return answers

    def noted_delete(self: NetBoxClient, path: str, ids: Sequence[int]) -> None:
        delete(self, path, ids)
        note("DELETE", path, [{"id": row_id} for row_id in ids], [])

    Writer._made = noted_made  # type: ignore[method-assign]
    NetBoxClient.update = noted_update  # type: ignore[method-assign]
    NetBoxClient.delete = noted_delete  # type: ignore[method-assign]
    return written


if __name__ == "__main__":
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text())))
