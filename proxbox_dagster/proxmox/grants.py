"""The role on Proxmox that this project needs, and the ``pveum`` lines that give it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

ROLE: Final = "ProxboxSync"
"""The role that the project's documentation has the operator make."""

ROLE_PRIVILEGES: Final = (
    "Datastore.AllocateSpace",
    "Datastore.Audit",
    "Pool.Audit",
    "SDN.Audit",
    "Sys.Audit",
    "VM.Audit",
    "VM.Backup",
)
"""What every release needs. ``Datastore.AllocateSpace`` and ``VM.Backup`` are what Proxmox asks for to list backups."""

AGENT: Final = "VM.GuestAgent.Audit"
AGENT_BEFORE_9: Final = "VM.Monitor"
"""To ask the guest agent for addresses: Proxmox VE 9 has a privilege of its own for it."""


def role_privileges(*, before_9: bool = False) -> tuple[str, ...]:
    """All privileges of the role on a release."""
    return (*ROLE_PRIVILEGES, AGENT_BEFORE_9 if before_9 else AGENT)


def setup_lines(user: str, token: str, *, before_9: bool = False) -> list[str]:
    """The shell lines that make the role, the user and the token, and give both the role on everything."""
    return [
        f"pveum role add {ROLE} --privs '{','.join(role_privileges(before_9=before_9))}'",
        f"pveum user add {user}",
        f"pveum user token add {user} {token} --privsep 1",
        _acl("/", user, token),
    ]


def grant(path: str, privileges: Iterable[str], user: str, token: str | None) -> str:
    """The shell line that grants ``privileges`` on ``path``, together with all others that are needed.

    Always the whole role: an entry on a path replaces what comes down to it from above, so a role with one privilege
    would take all others away there. It is made, or the privileges are added to it.
    """
    privs = ",".join(sorted({*ROLE_PRIVILEGES, *privileges}))
    made = f"pveum role add {ROLE} --privs '{privs}' || pveum role modify {ROLE} --privs '{privs}' --append 1"
    return f"{made}; {_acl(path, user, token)}"


def _acl(path: str, user: str, token: str | None) -> str:
    """A token with privilege separation can do what both it and its user may, so both get the role."""
    who = f"--users {user}" + (f" --tokens '{user}!{token}'" if token else "")
    return f"pveum acl modify {path} {who} --roles {ROLE}"
