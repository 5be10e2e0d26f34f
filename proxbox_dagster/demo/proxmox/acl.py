"""Privileges of the token: which paths it may read, by the rules of Proxmox's access control lists."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from .state import words

PRIVILEGES = words("""
    Datastore.Allocate Datastore.AllocateSpace Datastore.AllocateTemplate Datastore.Audit Group.Allocate Mapping.Audit
    Mapping.Modify Mapping.Use Permissions.Modify Pool.Allocate Pool.Audit Realm.Allocate Realm.AllocateUser
    SDN.Allocate SDN.Audit SDN.Use Sys.AccessNetwork Sys.Audit Sys.Console Sys.Incoming Sys.Modify Sys.PowerMgmt
    Sys.Syslog User.Modify VM.Allocate VM.Audit VM.Backup VM.Clone VM.Config.CDROM VM.Config.CPU VM.Config.Cloudinit
    VM.Config.Disk VM.Config.HWType VM.Config.Memory VM.Config.Network VM.Config.Options VM.Console
    VM.GuestAgent.Audit VM.GuestAgent.FileRead VM.GuestAgent.FileSystemMgmt VM.GuestAgent.FileWrite
    VM.GuestAgent.Unrestricted VM.Migrate VM.Monitor VM.PowerMgmt VM.Replicate VM.Snapshot VM.Snapshot.Rollback
""")
"""Every privilege of the simulated releases (``VM.Monitor`` is of 8 and before, ``VM.GuestAgent.*`` of 9)."""
OLD_PRIVILEGES = frozenset({"VM.Monitor"})
NEW_PRIVILEGES = frozenset(name for name in PRIVILEGES if name.startswith("VM.GuestAgent") or name == "VM.Replicate")


class Acl:
    """Privileges by path. The entry nearest to a path counts and replaces those above it, as in Proxmox."""

    def __init__(self, entries: Mapping[str, Collection[str]] | None = None) -> None:
        """``entries``: path to privileges; None grants everything. Raises ValueError for an unknown privilege."""
        given = {"/": PRIVILEGES} if entries is None else entries
        self.entries = {path: frozenset(privileges) for path, privileges in given.items()}
        unknown = frozenset().union(*self.entries.values()) - PRIVILEGES
        if unknown:
            raise ValueError(f"no such privilege in Proxmox: {', '.join(sorted(unknown))}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Acl) and other.entries == self.entries

    __hash__ = None  # type: ignore[assignment]

    def at(self, path: str) -> frozenset[str]:
        """The privileges on ``path``."""
        for candidate in _upwards(path):
            if candidate in self.entries:
                return self.entries[candidate]
        return frozenset()

    def allows(self, path: str, privileges: Collection[str], pool: str | None = None) -> bool:
        """Whether every one of ``privileges`` is held on ``path``, or on the pool that the object is in."""
        held = self.at(path)
        if pool is not None and path not in self.entries and f"/pool/{pool}" in self.entries:
            held = held | self.entries[f"/pool/{pool}"]
        return all(privilege in held for privilege in privileges)


def _upwards(path: str) -> Iterator[str]:
    """``/vms/100``, ``/vms``, ``/``."""
    while path != "/":
        yield path
        path = path.rsplit("/", 1)[0] or "/"
    yield "/"
