"""One request as the answers see it: the cluster, the answering node, the caller's rights, the parameters."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .cluster import Cluster
from .errors import PveError, died, forbidden
from .flavours import Flavour
from .state import Guest, Node

T = TypeVar("T")


@dataclass
class Rows:
    """An answer with something beside its ``data``: the ``total`` of a list in parts, the ``changes`` that wait."""

    data: list[Any]
    beside: dict[str, Any]


@dataclass
class Call:
    """A request. ``params`` are those of the path and of the query, as text; answers are made under the lock."""

    cluster: Cluster
    local: Node
    user: str
    params: dict[str, str] = field(default_factory=dict)
    rng: random.Random = field(default_factory=random.Random)

    @property
    def flavour(self) -> Flavour:
        return self.cluster.flavour

    def allows(self, path: str, *privileges: str) -> bool:
        """Whether the caller holds every one of ``privileges`` on ``path``."""
        pool = self.cluster.pool_of(int(path[5:])) if path.startswith("/vms/") and path[5:].isdigit() else None
        return self.cluster.acl.allows(path, privileges, pool)

    def allows_any(self, path: str, privileges: Iterable[str]) -> bool:
        return any(self.allows(path, privilege) for privilege in privileges)

    def require(self, path: str, *privileges: str) -> None:
        """Raises PveError 403 unless the caller holds all of ``privileges``."""
        if not self.allows(path, *privileges):
            raise forbidden(path, ", ".join(privileges))

    def require_any(self, path: str, privileges: tuple[str, ...]) -> None:
        """Raises PveError 403 unless the caller holds one of ``privileges``."""
        if not self.allows_any(path, privileges):
            raise forbidden(path, "|".join(privileges))

    def node(self) -> Node:
        """The node of the path; the dispatcher has seen that it is there and online."""
        return self.cluster.nodes[self.params["node"]]

    def guest(self, kind: str) -> Guest:
        """The guest of the path. Raises PveError 500, as Proxmox does, when its configuration is not on that node."""
        node, vmid = self.params["node"], int(self.params["vmid"])
        guest = self.cluster.guests.get(vmid)
        if guest is None or guest.node != node or guest.kind != kind:
            folder = "qemu-server" if kind == "qemu" else "lxc"
            raise died(f"Configuration file 'nodes/{node}/{folder}/{vmid}.conf' does not exist")
        return guest

    def ordered(self, rows: Iterable[T]) -> list[T]:
        """The rows of a list whose order means nothing; a test may have asked for another order."""
        listed = list(rows)
        if self.cluster.order_seed is not None:
            random.Random(f"{self.cluster.order_seed}/{len(listed)}").shuffle(listed)
        return listed

    def joined(self, separator: str, items: Iterable[str]) -> str:
        """Names that Proxmox joins in the order of a hash, which is another one in each of its processes."""
        listed = list(items)
        self.rng.shuffle(listed)
        return separator.join(listed)

    def noise(self, key: str) -> float:
        """A volatile value from 0 to 1, the same until the cluster churns."""
        return zlib.crc32(f"{key}/{self.cluster.churned}".encode()) / 2**32

    def flag(self, name: str) -> bool:
        """A boolean parameter."""
        return self.params.get(name, "0").lower() in ("1", "yes", "true", "on")


__all__ = ["Call", "PveError", "Rows"]
