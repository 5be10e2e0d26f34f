"""What the token may see, and which lists may therefore be shorter than the truth.

Proxmox leaves out of a list whatever the caller lacks the privilege for, with status 200. So a list proves an absence
only if the privilege is held on everything that the list could name: on the base path with propagation, and on every
deeper path that has an entry of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from ..facts import Gap, GapKind, guest_key
from .credentials import Credentials
from .grants import AGENT, AGENT_BEFORE_9, grant
from .parse.values import to_bool

AnyOf = tuple[tuple[str, ...], ...]
"""Alternatives, each a set of privileges that are needed together; the first is the one to grant."""

_TOP: Final = frozenset({"/", "/access", "/access/groups", "/nodes", "/pool", "/sdn", "/storage", "/vms"})
"""Always in the answer, unless nothing at all is allowed there: then they are left out, and ``/`` does not count."""


@dataclass(frozen=True, slots=True)
class Need:
    """One privilege that a source needs on everything below ``base`` to be complete."""

    base: str
    any_of: AnyOf
    level: Literal["guest", "storage", "node", "other"]
    effect: str


_GUESTS = Need("/vms", (("VM.Audit",),), "guest", "guests are left out of lists without a word")
_STORAGES = Need(
    "/storage",
    (("Datastore.Audit",), ("Datastore.AllocateSpace",)),
    "storage",
    "storages are left out of lists without a word",
)
_AGENT = Need(
    "/vms",
    ((AGENT,), ("VM.GuestAgent.Unrestricted",), (AGENT_BEFORE_9,)),
    "guest",
    "the guest agent may not be asked",
)

NEEDS: Final[Mapping[str, tuple[Need, ...]]] = {
    "storage": (_STORAGES,),
    "node_storage": (_STORAGES,),
    "guests": (_GUESTS,),
    "guest_configs": (_GUESTS,),
    "guest_snapshots": (_GUESTS,),
    "guest_agent": (_GUESTS, _AGENT),
    "container_interfaces": (_GUESTS,),
    "replication_jobs": (_GUESTS,),
    "node_tasks": (
        Need("/nodes", (("Sys.Audit",),), "node", "tasks of other users are left out of lists without a word"),
    ),
    "storage_content": (
        _STORAGES,
        Need(
            "/storage",
            (("Datastore.AllocateSpace",), ("Datastore.Allocate",)),
            "storage",
            "backups are left out of lists without a word",
        ),
    ),
    "node_networks": (
        Need(
            "/sdn/zones/localnetwork",
            (("SDN.Audit",), ("SDN.Use",)),
            "other",
            "bridges and VNets are left out of lists without a word",
        ),
    ),
}

BACKUP: Final = Need("/vms", (("VM.Backup",),), "guest", "backups of guests are left out of lists without a word")
"""Needed for backups besides the storage's privilege, except where Datastore.Allocate is held."""


PROBED: Final[Mapping[str, Need]] = {"guest": _GUESTS, "storage": _STORAGES, "bridge": NEEDS["node_networks"][0]}
"""What a list leaves out by the path of each single object, with the privilege that shows it."""

POOLS: Final = Need(
    "/pool", (("Pool.Audit",),), "other", "pools are not told: what a backup job of a pool takes is not observed"
)
"""Nothing is left out of a list without it; one field of a guest is."""


