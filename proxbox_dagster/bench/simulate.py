"""A simulated cluster in a process of its own, so that what it costs is not taken for the product's.

Commands are JSON lines on standard input, each answered by one line: ``{"do": "reset"}``, ``{"do": "requests"}``,
``{"do": "change", "percent": 1, "to": "b"}``. It ends with its standard input.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from proxbox_dagster.demo.proxmox import Cluster, ProxmoxSimulator, make_cluster

LAST_SNAPSHOT = "bench"


def main(arguments: dict[str, Any]) -> None:
    """Serve the cluster that ``arguments`` describe until standard input ends."""
    cluster = make_cluster(arguments["name"], arguments["nodes"], arguments["guests"], arguments["seed"], odd=False)
    with ProxmoxSimulator(cluster) as simulator:
        simulator.latency = arguments["latency"]
        _say(
            host=f"{simulator.host}:{simulator.port}",
            user=simulator.user,
            token_name=simulator.token_name,
            token_value=simulator.token_value,
            ca_file=str(simulator.ca_file),
        )
        for line in sys.stdin:
            _say(**_do(simulator, json.loads(line)))


def _do(simulator: ProxmoxSimulator, command: dict[str, Any]) -> dict[str, Any]:
    match command["do"]:
        case "reset":
            simulator.reset_counters()
        case "requests":
            with simulator.cluster.lock:
                return {"log": [list(entry) for entry in simulator.log]}
        case "change":
            return {"changed": change(simulator.cluster, command["percent"], command["to"])}
        case other:
            raise ValueError(f"no such command: {other}")
    return {}


def change(cluster: Cluster, percent: float, to: str) -> int:
    """Bring ``percent`` of the guests into state ``a`` (as made) or ``b``; how many guests that is.

    In turn a rename, other memory, another description, another VLAN, and a new snapshot: both updates and new rows.
    """
    guests = [guest for guest in cluster.guests.values() if guest.vmid >= 2000]
    chosen = guests[: max(1, round(len(cluster.guests) * percent / 100))]
    there = to == "b"
    for number, guest in enumerate(chosen):
        match number % 5:
            case 0:
                name = guest.name.removesuffix("-changed")
                cluster.rename(guest.kind, guest.vmid, f"{name}-changed" if there else name)
            case 1:
                cluster.set_config(guest.kind, guest.vmid, "memory", "6144" if there else "1024")
            case 2:
                cluster.set_config(guest.kind, guest.vmid, "description", "changed" if there else "as it was")
            case 3:
                plain = re.sub(r",tag=\d+", "", guest.config["net0"])
                cluster.set_config(guest.kind, guest.vmid, "net0", f"{plain},tag={20 if there else 10}")
            case _ if there:
                cluster.add_snapshot(guest.kind, guest.vmid, LAST_SNAPSHOT)
            case _ if LAST_SNAPSHOT in guest.snapshots:
                cluster.remove_snapshot(guest.kind, guest.vmid, LAST_SNAPSHOT)
    return len(chosen)


def _say(**answer: Any) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
