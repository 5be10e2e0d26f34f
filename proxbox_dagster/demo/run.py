"""``proxbox-dagster demo``: two simulated Proxmox clusters into an embedded NetBox, then the UIs until Ctrl-C."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import yaml
from rich.console import Console

from proxbox_dagster.demo.netbox import NetBoxServer, NetBoxUnavailable
from proxbox_dagster.demo.ports import free_port
from proxbox_dagster.demo.proxmox import DEMO_CLUSTERS, ProxmoxSimulator, load_cluster

PVE_PORT = 18006
DAGSTER_YAML = Path(__file__).parent / "data" / "dagster.yaml"
"""The instance settings that are shipped in deploy/."""


def run_demo(*, once: bool = False, home: Path | None = None) -> int:
    """Bring everything up, sync, and serve until Ctrl-C (``once``: end after the run). Returns the exit status."""
    console = Console()
    started = time.monotonic()
    try:
        with ExitStack() as stack, console.status("setting up") as status:
            netbox = stack.enter_context(NetBoxServer(home, fresh_secrets=True, keep="demo", say=status.update))
            status.update("starting the simulated Proxmox clusters")
            # The same ports at each start: they stand in NetBox, and a second run must find nothing to change.
            simulators = [
                stack.enter_context(ProxmoxSimulator(load_cluster(name), port=free_port(PVE_PORT + offset)))
                for offset, name in enumerate(DEMO_CLUSTERS)
            ]
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="proxbox-demo-")))
            _configure(folder, netbox, simulators)
            status.stop()
            console.print(f"everything is up after {time.monotonic() - started:.0f} s")
            ok = _sync(console)
            if once:
                return 0 if ok else 1
            _serve(console, netbox, folder)
            return 0 if ok else 1
    except NetBoxUnavailable as error:
        console.print("[red]✗[/red] ", end="")
        console.print(str(error), highlight=False, markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("stopped")
        return 130


def _configure(folder: Path, netbox: NetBoxServer, simulators: list[ProxmoxSimulator]) -> None:
    """Write the demo's settings and a Dagster home, and point this process and its children at them."""
    (folder / "netbox.token").write_text(netbox.token)
    endpoints = []
    for name, simulator in zip(DEMO_CLUSTERS, simulators, strict=True):
        (folder / f"{name}.token").write_text(simulator.token_value)
        endpoints.append(
            {
                "name": name,
                "hosts": [f"{simulator.host}:{simulator.port}"],
                "user": simulator.user,
                "token_name": simulator.token_name,
                "token_value": {"file": str(folder / f"{name}.token")},
                "verify_ssl": str(simulator.ca_file),
            }
        )
    settings = {
        "netbox": {"url": netbox.url, "token": {"file": str(folder / "netbox.token")}},
        "endpoints": endpoints,
        "concurrency": {"netbox_max_concurrent": 2},
    }
    (folder / "proxbox.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    home = folder / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text(DAGSTER_YAML.read_text())
    os.environ["PROXBOX_CONFIG"] = str(folder / "proxbox.yaml")
    os.environ["DAGSTER_HOME"] = str(home)
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"


def _sync(console: Console) -> bool:
    """The main job for both clusters, as ``proxbox-dagster sync`` runs it."""
    from proxbox_dagster.sync import Order, sync_endpoints
    from proxbox_dagster.terminal import Terminal

    started = time.monotonic()
    with Terminal(console) as terminal:
        result = sync_endpoints(Order(), terminal)
    totals = {"created": 0, "updated": 0, "unchanged": 0, "failed": 0}
    for endpoint in result["endpoints"].values():
        for line in endpoint["stages"]:
            for name in totals:
                totals[name] += line[name]
    words = ", ".join(f"{count} {name}" for name, count in totals.items())
    console.print(f"{len(result['endpoints'])} clusters in {time.monotonic() - started:.1f} s: {words}")
    return bool(result["ok"])


def _die_with_parent() -> None:
    """In the child: be interrupted when this process is gone, however it went (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG


def _serve(console: Console, netbox: NetBoxServer, folder: Path) -> None:
    """Dagster's UI beside NetBox, until Ctrl-C or SIGTERM."""
    port = free_port(3000)
    command = [sys.executable, "-m", "dagster", "dev", "-m", "proxbox_dagster.definitions", "-p", str(port)]
    log = (folder / "dagster.log").open("wb")
    # SIGINT ends dagster's own children too; SIGTERM would leave code servers behind for a while.
    process = subprocess.Popen(
        [*command, "-h", "127.0.0.1"], stdout=log, stderr=log, start_new_session=True, preexec_fn=_die_with_parent
    )
    console.print(f"Dagster  http://127.0.0.1:{port}", highlight=False)
    console.print(f"NetBox   {netbox.url}  ({netbox.admin_user} / {netbox.admin_password})", highlight=False)
    console.print("Ctrl-C ends all of it.")
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    try:
        while not ended.is_set() and process.poll() is None:
            ended.wait(0.5)
        if process.poll() is not None:
            console.print(f"[red]✗[/red] Dagster ended: {(folder / 'dagster.log').read_text()[-2000:]}", markup=False)
    except KeyboardInterrupt:
        pass
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
