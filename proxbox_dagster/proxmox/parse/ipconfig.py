"""Cloud-init's ``ipconfigN``: the addresses that a QEMU guest is given for its card ``netN``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .net import parse_address
from .problem import ParseProblem
from .values import properties

_KEY = re.compile(r"ipconfig([0-9]{1,3})", re.ASCII)


@dataclass(frozen=True, slots=True)
class IpConfig:
    """Addresses for the card ``net``. ``ip`` and ``ip6`` are ``dhcp``, ``auto`` or an address with prefix length."""

    key: str
    net: str
    ip: str | None = None
    gw: str | None = None
    ip6: str | None = None
    gw6: str | None = None


def ip_configs(config: Mapping[str, Any]) -> dict[str, IpConfig | ParseProblem]:
    """All ``ipconfigN`` of a configuration by key, in the order of their numbers."""
    keys = sorted((int(match[1]), key) for key in config if (match := _KEY.fullmatch(str(key))))
    return {key: parse_ipconfig(key, config[key]) for _, key in keys}


def parse_ipconfig(key: str, value: Any) -> IpConfig | ParseProblem:
    """One line ``ip=10.0.0.5/24,gw=10.0.0.1,ip6=auto``."""
    fields = properties(value)
    if isinstance(fields, ParseProblem):
        return fields
    parsed: dict[str, Any] = {}
    for field in ("ip", "gw", "ip6", "gw6"):
        item = parse_address(fields.get(field))
        if isinstance(item, ParseProblem):
            return ParseProblem.of(value, f"{field}: {item.reason}")
        parsed[field] = item
    return IpConfig(key=key, net=key.replace("ipconfig", "net", 1), **parsed)
