"""What a simulated cluster is made of: plain, typed records, named as Proxmox names things.

Sizes are bytes, times are epoch seconds (UTC). A guest's ``config`` holds the text of its configuration file, key by
key, as Proxmox stores it; what type a value has on the wire is decided where the answer is made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
_UNITS = {"": 1, "K": KIB, "M": MIB, "G": GIB, "T": TIB}


def parse_size(text: str | int | float) -> int:
    """Bytes of ``10G``, ``528K``, ``1.5T`` or a plain number. Raises ValueError for anything else."""
    if isinstance(text, int | float):
        return int(text)
    unit = text[-1:].upper()
    number = text[:-1] if unit in "KMGT" and unit else text
    return int(float(number) * _UNITS[unit if number is not text else ""])


def words(text: str) -> frozenset[str]:
    """The words of a text, as a set of names."""
    return frozenset(text.split())


@dataclass
class Snapshot:
    """A snapshot of a guest. ``snapstate`` is set on one whose making or removal was broken off."""

    name: str
    snaptime: int
    parent: str | None = None
    description: str = ""
    vmstate: bool = False
    snapstate: str | None = None
    config: dict[str, str] = field(default_factory=dict)


@dataclass
class Agent:
    """The QEMU guest agent inside a guest. ``interfaces`` are rows as network-get-interfaces gives them.

    ``error`` is answered inside a 200 as ``{"result": {"error": ...}}``; ``hangs`` lets every call end in a timeout.
    """

    running: bool = True
    interfaces: list[dict[str, Any]] = field(default_factory=list)
    host_name: str | None = None
    osinfo: dict[str, Any] = field(default_factory=dict)
    error: dict[str, str] | None = None
    hangs: bool = False


@dataclass
class ContainerInterface:
    """A network interface of a running container; ``addresses`` with prefix length (``192.0.2.5/24``)."""

    name: str
    mac: str
    addresses: list[str] = field(default_factory=list)


@dataclass
class Guest:
    """A QEMU machine or an LXC container.

    ``name`` is the name (QEMU) or hostname (LXC), empty when it has none. ``status`` is what Proxmox broadcasts:
    running, stopped, paused, suspended, prelaunch. ``pending`` are changes that wait for a restart (None deletes the
    key). ``fresh`` is a guest so new that its node has not broadcast it yet. ``parent`` is the snapshot that the
    present state comes from. ``uptime`` is of a running guest. ``lxc_raw`` are raw ``lxc.*`` lines.
    """

    kind: str
    vmid: int
    node: str
    name: str = ""
    status: str = "stopped"
    template: bool = False
    config: dict[str, str] = field(default_factory=dict)
    pending: dict[str, str | None] = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    parent: str | None = None
    agent: Agent | None = None
    interfaces: list[ContainerInterface] = field(default_factory=list)
    lxc_raw: list[tuple[str, str]] = field(default_factory=list)
    hastate: str | None = None
    fresh: bool = False
    started: int = 0

    @property
    def running(self) -> bool:
        """There is a process: also while it is paused."""
        return self.status != "stopped"

    @property
    def broadcast_name(self) -> str:
        """The name in lists: ``VM 200`` or ``CT200`` for a nameless guest, a container's without white space."""
        if self.kind == "lxc":
            return "".join((self.name or f"CT{self.vmid}").split())
        return self.name or f"VM {self.vmid}"


