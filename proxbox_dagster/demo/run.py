"""``proxbox-dagster demo``: two simulated Proxmox clusters into an embedded NetBox, then the UIs until Ctrl-C."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console

from proxbox_dagster.demo.dagster_ui import DagsterError, DagsterUI, prepare_home
from proxbox_dagster.demo.netbox import NetBoxError, NetBoxServer
from proxbox_dagster.demo.ports import free_port
from proxbox_dagster.demo.proxmox import DEMO_CLUSTERS, ProxmoxSimulator, load_cluster

PVE_PORT = 18006


@dataclass(frozen=True)
class DemoServers:
    """What runs while the demo does; ``folder`` holds its settings and ``DAGSTER_HOME``."""

    netbox: NetBoxServer
    simulators: dict[str, ProxmoxSimulator]
    folder: Path


@contextmanager
def demo_servers(
    home: Path | None = None, *, keep: str | None = None, say: Callable[[str], None] = lambda _text: None
) -> Iterator[DemoServers]:
    """A NetBox and the simulated clusters, with this process set up to sync them.

    ``keep`` as in :class:`NetBoxServer`. Raises what that raises.
    """
    with ExitStack() as stack:
        netbox = stack.enter_context(NetBoxServer(home, fresh_secrets=True, keep=keep, say=say))
        say("starting the simulated Proxmox clusters")
        # The same ports at each start: they stand in NetBox, and a second run must find nothing to change.
        simulators = {
            name: stack.enter_context(ProxmoxSimulator(load_cluster(name), port=free_port(PVE_PORT + offset)))
            for offset, name in enumerate(DEMO_CLUSTERS)
        }
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="proxbox-demo-")))
        for own in (folder, *(simulator.ca_file.parent for simulator in simulators.values())):
            netbox.remove_at_end(own)  # by whatever comes: there are tokens in it
        servers = DemoServers(netbox, simulators, folder)
        _configure(servers)
        yield servers


def run_demo(*, once: bool = False, home: Path | None = None) -> int:
    """Bring everything up, sync, and serve until Ctrl-C (``once``: end after the run). Returns the exit status."""
    console = Console()
    started = time.monotonic()
    try:
        with console.status("setting up") as status, demo_servers(home, keep="demo", say=status.update) as servers:
            status.stop()
            console.print(f"everything is up after {time.monotonic() - started:.0f} s")
            ok = _sync(console)
            if not once:
                _serve(console, servers)
            return 0 if ok else 1
    except (NetBoxError, DagsterError) as error:
        console.print("[red]✗[/red] ", end="")
        console.print(str(error), highlight=False, markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("stopped")
        return 130


def _configure(servers: DemoServers) -> None:
    """Write the demo's settings and a Dagster home, and point this process and its children at them."""
    folder, netbox = servers.folder, servers.netbox
    (folder / "netbox.token").write_text(netbox.token)
    endpoints = []
    for name, simulator in servers.simulators.items():
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
    home = prepare_home(folder)
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


def _serve(console: Console, servers: DemoServers) -> None:
    """Dagster's UI beside NetBox, until Ctrl-C or SIGTERM."""
    netbox = servers.netbox
    with DagsterUI(servers.folder) as dagster:
        with console.status("starting Dagster's UI"):
            dagster.wait()
        console.print(f"Dagster  {dagster.url}", highlight=False)
        console.print(f"NetBox   {netbox.url}  ({netbox.admin_user} / {netbox.admin_password})", highlight=False)
        console.print("Ctrl-C ends all of it.")
        ended = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: ended.set())
        try:
            while not ended.is_set() and not dagster.ended:
                ended.wait(0.5)
        except KeyboardInterrupt:
            return
        if dagster.ended:
            console.print(f"✗ Dagster ended: {dagster.log_tail()}", markup=False)
