"""Order, volatile values and spelling of the simulated answers; reading while the cluster changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from proxbox_dagster.demo.proxmox import Cluster, ProxmoxSimulator, load_cluster, make_cluster

from .proxmox_http import Wire

VOLATILE = {"cpu", "mem", "memhost", "disk", "netin", "netout", "diskread", "diskwrite", "uptime"} | {
    *("used", "avail", "used_fraction", "statistics")
}


@pytest.fixture
def wire() -> Iterator[Wire]:
    with ProxmoxSimulator(load_cluster("ams1")) as running:
        yield Wire(running)


@pytest.fixture
def cluster(wire: Wire) -> Cluster:
    return wire.simulator.cluster


def _everything(wire: Wire) -> dict[str, Any]:
    """Every answer that tells of guests, nodes and storages."""
    cluster = wire.simulator.cluster
    paths = ["/cluster/resources", "/cluster/status", "/storage", "/pools", "/cluster/replication", "/cluster/backup"]
    for node in cluster.nodes:
        paths += [f"/nodes/{node}/{name}" for name in ("network", "storage", "qemu", "lxc")]
    for guest in cluster.guests.values():
        base = f"/nodes/{guest.node}/{guest.kind}/{guest.vmid}"
        paths += [f"{base}/config", f"{base}/snapshot"]
        if guest.agent is not None and guest.running:
            paths.append(f"{base}/agent/network-get-interfaces")
        if guest.kind == "lxc":
            paths.append(f"{base}/interfaces")
    return {path: wire.ask(path).json().get("data") for path in paths}


def _plain(value: Any, drop: set[str]) -> Any:
    """Without what may differ: order of lists, order inside of strings that are lists, and the keys of ``drop``."""
    if isinstance(value, dict):
        rows = {key: _plain(item, drop) for key, item in value.items() if key not in drop}
        for key in ("content", "nodes", "tags", "slaves", "bridge_ports", "ovs_ports", "ovs_bonds"):
            if isinstance(rows.get(key), str):
                rows[key] = sorted(rows[key].replace(",", " ").replace(";", " ").split())
        return rows
    if isinstance(value, list):
        return sorted((_plain(item, drop) for item in value), key=repr_sorted)
    return value


def repr_sorted(value: Any) -> str:
    """A text that is the same whatever the order of keys."""
    if isinstance(value, dict):
        return repr(sorted((key, repr_sorted(item)) for key, item in value.items()))
    if isinstance(value, list):
        return repr([repr_sorted(item) for item in value])
    return repr(value)


@pytest.mark.parametrize(
    ("change", "drop"),
    [(lambda cluster: cluster.shuffle(7), {"inet", "inet6"}), (lambda cluster: cluster.churn(), VOLATILE)],
    ids=["shuffle", "churn"],
)
def test_order_and_volatile_values_alone_change(
    cluster: Cluster, wire: Wire, change: Callable[[Cluster], None], drop: set[str]
) -> None:
    """``inet`` and ``inet6`` of a container show its last address, which is another one in another order."""
    before = _everything(wire)
    change(cluster)
    after = _everything(wire)
    assert after != before
    assert {path: _plain(data, drop) for path, data in after.items()} == {
        path: _plain(data, drop) for path, data in before.items()
    }


def test_shuffle_changes_the_order_of_lists(cluster: Cluster, wire: Wire) -> None:
    orders = set()
    for seed in range(6):
        cluster.shuffle(seed)
        orders.add(tuple(row["id"] for row in wire.data("/cluster/resources")))
    assert len(orders) > 3
    same = {tuple(row["id"] for row in wire.data("/cluster/resources")) for _ in range(3)}
    assert len(same) == 1


def test_other_spellings_of_equal_values(cluster: Cluster, wire: Wire) -> None:
    stored = wire.data("/nodes/pve1/qemu/100/config")
    seen: dict[str, set[str]] = {}
    for seed in range(24):
        cluster.respell(seed)
        for key, value in wire.data("/nodes/pve1/qemu/100/config").items():
            seen.setdefault(key, set()).add(repr(value))
        for key, value in wire.data("/nodes/pve2/qemu/101/config").items():
            seen.setdefault(f"101 {key}", set()).add(repr(value))
    assert {"'virtio=BC:24:11:0A:01:00,bridge=vmbr0,firewall=1,tag=10'"} < seen["net0"]
    assert any("bc:24:11:0a:01:00" in text for text in seen["net0"])
    assert any("size=32768M" in text for text in seen["scsi0"])
    assert any("file=ceph:" in text for text in seen["scsi0"])
    assert seen["memory"] == {"8192", "'8192'"}
    assert seen["cores"] == {"4", "'4'"}
    assert {"'1'", "'enabled=1'", "'1,fstrim_cloned_disks=1'"} <= seen["101 agent"]
    assert {"'prod;web'", "'prod, web'"} <= seen["tags"]
    assert seen["name"] == {"'web01'"}
    cluster.respell(None)
    assert wire.data("/nodes/pve1/qemu/100/config") == stored


def test_changes_while_it_is_read_are_never_seen_by_halves() -> None:
    """Readers in threads and a writer: no answer is broken, and each tells of one moment."""
    cluster = make_cluster("busy", nodes=2, guests=80)
    first = next(guest for guest in cluster.guests.values() if guest.kind == "qemu" and not guest.fresh)
    failures: list[str] = []
    done = threading.Event()

    def read(wire: Wire) -> None:
        while not done.is_set() and not failures:
            rows = [row for row in wire.data("/cluster/resources?type=vm") if row["vmid"] == first.vmid]
            if [(row["name"], row["lock"]) for row in rows] not in ([("a", "backup")], [("b", "migrate")]):
                failures.append(str(rows))

    with ProxmoxSimulator(cluster) as simulator:
        with cluster.lock:
            first.name, first.config["lock"] = "a", "backup"
        readers = [threading.Thread(target=read, args=(Wire(simulator),)) for _ in range(2)]
        for reader in readers:
            reader.start()
        while simulator.requests["GET /cluster/resources"] < 20 and all(reader.is_alive() for reader in readers):
            for name, lock in (("b", "migrate"), ("a", "backup")):
                with cluster.lock:
                    cluster.rename("qemu", first.vmid, name)
                    cluster.set_config("qemu", first.vmid, "lock", lock)
        done.set()
        for reader in readers:
            reader.join()
        assert simulator.requests["GET /cluster/resources"] >= 20
    assert not failures
