"""What a bench runs on: a NetBox and simulated clusters of its own, and processes in which syncs and floors run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import yaml

from proxbox_dagster import stages
from proxbox_dagster.bench.script import script_of
from proxbox_dagster.demo.dagster_ui import INSTANCE
from proxbox_dagster.demo.netbox import NetBoxServer
from proxbox_dagster.netbox.client import NetBoxClient
from proxbox_dagster.netbox.spec import Ownership
from proxbox_dagster.netbox.state import ENDPOINT_FILTER, NetBoxState
from proxbox_dagster.settings import load_settings

LIST_SIZE = 75
PROXMOX_CLIENTS = 8
"""As many as the default limits let be under way."""


class BenchFailed(Exception):
    """A run that should have been green was not, or two states that should be equal are not."""


def processor_seconds(pid: int) -> float:
    """What a process and all below it have used, ended children included (Linux; else 0)."""
    table: dict[int, tuple[int, int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # ended meanwhile
        table[int(path.parent.name)] = int(fields[1]), sum(int(part) for part in fields[11:15])
    wanted, ticks = {pid}, 0
    while wanted:
        ticks += sum(table[number][1] for number in wanted if number in table)
        wanted = {number for number, (parent, _) in table.items() if parent in wanted}
    return ticks / os.sysconf("SC_CLK_TCK")


class Simulator:
    """A simulated cluster in its own process."""

    def __init__(self, name: str, *, guests: int, nodes: int, seed: int, latency: float) -> None:
        self.name = name
        arguments = {"name": name, "guests": guests, "nodes": nodes, "seed": seed, "latency": latency}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "proxbox_dagster.bench.simulate", json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.about = self._answer()

    def ask(self, **command: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def log(self) -> list[tuple[str, str, str, int]]:
        """(method, path, query, status) of every request since the last ``reset``."""
        return [tuple(entry) for entry in self.ask(do="requests")["log"]]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchFailed(f"the simulator of {self.name} ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


class World:
    """One NetBox, and for each size the clusters of :meth:`clusters`. A context manager.

    ``clients``: ``netbox_max_concurrent``, and how many clients a floor has. ``workers``: NetBox's processes. A running
    ``netbox`` may be lent.
    """

    def __init__(self, *, clients: int, workers: int, netbox: NetBoxServer | None = None) -> None:
        self.clients, self.workers = clients, workers
        self.simulators: list[Simulator] = []
        self._lent = netbox
        self._before: dict[str, str | None] = {}
        self._stack = ExitStack()

    def __enter__(self) -> World:
        self._stack.callback(self._restore)
        self.folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="proxbox-bench-")))
        self.netbox = self._lent or self._stack.enter_context(NetBoxServer(workers=self.workers))
        home = self.folder / "dagster"
        home.mkdir()
        (home / "dagster.yaml").write_text(INSTANCE.read_text())  # as in real use
        self._set("PROXBOX_CONFIG", str(self.folder / "proxbox.yaml"))
        self._set("BENCH_NETBOX_TOKEN", self.netbox.token)
        self._set("DAGSTER_HOME", str(home))
        self._stack.callback(self._end_simulators)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _set(self, name: str, value: str) -> None:
        """Set a variable for the child processes, until the end."""
        if name not in self._before:
            self._before[name] = os.environ.get(name)
        os.environ[name] = value

    def _restore(self) -> None:
        for name, value in self._before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

    def clusters(self, guests: int, endpoints: int = 1, latency_ms: float = 0) -> None:
        """Serve ``guests`` guests on ``endpoints`` clusters, instead of those before."""
        self._end_simulators()
        for number in range(endpoints):
            share = guests // endpoints + (number < guests % endpoints)
            self.simulators.append(
                Simulator(
                    f"bench{number + 1}",
                    guests=share,
                    nodes=max(3, share // 100),
                    seed=number + 1,
                    latency=latency_ms / 1000,
                )
            )
        listed = []
        for simulator in self.simulators:
            variable = f"BENCH_{simulator.name.upper()}_TOKEN"
            self._set(variable, simulator.about["token_value"])
            listed.append(
                {
                    "name": simulator.name,
                    "hosts": [simulator.about["host"]],
                    "user": simulator.about["user"],
                    "token_name": simulator.about["token_name"],
                    "token_value": {"env": variable},
                    "verify_ssl": simulator.about["ca_file"],
                }
            )
        settings = {
            "netbox": {"url": self.netbox.url, "token": {"env": "BENCH_NETBOX_TOKEN"}, "bulk_size": LIST_SIZE},
            "endpoints": listed,
            "concurrency": {"netbox_max_concurrent": self.clients},
        }
        (self.folder / "proxbox.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))

    def _end_simulators(self) -> None:
        for simulator in self.simulators:
            simulator.close()
        self.simulators.clear()

    # -- what is measured ---------------------------------------------------------------------------------------

    def sync(self, *, profile: Path | None = None, record: bool = False, **order: Any) -> dict[str, Any]:
        """One run in a fresh process; see :mod:`proxbox_dagster.bench.measured`. It must be green."""
        for simulator in self.simulators:
            simulator.ask(do="reset")
        changes, busy = self.netbox.change_count(), self._netbox_cpu()
        job: dict[str, Any] = {"order": order, "result": str(self.folder / "result.json")}
        if profile:
            job["profile"] = str(profile)
        if record:
            job["record"] = str(self.folder / "record.json")
        started = time.perf_counter()
        result = self._child("measured", job)
        result["process"] = time.perf_counter() - started
        result["netbox_cpu"] = self._netbox_cpu() - busy
        result["change_log_rows"] = self.netbox.change_count() - changes
        result["proxmox_log"] = {simulator.name: simulator.log() for simulator in self.simulators}
        if not result["ok"]:
            raise BenchFailed("a run was not green: " + "; ".join(result["errors"][:5]))
        return result

    def recorded(self) -> list[dict[str, Any]]:
        """The writes of the last run with ``record``."""
        found: list[dict[str, Any]] = json.loads((self.folder / "record.json").read_text())
        return found

    def write_script(self) -> list[dict[str, Any]]:
        """The writes that a bare client needs for what the last recorded run made in an empty NetBox."""
        client = NetBoxClient(load_settings().netbox_connection())
        try:
            return script_of(
                self.recorded(),
                lambda path: {row["id"]: row for row in client.read(path)},
                size=LIST_SIZE,
                summed_in={spec.path: spec.summed_in for spec in stages.specs() if spec.summed_in},
            )
        finally:
            client.close()

    def bare_writes(self, script: list[dict[str, Any]]) -> dict[str, Any]:
        """Send a script by bare clients."""
        path = self.folder / "script.json"
        path.write_text(json.dumps(script))
        return self._floor(kind="write", clients=self.clients, script=str(path))

    def bare_reads(self, *, narrowed: bool) -> dict[str, Any]:
        """Read all rows that a run needs, in pages: with all fields, or ``narrowed`` to those that a run asks for."""
        lists = []
        specs = list(stages.specs())
        for simulator in self.simulators:
            state = NetBoxState(None, simulator.name, specs)  # type: ignore[arg-type]
            for spec in {spec.path: spec for spec in specs if spec.ownership is Ownership.ENDPOINT}.values():
                filters = {ENDPOINT_FILTER: simulator.name}
                if narrowed:
                    filters["fields"] = ",".join(state.fields_of(spec.path))
                lists.append({"path": spec.path, "filters": filters})
        return self._floor(kind="read", clients=self.clients, lists=lists)

    def bare_proxmox(self, logs: dict[str, list[tuple[str, str, str, int]]]) -> dict[str, Any]:
        """Ask the simulated clusters for the same URLs as a run did."""
        servers = []
        for simulator in self.simulators:
            about = simulator.about
            who = f"{about['user']}!{about['token_name']}={about['token_value']}"
            base = f"https://{about['host']}/api2/json"
            urls = [f"{base}{path}?{query}" for method, path, query, _ in logs[simulator.name] if method == "GET"]
            servers.append({"authorization": f"PVEAPIToken={who}", "ca_file": about["ca_file"], "urls": urls})
        return self._floor(kind="proxmox", clients=PROXMOX_CLIENTS, servers=servers)

    def row_counts(self) -> dict[str, int]:
        """How many rows NetBox has of each path that a run writes."""
        client = NetBoxClient(load_settings().netbox_connection())
        try:
            paths = sorted({spec.path for spec in stages.specs()})
            return {path: client.count(path) for path in paths}
        finally:
            client.close()

    def _floor(self, **job: Any) -> dict[str, Any]:
        busy, token = self._netbox_cpu(), self.netbox.token
        result = self._child(
            "floors", {"url": self.netbox.url, "token": token, "result": str(self.folder / "result.json"), **job}
        )
        result["netbox_cpu"] = self._netbox_cpu() - busy
        return result

    def _netbox_cpu(self) -> float:
        """Seconds of processor that NetBox, PostgreSQL and Redis have used so far; 0 where there is no /proc."""
        return processor_seconds(self.netbox.supervisor_pid)

    def _child(self, module: str, job: dict[str, Any]) -> dict[str, Any]:
        result = Path(job["result"])
        result.unlink(missing_ok=True)
        # In a file: the bare URLs of a thousand guests are more than an argument may hold.
        order = self.folder / "job.json"
        order.write_text(json.dumps(job))
        ended = subprocess.run(
            [sys.executable, "-m", f"proxbox_dagster.bench.{module}", str(order)],
            capture_output=True,
            text=True,
            check=False,
        )
        if not result.is_file():
            raise BenchFailed(f"{module} ended without a result:\n{ended.stderr[-4000:]}")
        found: dict[str, Any] = json.loads(result.read_text())
        return found
