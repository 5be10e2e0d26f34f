"""The simulated answers fit the published schema of their release, as leniently as real answers do.

Real answers carry more keys than the schema, numbers as text, and booleans as 0, 1, empty text or null.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxbox_dagster.demo.proxmox import Cluster, ProxmoxSimulator, load_cluster
from proxbox_dagster.demo.proxmox.routes import ENDPOINTS

from .proxmox_http import Wire

SCHEMA = Path(__file__).parent / "fixtures" / "pve_schema.txt"
RELEASES = ("7.4", "8.4", "9.1")


def _lines(release: str) -> Iterator[tuple[str, set[str], str, list[str]]]:
    """Path, parameters, shape (list or object), fields."""
    for line in SCHEMA.read_text(encoding="utf-8").splitlines():
        if line.startswith(release + " "):
            _, path, parameters, answer = (part.strip() for part in line.split("|"))
            shape, *fields = answer.split()
            yield path, {name.rstrip("!") for name in parameters.split()}, shape, fields


def _fits(value: Any, kind: str) -> bool:
    if kind == "boolean":
        return value in (0, 1, "", "0", "1", None)
    if kind in ("integer", "number"):
        return value is None or bool(re.fullmatch(r"-?\d+(\.\d+(e-?\d+)?)?", str(value)))
    return {"string": isinstance(value, str), "array": isinstance(value, list)}.get(kind, True) or (
        kind == "object" and isinstance(value, dict)
    )


def _paths(cluster: Cluster, path: str) -> list[str]:
    """The places in the cluster that a path of the schema stands for."""
    online = [node for node in cluster.nodes.values() if node.online]
    if "{vmid}" in path:
        kind = "qemu" if "/qemu/" in path else "lxc"
        guests = [guest for guest in cluster.guests.values() if guest.kind == kind and cluster.nodes[guest.node].online]
        return [path.format(node=guest.node, vmid=guest.vmid) for guest in guests]
    if "{upid}" in path:
        tasks = [task for task in cluster.all_tasks() if cluster.nodes[task.node].online]
        return [path.format(node=task.node, upid=task.upid) for task in tasks]
    if "{id}" in path:
        ids = cluster.backup_jobs if "backup" in path else cluster.replication
        return [path.format(node=online[0].name, id=key) for key in ids]
    if "{iface}" in path:
        return [path.format(node=node.name, iface=row["iface"]) for node in online for row in node.network]
    if "{storage}" in path:
        return [
            path.format(node=node.name, storage=storage.name)
            for node in online
            for storage in cluster.storages.values()
        ]
    if "{poolid}" in path:
        return [path.format(poolid=name) for name in cluster.pools]
    return [path.format(node=node.name) for node in online] if "{node}" in path else [path]


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", ["ams1", "odd"])
def test_answers_fit_the_schema(name: str, release: str) -> None:
    cluster = load_cluster(name)
    with ProxmoxSimulator(cluster, release) as simulator:
        wire = Wire(simulator)
        for path, _, shape, fields in _lines(release):
            answered = 0
            for place in _paths(cluster, path):
                answer = wire.ask(place)
                if answer.status_code == 500 and ("/agent/" in path or "/storage/" in path):
                    continue  # an agent or a storage that cannot be asked just now
                assert answer.status_code == 200, f"{place}: {answer.status_code} {answer.reason}"
                answered += 1
                data = answer.json()["data"]
                if data is not None:
                    _check(place, data, shape, fields)
            assert answered, path


def _check(place: str, data: Any, shape: str, fields: list[str]) -> None:
    assert isinstance(data, list if shape == "list" else dict), place
    rows: Any = data if shape == "list" else [data]
    for row in rows:
        for field in fields:
            name, kind = field.split(":")
            required = not name.endswith("?")
            name = name.rstrip("?")
            if name in row:
                assert _fits(row[name], kind), f"{place}: {name} = {row[name]!r} is no {kind}"
            else:
                assert not required or row.get("name") == "current", f"{place}: {name} is missing in {row}"


@pytest.mark.parametrize("release", ["8.4", "9.1"])
def test_parameters_are_those_of_the_schema(release: str) -> None:
    ours = {endpoint.path: set(endpoint.query) for endpoint in ENDPOINTS}
    for path, parameters, _, _ in _lines(release):
        assert ours[path] == parameters, path


def test_memory_is_a_number_until_7_and_text_since_8() -> None:
    for release, kind in (("7.4", int), ("8.4", str), ("9.1", str)):
        with ProxmoxSimulator(load_cluster("ams1"), release) as simulator:
            wire = Wire(simulator)
            assert type(wire.data("/nodes/pve1/qemu/100/config")["memory"]) is kind
            assert type(wire.data("/nodes/pve1/lxc/200/config")["memory"]) is int
            assert wire.data("/version")["release"] == release


def test_container_interfaces_by_release() -> None:
    shapes = {}
    for release in ("7.4", "8.2", "8.4", "9.1"):
        with ProxmoxSimulator(load_cluster("odd"), release) as simulator:
            shapes[release] = Wire(simulator).ask("/nodes/pve1/lxc/1040/interfaces")
    assert shapes["7.4"].status_code == 501
    old = {row["name"]: row for row in shapes["8.2"].json()["data"]}["eth0"]
    assert old == {
        "name": "eth0",
        "hwaddr": "bc:24:11:0d:40:00",
        "inet": "198.51.100.41/27",
        "inet6": "fe80::be24:11ff:fe0d:4000/64",
    }
    new = {row["name"]: row for row in shapes["9.1"].json()["data"]}["eth0"]
    assert [row["ip-address"] for row in new["ip-addresses"]][:2] == ["198.51.100.40", "198.51.100.41"]
    assert {row["ip-address-type"] for row in new["ip-addresses"]} == {"inet", "inet6"}
    assert shapes["8.4"].json() == shapes["9.1"].json()


def test_ha_groups_have_become_rules_in_9() -> None:
    with ProxmoxSimulator(load_cluster("odd"), "8.4") as simulator:
        wire = Wire(simulator)
        assert [row["group"] for row in wire.data("/cluster/ha/groups")] == ["all"]
        assert wire.ask("/cluster/ha/rules").status_code == 501
    with ProxmoxSimulator(load_cluster("odd"), "9.1") as simulator:
        wire = Wire(simulator)
        answer = wire.ask("/cluster/ha/groups")
        assert (answer.status_code, answer.reason) == (
            500,
            "cannot index groups: ha groups have been migrated to rules",
        )
        assert [row["resources"] for row in wire.data("/cluster/ha/rules")] == ["vm:1017"]


def test_an_unknown_release_is_refused() -> None:
    with pytest.raises(ValueError, match=r"5\.4"):
        ProxmoxSimulator(load_cluster("lab"), "5.4")
