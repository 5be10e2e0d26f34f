"""The ``pveum`` lines that grant a privilege."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_AUDITOR: Final = frozenset({"VM.Audit", "Datastore.Audit", "Sys.Audit", "SDN.Audit", "Pool.Audit"})
ROLE: Final = "ProxboxSync"
"""The role that the project's documentation has the operator make."""


def grant(path: str, privileges: Iterable[str], user: str, token: str | None) -> str:
    """The shell line that grants ``privileges`` on ``path``.

    A token with privilege separation can do what both it and its user may, so both get the role. The built-in role
    PVEAuditor is used where it is enough.
    """
    wanted = sorted(set(privileges))
    who = f"--users {user}" + (f" --tokens '{user}!{token}'" if token else "")
    if _AUDITOR.issuperset(wanted):
        return f"pveum acl modify {path} {who} --roles PVEAuditor"
    role = ROLE + "".join(sorted({_suffix(privilege) for privilege in wanted}))
    return f"pveum role add {role} --privs '{','.join(wanted)}'; pveum acl modify {path} {who} --roles {role}"


def _suffix(privilege: str) -> str:
    """Roles are named for their purpose, so that two missing privileges do not ask for one role twice."""
    if privilege in ("VM.Backup", "Datastore.AllocateSpace", "Datastore.Allocate"):
        return "Backups"
    if privilege.startswith(("VM.Monitor", "VM.GuestAgent")):
        return "Agent"
    return ""
