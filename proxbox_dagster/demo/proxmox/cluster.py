"""The state of one simulated cluster: one model that every answer is made from, and that tests change."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .acl import Acl
from .changes import Changes
from .flavours import FLAVOURS, Flavour
from .job_changes import JobChanges
from .state import Backup, BackupJob, Guest, Node, Pool, ReplicationJob, Storage, Task


@dataclass
class Cluster(Changes, JobChanges):
    """A cluster, or a stand-alone host (``standalone``).

    Read and change it under ``lock`` while a simulator serves it; the methods that change it take the lock themselves.
    ``guests`` is by VMID, ``backups`` by storage, ``tasks`` by node with the newest first. ``order_seed`` fixes the
    order of rows (None: as stored), ``churned`` counts the changes of volatile values, ``spelling_seed`` chooses
    another spelling of equal values (None: as stored). ``ha_strangers`` are names in the state of the HA manager that
    are no node's; the empty one was seen.
    """

    name: str
    flavour_name: str = "9.1"
    standalone: bool = False
    nodes: dict[str, Node] = field(default_factory=dict)
    storages: dict[str, Storage] = field(default_factory=dict)
    guests: dict[int, Guest] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=dict)
    backups: dict[str, list[Backup]] = field(default_factory=dict)
    tasks: dict[str, list[Task]] = field(default_factory=dict)
    replication: dict[str, ReplicationJob] = field(default_factory=dict)
    backup_jobs: dict[str, BackupJob] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    ha_resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    ha_strangers: list[str] = field(default_factory=list)
    acl: Acl = field(default_factory=Acl)
    config_version: int = 4
    now: int = 1_766_000_000
    quorum: bool | None = None
    order_seed: int | None = None
    spelling_seed: int | None = None
    churned: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)
    held: dict[int, Guest] | None = field(default=None, repr=False)
    pool_by_guest: dict[int, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.index_pools()

    @property
    def flavour(self) -> Flavour:
        return FLAVOURS[self.flavour_name]

    def set_flavour(self, name: str) -> None:
        """Make every node of release ``name`` (a key of FLAVOURS). Raises KeyError for an unknown one."""
        flavour = FLAVOURS[name]
        with self.lock:
            self.flavour_name = name
            for node in self.nodes.values():
                node.version, node.repoid = flavour.version, flavour.repoid

    @property
    def quorate(self) -> bool:
        """More than half of the nodes are online, unless a test decided it."""
        if self.quorum is not None:
            return self.quorum
        online = sum(node.online for node in self.nodes.values())
        return self.standalone or online * 2 > len(self.nodes)

    @property
    def first_online(self) -> Node | None:
        """The node that answers at the cluster's floating address."""
        return next((node for node in self.nodes.values() if node.online), None)

    def guest(self, vmid: int) -> Guest:
        """The guest with this VMID. Raises KeyError when there is none."""
        return self.guests[vmid]

    def guests_on(self, node: str, kind: str | None = None) -> Iterator[Guest]:
        """The guests whose configuration lies on ``node``."""
        return (guest for guest in self.guests.values() if guest.node == node and kind in (None, guest.kind))

    def all_backups(self) -> Iterator[Backup]:
        return (backup for backups in self.backups.values() for backup in backups)

    def all_tasks(self) -> Iterator[Task]:
        return (task for tasks in self.tasks.values() for task in tasks)

    def pool_of(self, vmid: int) -> str | None:
        return self.pool_by_guest.get(vmid)

    def index_pools(self) -> None:
        """To be called after pools were changed by hand."""
        self.pool_by_guest = {vmid: pool.name for pool in self.pools.values() for vmid in pool.guests}
