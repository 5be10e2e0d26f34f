"""A lab that one module's tests share: each changes one thing at the source, and what follows is all that follows.

The first run over the described clusters takes long and always leaves the same NetBox: a test worker does it once and
keeps what it left, and every other lab over these clusters begins there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from proxbox_dagster.demo.ports import free_port
from proxbox_dagster.demo.proxmox import Cluster, load_cluster
from proxbox_dagster_tests.support.changelog import ChangeLog, Entry
from proxbox_dagster_tests.support.faulty_proxy import FaultyProxy
from proxbox_dagster_tests.support.lab import Lab, Silent, Tokens

FIXTURES = Path(__file__).parent.parent / "fixtures"
VMS = "virtualization/virtual-machines"
X = "plugins/proxbox/"


def described(name: str) -> Cluster:
    """The cluster of a description in the folder fixtures."""
    return load_cluster(FIXTURES / f"{name}.yaml")


@dataclass(frozen=True)
class FirstRun:
    """What a first run told, the ports of its clusters and its tokens: they are in the NetBox that is kept."""

    ports: dict[str, int]
    tokens: Tokens
    result: dict[str, Any]
    watcher: Silent


_KEPT: dict[str, FirstRun] = {}
"""The first runs of this test worker, by the name under which its NetBox is kept."""


class Synced(Lab):
    """A lab behind a proxy that keeps the requests, with NetBox's change log beside it.

    ``first`` is the result of the first run, ``kept`` the name under which NetBox is kept as that run left it.
    """

    proxy: FaultyProxy
    log: ChangeLog
    first: dict[str, Any]
    kept: str

    def configure(self, netbox_url: str | None = None, **keys: Any) -> None:
        super().configure(netbox_url or self.proxy.url, **keys)

    def watched(self, **order: Any) -> dict[str, Any]:
        """A run; the change log and the proxy's record begin with it."""
        self.log.forget()
        self.proxy.clear()
        return self.sync(**order)

    def run(self, **order: Any) -> dict[str, Any]:
        """:meth:`watched`, and it must be green."""
        result = self.watched(**order)
        assert result["ok"], errors(result)
        return result

    def writing_requests(self) -> list[tuple[str, str, int | None]]:
        """Every request since the record began that is not a read."""
        return [request for request in self.proxy.requests if request[0] not in ("GET", "HEAD", "OPTIONS")]

    def written(self) -> list[Entry]:
        return self.log.entries()

    def one(self, path: str, **filters: Any) -> dict[str, Any]:
        """The only row that matches."""
        rows = self.rows(path, **filters)
        assert len(rows) == 1, rows
        return rows[0]

    def vm(self, vmid: int, kind: str = "qemu", endpoint: str = "small") -> dict[str, Any]:
        return self.one(VMS, cf_proxmox_endpoint=endpoint, cf_proxmox_vm_type=kind, cf_proxmox_vm_id=vmid)

    def restore(self) -> None:
        """Take away what a test put in the way, and bring NetBox true again."""
        for simulator in self.simulators.values():
            simulator.faults.clear()
            for node in simulator.cluster.nodes:
                simulator.cluster.node_online(node)
        self.proxy.clear()
        self.configure()

    def rewind(self) -> None:
        """NetBox as the first run left it, and the clusters as they are described: half a second."""
        self.start_over(self.kept, _KEPT[self.kept].tokens)

    def start_over(self, saved: str | None = None, tokens: Tokens | None = None) -> None:
        """The clusters as they are described, and NetBox empty or as it was saved."""
        self.restore()
        for name in self.clusters:
            self.exchange(name, described(name))
        self.empty(saved, tokens)
        self.log.forget()


def errors(result: dict[str, Any]) -> list[str]:
    """All error lines of a run."""
    return [*result.get("errors", []), *(line for found in result["endpoints"].values() for line in found["errors"])]


Kind = TypeVar("Kind", bound=Synced)


@contextmanager
def laid_out(
    netbox: Any,
    folder: Path,
    *,
    kind: type[Kind] = Synced,  # type: ignore[assignment]
    ports: dict[str, int] | None = None,
    **clusters: Cluster,
) -> Iterator[Kind]:
    """A lab over an empty NetBox, nothing synced yet."""
    netbox.reset()
    with pytest.MonkeyPatch.context() as monkeypatch, FaultyProxy(netbox.url) as proxy:
        lab = kind(netbox, folder, monkeypatch, **clusters)
        lab.proxy, lab.log = proxy, ChangeLog(netbox)
        lab.ports = ports or {}
        with lab:
            yield lab


@contextmanager
def synced(netbox: Any, folder: Path, *names: str, kind: type[Kind] = Synced) -> Iterator[Kind]:  # type: ignore[assignment]
    """A lab over a NetBox that the clusters of these descriptions have been synced into once."""
    name = "_".join(names)
    first = _KEPT.get(name)
    if first and any(free_port(port) != port for port in first.ports.values()):
        first = None  # another program has taken one meanwhile
    clusters = {name: described(name) for name in names}
    with laid_out(netbox, folder, kind=kind, ports=first.ports if first else None, **clusters) as lab:
        lab.kept = name
        if first is None:
            result = lab.run()
            netbox.save(name)
            ports = {endpoint: simulator.port for endpoint, simulator in lab.simulators.items()}
            first = _KEPT[name] = FirstRun(ports, lab.tokens(), result, lab.watcher)
        else:
            lab.empty(name, first.tokens)
        lab.first, lab.watcher = first.result, first.watcher
        yield lab


def lend(lab: Synced, request: pytest.FixtureRequest) -> Iterator[Synced]:
    """A shared lab for one test; where that fails, NetBox is brought true again before the next."""
    failed = request.session.testsfailed
    yield lab
    lab.restore()
    if request.session.testsfailed > failed:
        lab.sync()
