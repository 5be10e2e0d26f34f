"""What a run is narrowed to: guests, nodes, storages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scope:
    """A narrowing of one run; empty means everything.

    Guests are in scope when they fit both ``vmids`` and ``nodes`` (an empty one fits all). A scope of ``vmids`` alone
    holds guests and what belongs to them, no node or storage; a scope of ``storages`` alone holds those storages and
    the backups on them, no guest or node.
    """

    vmids: frozenset[int] = frozenset()
    nodes: frozenset[str] = frozenset()
    storages: frozenset[str] = frozenset()

    @property
    def is_full(self) -> bool:
        """True when the run is not narrowed."""
        return not (self.vmids or self.nodes or self.storages)

    def guest(self, vmid: int, node: str | None) -> bool:
        """Whether this guest (at present on ``node``) is in scope."""
        if not (self.vmids or self.nodes):
            return self.is_full
        return (not self.vmids or vmid in self.vmids) and (not self.nodes or node in self.nodes)

    def node(self, name: str) -> bool:
        """Whether the node itself (its networks, tasks, storages) is in scope."""
        return self.is_full or (not self.vmids and name in self.nodes)

    def storage(self, name: str) -> bool:
        """Whether the storage itself is in scope."""
        return self.is_full or name in self.storages

    def __str__(self) -> str:
        parts = [
            f"{word} {', '.join(str(item) for item in sorted(items))}"
            for word, items in (("guests", self.vmids), ("nodes", self.nodes), ("storages", self.storages))
            if items
        ]
        return "; ".join(parts) or "everything"
