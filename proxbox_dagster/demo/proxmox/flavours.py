"""How the releases of Proxmox VE differ on the wire, as far as a reader of the API meets it.

Sources: the published API schemas of 7.4, 8.4, 9.1; the change logs of libpve-http-server-perl (``message`` in error
bodies since 5.2.0), pve-container (``interfaces`` since 8.1), pve-ha-manager (rules since 9.0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Flavour:
    """One release.

    ``error_message``: error bodies repeat the error text. ``memory_is_text``: ``memory`` in a QEMU configuration is a
    string. ``agent_privileges``: any one of them lets the guest agent be asked. ``container_interfaces``: missing, in
    the old shape (one address per family), or with all addresses. ``ha_rules``: groups have become rules.
    """

    name: str
    version: str
    repoid: str
    error_message: bool
    memory_is_text: bool
    agent_privileges: tuple[str, ...]
    container_interfaces: Literal["missing", "old", "new"]
    ha_rules: bool


_MONITOR = ("VM.Monitor",)
_AGENT_AUDIT = ("VM.GuestAgent.Audit", "VM.GuestAgent.Unrestricted")

FLAVOURS = {
    flavour.name: flavour
    for flavour in (
        Flavour("7.4", "7.4-16", "0f39f621", False, False, _MONITOR, "missing", False),
        Flavour("8.2", "8.2.7", "3e0176e6bb2ade3b", False, True, _MONITOR, "old", False),
        Flavour("8.4", "8.4.5", "57892e8e686cb35b", True, True, _MONITOR, "new", False),
        Flavour("9.1", "9.1.4", "5ac30304265fbd8e", True, True, _AGENT_AUDIT, "new", True),
    )
}
"""Every simulated release by its name."""