class Privileges:
    """The answer of ``/access/permissions``: path to privilege to whether it propagates."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self.paths: dict[str, dict[str, bool]] = {}
        for path, privileges in answer.items():
            if isinstance(privileges, Mapping):
                self.paths[str(path)] = {str(name): to_bool(value) is True for name, value in privileges.items()}

    def at(self, path: str) -> frozenset[str]:
        """The privileges on ``path``: those of its own entry, else what comes down to it."""
        return frozenset(self.paths[path]) if path in self.paths else self._inherited(path)

    def _inherited(self, path: str) -> frozenset[str]:
        """What the nearest entry, on ``path`` or above it, hands down."""
        while path not in self.paths:
            if path in _TOP:
                return frozenset()
            path = path.rsplit("/", 1)[0] or "/"
        return frozenset(name for name, propagates in self.paths[path].items() if propagates)

    def allows(self, path: str, any_of: AnyOf) -> bool:
        held = self.at(path)
        return any(held.issuperset(together) for together in any_of)

    def propagates(self, base: str, any_of: AnyOf) -> bool:
        """Whether the privileges hold on everything below ``base`` that has no entry of its own."""
        held = self._inherited(base)
        return any(held.issuperset(together) for together in any_of)

    def below(self, base: str) -> list[str]:
        """The paths under ``base`` that have an entry of their own."""
        return sorted(path for path in self.paths if path.startswith(base.rstrip("/") + "/"))


@dataclass(frozen=True)
class PrivilegeProof:
    """Turns privileges into gaps. ``privileges`` is ``None`` when they could not be read, for ``problem``."""

    privileges: Privileges | None
    who: Credentials
    problem: str = ""

    def gaps(self, source: str, release: str | None = None) -> list[Gap]:
        """The gaps of a source that the privileges leave open. ``release`` is that of Proxmox VE, as ``9.1``."""
        needs = NEEDS.get(source, ())
        if source == "node_networks" and not hides_bridges(release):
            needs = ()
        if not needs:
            return []
        if self.privileges is None:
            reason = f"what the {self.who.who} may see cannot be proved: {self.problem}"
            return [Gap("all", "", GapKind.PERMISSION, reason)]
        found = [gap for need in needs for gap in self._gaps(need, self.privileges, release)]
        if source == "storage_content" and not self.privileges.propagates("/storage", (("Datastore.Allocate",),)):
            found += self._gaps(BACKUP, self.privileges, release)
        return found

    def everything_missing(self, release: str | None = None) -> list[str]:
        """A line for each privilege that any source lacks, with the ``pveum`` line that grants it."""
        found = [gap for name in NEEDS for gap in self.gaps(name, release)]
        if self.privileges is not None:
            found += self._gaps(POOLS, self.privileges, release)
        return list(dict.fromkeys(gap.reason for gap in found))

    def asks_agent(self, vmid: int) -> bool:
        """Whether the guest agent of this guest may be asked."""
        return self.privileges is None or self.privileges.allows(f"/vms/{vmid}", _AGENT.any_of)

    def sees_pools(self) -> bool:
        return self.privileges is not None and self.privileges.propagates("/pool", (("Pool.Audit",),))

    def _gaps(self, need: Need, privileges: Privileges, release: str | None) -> list[Gap]:
        wanted = need.any_of[0]
        if need is _AGENT and release is not None and _major(release) < 9:
            wanted = (AGENT_BEFORE_9,)
        if not privileges.propagates(need.base, need.any_of):
            return [Gap("all", "", GapKind.PERMISSION, self._reason(need, need.base, wanted))]
        return [
            gap
            for path in privileges.below(need.base)
            if not privileges.allows(path, need.any_of)
            for gap in self._deeper(need, path, wanted)
        ]

    def _deeper(self, need: Need, path: str, wanted: Iterable[str]) -> Iterator[Gap]:
        name = path.removeprefix(need.base + "/").split("/")[0]
        reason = self._reason(need, path, wanted)
        if need.level == "guest" and name.isdecimal():
            # The guest may be invisible, so nobody knows of which type it is.
            for kind in ("qemu", "lxc"):
                yield Gap("guest", guest_key(kind, int(name)), GapKind.PERMISSION, reason)
        elif need.level in ("storage", "node"):
            yield Gap(need.level, name, GapKind.PERMISSION, reason)
        else:
            yield Gap("all", "", GapKind.PERMISSION, reason)

    def _reason(self, need: Need, path: str, wanted: Iterable[str]) -> str:
        wanted = tuple(wanted)
        names = " and ".join(wanted)
        line = grant(path, wanted, self.who.user, self.who.token_name)
        return f"the {self.who.who} lacks {names} on {path}: {need.effect}. Grant it: {line}"


def hides_bridges(release: str | None) -> bool:
    """Whether a release (``9.1``; ``None``: not known) leaves out bridges that the caller may not see: since 8.0."""
    return release is None or _major(release) not in (6, 7)


def _major(release: str) -> int:
    head = release.split(".")[0]
    return int(head) if head.isdecimal() else 0
