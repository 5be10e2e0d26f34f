"""What tests do to a cluster's nodes, guests and rights. Every method takes the lock."""

from __future__ import annotations

import copy
import threading
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from .acl import Acl
from .state import Guest, Node, Snapshot

if TYPE_CHECKING:
    from .state import Pool, Task


class Changes:
    """Changes of guests, nodes, rights and the way of answering; mixed into Cluster."""

    lock: threading.RLock
    guests: dict[int, Guest]
    nodes: dict[str, Node]
    pools: dict[str, Pool]
    tasks: dict[str, list[Task]]
    pool_by_guest: dict[int, str]
    options: dict[str, Any]
    acl: Acl
    now: int
    quorum: bool | None
    order_seed: int | None
    spelling_seed: int | None
    churned: int
    held: dict[int, Guest] | None

    # guests

    def _guest(self, kind: str, vmid: int) -> Guest:
        guest = self.guests[vmid]
        if guest.kind != kind:
            raise KeyError(f"{vmid} is a {guest.kind} guest, not {kind}")
        return guest

    def rename(self, kind: str, vmid: int, name: str) -> None:
        with self.lock:
            self._guest(kind, vmid).name = name

    def migrate(self, kind: str, vmid: int, node: str) -> None:
        with self.lock:
            if node not in self.nodes:
                raise KeyError(node)
            self._guest(kind, vmid).node = node

    def start(self, kind: str, vmid: int) -> None:
        """Start it; changes that waited for a restart take effect."""
        with self.lock:
            guest = self._guest(kind, vmid)
            apply_pending(guest)
            guest.status, guest.started = "running", self.now

    def stop(self, kind: str, vmid: int) -> None:
        """Stop it; changes that waited for a restart take effect."""
        with self.lock:
            guest = self._guest(kind, vmid)
            apply_pending(guest)
            guest.status, guest.started = "stopped", 0

    def add_guest(self, guest: Guest | None = None, /, **fields: Any) -> Guest:
        """Add ``guest``, or a Guest made of ``fields`` (kind, vmid, node, ...). Raises ValueError for a taken VMID."""
        with self.lock:
            added = guest if guest is not None else Guest(**fields)
            if added.vmid in self.guests:
                raise ValueError(f"VM {added.vmid} already exists")
            if added.node not in self.nodes:
                raise KeyError(added.node)
            self.guests[added.vmid] = added
            return added

    def delete_guest(self, kind: str, vmid: int) -> Guest:
        """Delete it and its membership of pools; its backups and tasks stay, as in Proxmox."""
        with self.lock:
            guest = self._guest(kind, vmid)
            del self.guests[vmid]
            for pool in self.pools.values():
                pool.guests.discard(vmid)
            self.pool_by_guest.pop(vmid, None)
            return guest

    def set_config(self, kind: str, vmid: int, key: str, value: Any) -> None:
        """Set one key of the configuration; None removes it. ``name``/``hostname`` and ``template`` are the guest's."""
        with self.lock:
            guest = self._guest(kind, vmid)
            if key in ("name", "hostname"):
                guest.name = str(value or "")
            elif key == "template":
                guest.template = bool(value)
            elif value is None:
                guest.config.pop(key, None)
            else:
                guest.config[key] = config_text(value)

    def set_pending(self, kind: str, vmid: int, key: str, value: Any) -> None:
        """A change that waits for a restart; None: the removal of the key waits."""
        with self.lock:
            self._guest(kind, vmid).pending[key] = None if value is None else config_text(value)

    def set_pool(self, vmid: int, name: str | None) -> None:
        """Move a guest into a pool, or out of all."""
        with self.lock:
            for pool in self.pools.values():
                pool.guests.discard(vmid)
            self.pool_by_guest.pop(vmid, None)
            if name is not None:
                self.pools[name].guests.add(vmid)
                self.pool_by_guest[vmid] = name

    # snapshots

    def add_snapshot(self, kind: str, vmid: int, name: str, **fields: Any) -> Snapshot:
        """Take a snapshot now; it becomes the parent of the present state."""
        with self.lock:
            guest = self._guest(kind, vmid)
            fields = {"snaptime": self.now, "parent": guest.parent, "config": dict(guest.config), **fields}
            guest.snapshots[name] = Snapshot(name, **fields)
            guest.parent = name
            return guest.snapshots[name]

    def remove_snapshot(self, kind: str, vmid: int, name: str) -> None:
        """Remove a snapshot; what came from it now comes from the one before it."""
        with self.lock:
            guest = self._guest(kind, vmid)
            gone = guest.snapshots.pop(name)
            for snapshot in guest.snapshots.values():
                if snapshot.parent == name:
                    snapshot.parent = gone.parent
            if guest.parent == name:
                guest.parent = gone.parent

    def rollback(self, kind: str, vmid: int, name: str) -> None:
        """Go back to a snapshot: its configuration is the present one."""
        with self.lock:
            guest = self._guest(kind, vmid)
            snapshot = guest.snapshots[name]
            if snapshot.config:
                guest.config = dict(snapshot.config)
            guest.parent = name

    # nodes

    def node_offline(self, name: str, *, broadcasting: bool = False) -> None:
        """The node is gone. ``broadcasting``: so shortly that its last values are still shown in lists."""
        with self.lock:
            self.nodes[name].online, self.nodes[name].broadcasting = False, broadcasting

    def node_online(self, name: str) -> None:
        with self.lock:
            self.nodes[name].online = self.nodes[name].broadcasting = True

    def node_unresolved(self, name: str) -> None:
        """The others have lost the address of this node, and no name server knows it; it goes on broadcasting."""
        with self.lock:
            self.nodes[name].resolves = False

    def network_waits(self, name: str, rows: list[dict[str, Any]] | None) -> None:
        """Somebody has edited the node's network and not applied it: ``rows`` are its interfaces then; None: applied
        or thrown away.
        """
        with self.lock:
            self.nodes[name].network_new = rows

    def quorum_lost(self) -> None:
        """The cluster has no quorum, whatever the number of members that are online (votes, or a split just now)."""
        with self.lock:
            self.quorum = False

    def quorum_restored(self) -> None:
        """The number of online nodes decides again."""
        with self.lock:
            self.quorum = None

    def set_option(self, key: str, value: Any) -> None:
        """Set one of the datacenter's options; None removes it."""
        with self.lock:
            if value is None:
                self.options.pop(key, None)
            else:
                self.options[key] = value

    # rights

    def restrict(self, acl: Mapping[str, Collection[str]]) -> None:
        """Give the user and its token just these privileges: path (``/``, ``/vms/100``) to privileges."""
        with self.lock:
            self.acl = Acl(acl)

    def revoke(self, privilege: str, path: str = "/") -> None:
        """Take one privilege away at ``path``, and below it."""
        with self.lock:
            entries = dict(self.acl.entries)
            entries[path] = self.acl.at(path)
            below = path.rstrip("/") + "/"
            for entry in entries:
                if entry == path or entry.startswith(below):
                    entries[entry] = entries[entry] - {privilege}
            self.acl = Acl(entries)

    def grant_all(self) -> None:
        with self.lock:
            self.acl = Acl()

    # the way of answering

    def shuffle(self, seed: int) -> None:
        """Answer every list, and every list inside a string whose order means nothing, in another order."""
        with self.lock:
            self.order_seed = seed

    def churn(self) -> None:
        """Let time pass: every volatile value (use of processor, memory, disks, counters, uptime) is another one."""
        with self.lock:
            self.churned += 1
            self.now += 61

    def respell(self, seed: int | None = 1) -> None:
        """Answer equal values in other valid spellings; None goes back to the stored ones."""
        with self.lock:
            self.spelling_seed = seed

    def hold_broadcast(self) -> None:
        """Lists keep showing the guests as they are now, as they do for seconds after a change."""
        with self.lock:
            self.held = copy.deepcopy(self.guests)

    def release_broadcast(self) -> None:
        with self.lock:
            self.held = None


def config_text(value: Any) -> str:
    """A value as it stands in a configuration file."""
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value)


def apply_pending(guest: Guest) -> None:
    """Let waiting changes take effect."""
    for key, value in guest.pending.items():
        if value is None:
            guest.config.pop(key, None)
        elif key in ("name", "hostname"):
            guest.name = value
        else:
            guest.config[key] = value
    guest.pending.clear()
