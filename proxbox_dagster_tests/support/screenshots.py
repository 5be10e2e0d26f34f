"""docs/images: the demo as it really looks in a browser.

``make screenshots`` writes them anew. The clusters are synced, changed a little and synced again, so that there is
something to see.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from proxbox_dagster.demo.dagster_ui import DagsterUI
from proxbox_dagster.demo.run import DemoServers, demo_servers
from proxbox_dagster.netbox.client import NetBoxClient
from proxbox_dagster.settings import load_settings
from proxbox_dagster.sync import Order, sync_endpoints
from proxbox_dagster.terminal import Terminal
from proxbox_dagster_tests.support.browser import Browser, browser, missing

IMAGES = Path(__file__).parents[2] / "docs" / "images"
MARKDOWN = "//*[normalize-space(text())='[Show Markdown]']"
WIDTH, HEIGHT, TALL = 1400, 900, 1600


def main() -> int:
    """Write all of them. Returns the exit status."""
    console = Console()
    if why := missing():
        console.print(f"✗ {why}", markup=False)
        return 1
    with demo_servers(say=console.print) as servers:
        with Terminal(console) as terminal:
            sync_endpoints(Order(endpoints=("ams1",)), terminal)
            change_something(servers)
            sync_endpoints(Order(endpoints=("ams1",)), terminal)
        with DagsterUI(servers.folder) as dagster:
            dagster.wait()
            with browser(dagster.url, WIDTH, HEIGHT) as window:
                IMAGES.mkdir(parents=True, exist_ok=True)
                take(window)
    return 0


def change_something(servers: DemoServers) -> None:
    """What may happen in a day: a rename, more memory, a node that is off, and a person at work in NetBox."""
    cluster = servers.simulators["ams1"].cluster
    by_name = {guest.name: guest for guest in cluster.guests.values()}
    web, build = by_name["web01"], by_name["build01"]
    cluster.rename(web.kind, web.vmid, "web01-old")
    cluster.set_config(build.kind, build.vmid, "memory", 8192)
    cluster.node_offline("pve3")
    client = NetBoxClient(load_settings().netbox_connection())
    try:
        [row] = client.read("virtualization/virtual-machines", {"name": "mail", "cf_proxmox_endpoint": "ams1"})
        client.update("virtualization/virtual-machines", [{"id": row["id"], "description": "Ask Kim before a reboot"}])
        cluster.set_config("lxc", row["custom_fields"]["proxmox_vm_id"], "description", "Mail relay of the office")
    finally:
        client.close()


def take(window: Browser) -> None:
    """Each picture once the page shows what it is about."""
    window.open("/asset-groups")
    window.sees("infrastructure", "guest_data", "networking", "operational", "proxmox", "summary")
    window.settle()
    save(window, "graph")

    window.open("/assets/netbox/virtual_machines?view=events")
    window.click("(//*[normalize-space(text())='ams1'])[1]")
    window.sees("attention", "Partition ams1", "before", "after")
    window.settle()
    save(window, "asset")

    window.open("/assets/proxbox/run_summary?view=events")
    window.click("(//*[normalize-space(text())='ams1'])[1]")
    window.sees("Partition ams1")
    window.click(f"({MARKDOWN})[1]")
    window.image_width()
    window.driver.execute_script("document.querySelector('h2').scrollIntoView({block: 'start'})")
    window.settle()
    save(window, "summary")

    window.driver.set_window_size(WIDTH, TALL)  # the stages above, their events below
    window.open("/locations/proxbox_dagster/jobs/full_update/runs")
    window.sees("partition: ams1")
    window.click("(//a[contains(@href, '/runs/')])[1]")
    window.sees("RUN_SUCCESS")
    window.settle()
    save(window, "run")


def save(window: Browser, name: str) -> None:
    """Write a picture and say how large it is."""
    file = IMAGES / f"{name}.png"
    window.driver.save_screenshot(str(file))
    print(f"{file.relative_to(IMAGES.parents[1])}: {file.stat().st_size // 1000} kB")


if __name__ == "__main__":
    sys.exit(main())
