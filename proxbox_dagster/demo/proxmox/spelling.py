"""The types and spellings that values of a guest's configuration have on the wire.

A configuration file holds text; Proxmox answers numbers and booleans of its schema as JSON numbers. Which of several
equal spellings stands in the file (``10G`` or ``10240M``) depends on who wrote it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection
from typing import Any

from .call import Call
from .state import Guest, words

_NUMBERS = words("""
    acpi autostart balloon ciupgrade console cores cpuunits debug freeze kvm localtime memory migrate_downtime numa
    onboot protection reboot shares smp sockets swap tablet tdf template tty unprivileged vcpus
""")
_DISK = re.compile(r"^(?:(?:ide|sata|scsi|virtio|efidisk|tpmstate|mp)\d+|rootfs)$")
_NET = re.compile(r"^net\d+$")
_MAC = re.compile(r"\b(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}\b")
_SIZE = re.compile(r"(?<=size=)(\d+)([GM])(?=,|$)")
_FLAGS = frozenset({"template", "active", "autostart", "bridge_vlan_aware", "shared", "enabled"})
_TAG_SPLIT = re.compile(r"[;, ]+")


def typed(call: Call, kind: str, key: str, value: str) -> Any:
    """The value with its JSON type. The memory of a QEMU guest is text since release 8."""
    if key == "memory" and kind == "qemu":
        return value if call.flavour.memory_is_text else int(value.removeprefix("current="))
    if key in _NUMBERS and value.isdigit():
        return int(value)
    return value


def split_tags(text: str) -> list[str]:
    """The tags of a list, whichever separators stand between them."""
    return [tag for tag in _TAG_SPLIT.split(text) if tag]


def tags_on_wire(call: Call, text: str) -> str:
    """The tags as stored, unless a test asked for another order or other separators."""
    cluster = call.cluster
    tags, separators = split_tags(text), _TAG_SPLIT.findall(text)
    if len(separators) != len(tags) - 1 or (cluster.order_seed is None and cluster.spelling_seed is None):
        return text
    if cluster.order_seed is not None:
        random.Random(f"{cluster.order_seed}/{text}").shuffle(tags)
    if cluster.spelling_seed is not None:
        other = random.Random(f"{cluster.spelling_seed}/{text}").choice([";", ",", " ", ", "])
        separators = [other] * len(separators)
    return "".join(tag + separator for tag, separator in zip(tags, [*separators, ""], strict=True))


def flipped(call: Call, row: dict[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """A row in which, where a test asked for it, numbers under ``keys`` are text or text is a number.

    Perl decides scalar by scalar; a boolean that is false may also be the empty text.
    """
    if call.cluster.spelling_seed is None:
        return row
    choose = random.Random(f"{call.cluster.spelling_seed}/{row.get('id', row.get('iface', row.get('volid')))}")
    changed = dict(row)
    for key in sorted(keys & row.keys()):
        value = row[key]
        if value is None or choose.random() < 0.5:
            continue
        if isinstance(value, str):
            changed[key] = int(value) if value.isdigit() else value
        else:
            changed[key] = "" if key in _FLAGS and not value else str(value)
    return changed


def mac_on_wire(call: Call, mac: str) -> str:
    """A MAC address in the other case, where a test asked for it."""
    return mac if call.cluster.spelling_seed is None else mac.swapcase()


def respelled(call: Call, guest: Guest, answered: dict[str, Any]) -> dict[str, Any]:
    """Equal values in other valid spellings, chosen by the cluster's spelling seed."""
    seed = call.cluster.spelling_seed
    if seed is None:
        return answered
    choose = random.Random(f"{seed}/{guest.vmid}")
    return {key: _respell(key, value, guest, choose) for key, value in answered.items()}


def _respell(key: str, value: Any, guest: Guest, choose: random.Random) -> Any:
    flip = choose.random() < 0.5
    if key == "agent" and value in ("1", "enabled=1"):
        return choose.choice(["1", "enabled=1", "1,fstrim_cloned_disks=1", "enabled=1,type=virtio"])
    if key in _NUMBERS and flip:
        return str(value) if isinstance(value, int) else (int(value) if str(value).isdigit() else value)
    if not isinstance(value, str):
        return value
    if _NET.match(key):
        lower = choose.random() < 0.5
        return _MAC.sub(lambda found: found.group().lower() if lower else found.group().upper(), value)
    if _DISK.match(key) and flip:
        smaller = {"G": "M", "M": "K"}
        text = _SIZE.sub(lambda found: f"{int(found.group(1)) * 1024}{smaller[found.group(2)]}", value)
        return text if key in ("rootfs",) or text.startswith("/") else _with_file_prefix(text, guest, choose)
    return value


def _with_file_prefix(text: str, guest: Guest, choose: random.Random) -> str:
    if guest.kind == "qemu" and not text.startswith(("none", "cdrom", "file=")) and choose.random() < 0.5:
        return "file=" + text
    return text
