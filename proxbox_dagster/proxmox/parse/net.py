"""The network cards ``netN`` of QEMU guests and containers."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from .problem import ParseProblem
from .values import properties, to_bool, to_int

MODELS: Final = frozenset(
    [
        "virtio",
        "e1000",
        "e1000e",
        "e1000-82540em",
        "e1000-82544gc",
        "e1000-82545em",
        "i82551",
        "i82557b",
        "i82559er",
        "ne2k_isa",
        "ne2k_pci",
        "pcnet",
        "rtl8139",
        "vmxnet3",
    ]
)
_KNOWN: Final = frozenset(
    [
        "model",
        "macaddr",
        "bridge",
        "firewall",
        "link_down",
        "mtu",
        "queues",
        "rate",
        "tag",
        "trunks",
        "name",
        "hwaddr",
        "ip",
        "gw",
        "ip6",
        "gw6",
        "type",
        "script.up",
        "host-managed",
    ]
)
_NET_KEY = re.compile(r"net([0-9]{1,3})", re.ASCII)
_MAC = re.compile(r"([0-9A-Fa-f]{2})[:-]?" * 5 + r"([0-9A-Fa-f]{2})", re.ASCII)


@dataclass(frozen=True, slots=True)
class NetDevice:
    """One network card.

    ``name`` is the container's own name of it (``eth0``), for QEMU the key. ``model`` is QEMU's model or ``veth``.
    ``mac`` is ``AA:BB:CC:DD:EE:FF``. ``trunks`` are ranges of VLAN ids, both ends included. ``mtu`` 1 means the
    bridge's. ``ip`` and ``ip6`` (containers) are ``dhcp``, ``manual``, ``auto`` or an address with its prefix length.
    """

    key: str
    name: str
    model: str | None = None
    mac: str | None = None
    bridge: str | None = None
    tag: int | None = None
    trunks: tuple[tuple[int, int], ...] = ()
    link_down: bool = False
    mtu: int | None = None
    ip: str | None = None
    gw: str | None = None
    ip6: str | None = None
    gw6: str | None = None

    @property
    def inherits_mtu(self) -> bool:
        """True when the MTU is that of the bridge."""
        return self.mtu == 1


def normalize_mac(value: Any) -> str | None:
    """A MAC address as ``AA:BB:CC:DD:EE:FF``; ``None`` for anything else."""
    match = _MAC.fullmatch(value.strip()) if isinstance(value, str) else None
    return ":".join(match.groups()).upper() if match else None


def net_devices(config: Mapping[str, Any], kind: str) -> dict[str, NetDevice | ParseProblem]:
    """The cards of a guest's configuration by key, in the order of their numbers. ``kind`` is ``qemu`` or ``lxc``."""
    keys = sorted((int(match[1]), key) for key in config if (match := _NET_KEY.fullmatch(str(key))))
    return {key: parse_net(key, config[key], kind) for _, key in keys}


def parse_net(key: str, value: Any, kind: str) -> NetDevice | ParseProblem:
    """One ``netN`` line of a guest of ``kind`` ``qemu`` or ``lxc``."""
    fields = properties(value, default_key="model" if kind == "qemu" else None)
    if isinstance(fields, ParseProblem):
        return fields
    name, model, mac_text = _lxc_head(fields) if kind == "lxc" else _qemu_head(key, fields)
    mac = normalize_mac(mac_text)
    if mac_text and mac is None:
        return ParseProblem.of(value, f"{mac_text!r} is no MAC address")
    if kind == "lxc" and not name:
        return ParseProblem.of(value, "the card has no name")
    parsed: dict[str, Any] = {
        "tag": to_int(fields.get("tag")),
        "trunks": parse_trunks(fields.get("trunks")),
        "link_down": to_bool(fields.get("link_down")),
        "mtu": to_int(fields.get("mtu")),
        **{family: parse_address(fields.get(family)) for family in ("ip", "gw", "ip6", "gw6")},
    }
    for field, item in parsed.items():
        if isinstance(item, ParseProblem):
            return ParseProblem.of(value, f"{field}: {item.reason}")
    parsed["link_down"] = bool(parsed["link_down"])
    return NetDevice(key=key, name=name, model=model, mac=mac, bridge=fields.get("bridge") or None, **parsed)


def _qemu_head(key: str, fields: Mapping[str, str]) -> tuple[str, str | None, str | None]:
    """Name, model and MAC: ``virtio=AA:..``, ``virtio,macaddr=AA:..`` or ``model=virtio,macaddr=AA:..``.

    A model that this version of Proxmox does not know is taken from its MAC.
    """
    for field, item in fields.items():
        if field in MODELS or (field not in _KNOWN and normalize_mac(item)):
            return key, field, item or fields.get("macaddr")
    return key, fields.get("model") or None, fields.get("macaddr")


def _lxc_head(fields: Mapping[str, str]) -> tuple[str, str | None, str | None]:
    return fields.get("name", ""), fields.get("type") or "veth", fields.get("hwaddr")


def parse_trunks(value: str | None) -> tuple[tuple[int, int], ...] | ParseProblem:
    """``10;20;30-40`` as ``((10, 10), (20, 20), (30, 40))``, sorted."""
    ranges = []
    for part in (part.strip() for part in (value or "").split(";")):
        if not part:
            continue
        ends = [to_int(end) for end in part.split("-")]
        numbers = [end for end in ends if isinstance(end, int) and 0 <= end <= 4095]
        if len(numbers) != len(ends) or len(ends) > 2 or numbers[0] > numbers[-1]:
            return ParseProblem.of(value, f"{part!r} is no VLAN id or range")
        ranges.append((numbers[0], numbers[-1]))
    return tuple(sorted(set(ranges)))


def parse_address(value: str | None) -> str | ParseProblem | None:
    """``dhcp``, ``manual``, ``auto``, or an address in its shortest form, with its prefix length when it has one."""
    text = (value or "").strip()
    if not text or text.lower() in ("dhcp", "manual", "auto"):
        return text.lower() or None
    try:
        return str(ipaddress.ip_interface(text)) if "/" in text else str(ipaddress.ip_address(text))
    except ValueError:
        return ParseProblem.of(value, "no IP address")
