"""Backup storages are spared: only so many lists of backups at once, and a pause before the next ones."""

from __future__ import annotations

from typing import Any

import pytest

from proxbox_dagster.demo.proxmox import Cluster, ProxmoxSimulator
from proxbox_dagster.demo.proxmox.loader import read_cluster
from proxbox_dagster.proxmox.errors import ProxmoxError

from .proxmox_support import session_of

STORAGES = 7


def with_backups(storages: int = STORAGES) -> Cluster:
    """One node with so many storages, a backup on each."""
    return read_cluster(
        {
            "name": "vault",
            "nodes": {"pve1": {"ip": "192.0.2.1"}},
            "storages": {f"s{n}": {"type": "dir", "path": f"/s{n}", "content": "backup"} for n in range(storages)},
            "guests": [
                {
                    "qemu": 100,
                    "name": "one",
                    "node": "pve1",
                    "config": {"scsi0": "s0:vm-100-disk-0,size=1G"},
                    "backups": [{"storage": f"s{n}", "time": "2026-01-01T00:00:00Z"} for n in range(storages)],
                }
            ],
        }
    )


def lists(simulator: ProxmoxSimulator) -> int:
    """How many storages have been listed so far."""
    return sum(count for path, count in simulator.requests.items() if path.endswith("/content"))


@pytest.mark.parametrize(("size", "batches"), [(3, [3, 6]), (5, [5]), (6, [6]), (1, [1, 2, 3, 4, 5, 6])])
def test_a_pause_stands_between_batches_and_nowhere_else(size: int, batches: list[int]) -> None:
    pauses: list[tuple[float, int]] = []
    with ProxmoxSimulator(with_backups()) as simulator:
        limits = {"backup_batch_size": size, "backup_batch_delay_ms": 250}
        pause = lambda seconds: pauses.append((seconds, lists(simulator)))  # noqa: E731
        with session_of(simulator, concurrency=limits, pause=pause) as session:
            read = session.fetched("storage_content")
        assert pauses == [(0.25, done) for done in batches]
        assert {row["storage"] for row in read.rows} == {f"s{n}" for n in range(STORAGES)}
        assert lists(simulator) == STORAGES


@pytest.mark.parametrize("limits", [{"backup_batch_delay_ms": 0, "backup_batch_size": 1}, {"backup_batch_size": 7}, {}])
def test_few_storages_and_a_delay_of_none_cost_nothing(limits: dict[str, Any]) -> None:
    def pause(seconds: float) -> None:
        raise AssertionError(f"waited for {seconds} s")

    cluster = with_backups(STORAGES if limits else 5)
    with ProxmoxSimulator(cluster) as simulator, session_of(simulator, concurrency=limits, pause=pause) as session:
        assert len(session.fetched("storage_content").rows) == len(cluster.storages)


def test_a_run_that_is_given_up_does_not_wait() -> None:
    with ProxmoxSimulator(with_backups()) as simulator:
        limits = {"backup_batch_size": 1, "backup_batch_delay_ms": 3_600_000}
        with session_of(simulator, concurrency=limits) as session:
            found = session.in_batches([1, 2, 3], lambda item: item)
            assert next(found) == (1, 1)
            session.close()
            with pytest.raises(ProxmoxError, match="is closed"):
                next(found)