@dataclass
class Node:
    """A member of the cluster. ``network`` are rows as /nodes/{node}/network gives them.

    ``network_new`` are those of a configuration that waits to be applied (``/etc/network/interfaces.new``).
    ``broadcasting`` is false once the node has been silent so long that its last values have expired. A node that does
    not ``resolve`` is known to the others by name only: they cannot hand requests on to it.
    """

    name: str
    nodeid: int
    ip: str | None = None
    online: bool = True
    broadcasting: bool = True
    version: str = "9.1.4"
    repoid: str = "5ac30304265fbd8e"
    level: str = ""
    cpus: int = 16
    memory: int = 64 * GIB
    disk: int = 100 * GIB
    network: list[dict[str, Any]] = field(default_factory=list)
    network_new: list[dict[str, Any]] | None = None
    resolves: bool = True
    fingerprint: str = ""
    started: int = 0

    @property
    def configured(self) -> list[dict[str, Any]]:
        """The interfaces as Proxmox lists them: those that wait, where some do."""
        return self.network if self.network_new is None else self.network_new

    @property
    def release(self) -> str:
        """``9.1`` of ``9.1.4``."""
        return ".".join(self.version.replace("-", ".").split(".")[:2])


@dataclass
class Storage:
    """A storage definition with its options as in storage.cfg (``path``, ``server``, ``prune-backups``, ...).

    ``unreachable`` names nodes that cannot reach it now.
    """

    name: str
    type: str
    content: list[str]
    shared: bool = False
    nodes: list[str] = field(default_factory=list)
    disable: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    total: int = 500 * GIB
    used: int = 100 * GIB
    unreachable: set[str] = field(default_factory=set)

    def serves(self, node: str) -> bool:
        return not self.disable and (not self.nodes or node in self.nodes)


@dataclass
class Backup:
    """One backup. ``node`` is where the file lies on a storage that is not shared, else None.

    ``vmid`` None is a file in the backup folder that Proxmox did not name; ``file`` is then its name.
    """

    storage: str
    time: int
    size: int
    kind: str = "qemu"
    vmid: int | None = None
    format: str = "vma.zst"
    node: str | None = None
    notes: str | None = None
    protected: bool = False
    encrypted: str | None = None
    verification: dict[str, str] | None = None
    file: str | None = None
    pbs: bool = False

    @property
    def volid(self) -> str:
        moment = datetime.fromtimestamp(self.time, UTC)
        if self.file is not None:
            return f"{self.storage}:backup/{self.file}"
        if self.pbs:
            group = "vm" if self.kind == "qemu" else "ct"
            return f"{self.storage}:backup/{group}/{self.vmid}/{moment:%Y-%m-%dT%H:%M:%SZ}"
        return f"{self.storage}:backup/vzdump-{self.kind}-{self.vmid}-{moment:%Y_%m_%d-%H_%M_%S}.{self.format}"


@dataclass
class Task:
    """One task of a node. ``end`` and ``status`` are None while it runs; ``id`` is a VMID, a storage, or empty."""

    node: str
    type: str
    id: str
    user: str
    start: int
    end: int | None = None
    status: str | None = None
    pid: int = 0
    pstart: int = 0
    tokenid: str | None = None

    @property
    def upid(self) -> str:
        user = f"{self.user}!{self.tokenid}" if self.tokenid else self.user
        return f"UPID:{self.node}:{self.pid:08X}:{self.pstart:08X}:{self.start:08X}:{self.type}:{self.id}:{user}:"


@dataclass
class ReplicationJob:
    """A replication job, with the state of its last run (absent before the first)."""

    guest: int
    jobnum: int
    target: str
    schedule: str | None = None
    rate: float | None = None
    comment: str | None = None
    disable: bool = False
    source: str | None = None
    remove_job: str | None = None
    last_sync: int | None = None
    duration: float | None = None
    fail_count: int = 0
    error: str | None = None

    @property
    def id(self) -> str:
        return f"{self.guest}-{self.jobnum}"


@dataclass
class BackupJob:
    """A backup job; ``options`` are the keys as in jobs.cfg (``schedule``, ``storage``, ``vmid``, ``all``, ...)."""

    id: str
    options: dict[str, Any] = field(default_factory=dict)
    next_run: int | None = None


@dataclass
class Pool:
    """A resource pool with its members."""

    name: str
    comment: str = ""
    guests: set[int] = field(default_factory=set)
    storages: set[str] = field(default_factory=set)
