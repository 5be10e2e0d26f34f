"""Proxmox's words for guests in NetBox's: states, operating systems, tag colours, unique names."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from proxbox_dagster.facts import UNOBSERVED

STATUS = {
    "running": "active",
    "online": "active",
    "active": "active",
    "stopped": "offline",
    "offline": "offline",
    "paused": "paused",
    "suspended": "paused",
    "prelaunch": "paused",
}
"""Proxmox's state of a guest to NetBox's status. What is not here was not observed (``unknown``)."""

QEMU_PLATFORMS = {
    "l24": "Linux (kernel 2.4)",
    "l26": "Linux (kernel 2.6 or newer)",
    "solaris": "Solaris",
    "other": "Other",
    "wxp": "Windows XP",
    "w2k": "Windows 2000",
    "w2k3": "Windows Server 2003",
    "w2k8": "Windows Server 2008",
    "wvista": "Windows Vista",
    "win7": "Windows 7",
    "win8": "Windows 8",
    "win10": "Windows 10",
    "win11": "Windows 11",
}
LXC_PLATFORMS = {
    "alpine": "Alpine Linux",
    "archlinux": "Arch Linux",
    "centos": "CentOS",
    "debian": "Debian",
    "devuan": "Devuan",
    "fedora": "Fedora",
    "gentoo": "Gentoo",
    "nixos": "NixOS",
    "opensuse": "openSUSE",
    "ubuntu": "Ubuntu",
    "unmanaged": "Unmanaged",
}


def netbox_status(state: Any) -> Any:
    """NetBox's status of a guest's state; ``UNOBSERVED`` for one that says nothing."""
    return STATUS.get(state, UNOBSERVED) if isinstance(state, str) else UNOBSERVED


def platform_name(kind: str, ostype: Any) -> str | None:
    """The platform of a configured ``ostype``; ``None`` for none, or a code that Proxmox has added since."""
    return (LXC_PLATFORMS if kind == "lxc" else QEMU_PLATFORMS).get(str(ostype)) if ostype else None


def ui_color(tag: str) -> str:
    """The colour that Proxmox's own UI gives a tag without one in the cluster's options: six hex digits.

    A 32-bit string hash (of the tag and ``prox``) over its UTF-16 units, brightened by 30 % of white.
    """
    if not tag:
        return "9e9e9e"
    value = 0
    units = (tag + "prox").encode("utf-16-le", "surrogatepass")
    for low, high in zip(units[::2], units[1::2], strict=True):
        value = (low + (high << 8) + ((value << 5) - value)) & 0xFFFFFFFF
    parts = [((value >> shift) & 255) * 0.7 + 255 * (1 - 0.7) for shift in (0, 8, 16)]
    return "".join(f"{min(255, math.floor(part + 0.5)):02x}" for part in parts)  # rounded as JavaScript does


def unique_names(named: Iterable[tuple[int, str, str]], limit: int = 64) -> dict[tuple[int, str], str]:
    """Names that NetBox takes within one cluster: equal ones (in any case) get `` (2)``, `` (3)`` by VMID.

    ``named`` are (VMID, kind, name); the result is by (VMID, kind). The lowest VMID keeps the bare name.
    """
    taken: set[str] = set()
    given: dict[tuple[int, str], str] = {}
    ordered = sorted(named)
    counts: dict[str, int] = {}
    # Bare names first, so that a made-up "web (2)" never displaces a guest that is really called so.
    for vmid, kind, name in ordered:
        bare = name[:limit]
        if bare.casefold() not in taken:
            taken.add(bare.casefold())
            given[vmid, kind] = bare
    for vmid, kind, name in ordered:
        if (vmid, kind) in given:
            continue
        number = counts.get(name.casefold(), 1)
        while True:
            number += 1
            suffix = f" ({number})"
            candidate = name[: limit - len(suffix)] + suffix
            if candidate.casefold() not in taken:
                break
        counts[name.casefold()] = number
        taken.add(candidate.casefold())
        given[vmid, kind] = candidate
    return given
