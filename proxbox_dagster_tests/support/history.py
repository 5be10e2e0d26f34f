"""Runs that are disturbed, beside one that is not: both must leave the same NetBox."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from proxbox_dagster import stages
from proxbox_dagster_tests.support.command import Command
from proxbox_dagster_tests.support.dump import Dump, difference
from proxbox_dagster_tests.support.faulty_proxy import WRITES
from proxbox_dagster_tests.support.synced import Synced, synced

BULK = 5
"""Rows in a list: small, so that there is much to be disturbed in between."""


@dataclass(frozen=True)
class Kill:
    """SIGKILL at a run's writing request number ``write`` (from 0), before or after NetBox has seen it."""

    write: int
    asked: bool

    def __str__(self) -> str:
        return f"{self.write}{'+' if self.asked else '-'}"


class History(Synced):
    """A lab over the cluster ``small``, and others, that knows what undisturbed runs leave.

    ``after_first`` is what NetBox shows after a first run, :meth:`after_changes` what it shows after another one over
    :func:`make_changes`.
    """

    after_first: list[str]
    created: set[str]
    """REST paths under which the first run made rows."""

    def begin(self, **netbox: Any) -> None:
        """The cluster as described, and an empty NetBox; settings as :func:`prepare` says."""
        self.start_over()
        prepare(self, **netbox)

    def rewind(self, **netbox: Any) -> None:
        super().rewind()
        prepare(self, **netbox)

    def after_changes(self) -> list[str]:
        ports = tuple(simulator.port for simulator in self.simulators.values())
        if ports not in _AFTER_CHANGES:
            self.rewind()
            make_changes(self)
            self.run()
            _AFTER_CHANGES[ports] = Dump(self.netbox).lines()
        return _AFTER_CHANGES[ports]


_AFTER_CHANGES: dict[tuple[int, ...], list[str]] = {}
"""What NetBox shows after an undisturbed run over the changes, by the ports that stand in it."""


@pytest.fixture(scope="module")
def history_lab(
    netbox_server: Any, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[History]:
    """A module's lab after an undisturbed first run over the clusters that its ``CLUSTERS`` names, else ``small``.

    A test file calls it by the name that its tests use: ``lab = history_lab``.
    """
    names = getattr(request.module, "CLUSTERS", ("small",))
    with synced(netbox_server, tmp_path_factory.mktemp("history"), *names, kind=History) as lab:
        prepare(lab)
        lab.after_first = Dump(netbox_server).lines()
        paths = {item.name: item.spec.path for item in stages.object_classes(plugin=True)}
        lab.created = {paths[name] for (_, name), report in lab.reports().items() if report.created}
        yield lab


def prepare(lab: Synced, **netbox: Any) -> None:
    """Small lists; further keys of the settings' ``netbox``."""
    lab.configure()
    lab.settings["netbox"].update({"bulk_size": BULK, **netbox})
    lab.save()


def killed(lab: Synced, kill: Kill, *arguments: str) -> bool:
    """A run that is killed; False where it ended before its time came."""
    lab.proxy.clear()
    command: list[Command] = []
    fault = lab.proxy.add_fault(
        WRITES, after=kill.write, drop="after" if kill.asked else "before", act=lambda: command[0].kill()
    )
    with Command(lab.folder, "sync", "--json", *arguments) as running:
        command.append(running)
        status = running.wait()
    lab.proxy.clear()
    if not fault.served:
        assert status == 0, running.errors()
        return False
    assert status == -9
    return True


def assert_same(lab: Synced, undisturbed: list[str]) -> None:
    """NetBox shows what it showed without the disturbance."""
    found = difference(undisturbed, Dump(lab.netbox).lines())
    assert not found, found


def assert_quiet(lab: Synced, **order: Any) -> None:
    """A further run has nothing to write."""
    lab.run(**order)
    assert lab.written() == []


def make_changes(lab: Synced) -> None:
    """One change of each kind at the source of the cluster ``small``: creates, updates and deletions in one run."""
    cluster = lab.clusters["small"]
    cluster.rename("qemu", 101, "db-main")
    cluster.migrate("qemu", 100, "pve2")
    cluster.set_config("qemu", 100, "scsi1", None)
    cluster.set_config("qemu", 100, "scsi2", "ceph:vm-100-disk-2,size=12G")
    cluster.set_config("qemu", 101, "net1", "virtio=BC:24:11:5A:01:1F,bridge=vmbr0,tag=40")
    cluster.set_config("qemu", 102, "description", "an image")
    cluster.remove_snapshot("qemu", 100, "before")
    cluster.add_snapshot("qemu", 101, "first")
    cluster.add_backup("nas", 101)
    cluster.stop("lxc", 200)
    cluster.add_task("pve1", "qmstart", 101, end=cluster.now + 5, status="OK")
    agent = cluster.guest(101).agent
    agent.interfaces[0]["ip-addresses"] = [
        {"ip-address": "198.51.100.99", "ip-address-type": "ipv4", "prefix": 26},
    ]
    cluster.set_backup_job("backup-db", schedule="sun 04:00", storage="nas", vmid="101", mode="stop")
