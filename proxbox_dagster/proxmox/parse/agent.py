"""Network interfaces as the QEMU guest agent and the container host report them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .net import normalize_mac
from .problem import ParseProblem
from .values import properties, to_bool, to_int

_NO_MAC = "00:00:00:00:00:00"


@dataclass(frozen=True, slots=True)
class GuestInterfaces:
    """What a guest reports, in a form that does not depend on the order of the answer.

    ``interfaces`` are dictionaries ``{name, mac, addresses}``, sorted by name: ``mac`` is ``AA:BB:..`` or ``None``,
    ``addresses`` are ``{address, prefix, family}``: the address without zone, the prefix length or ``None`` (Windows
    reports -1), the family 4 or 6. ``problems`` are entries that could not be read and are left out. ``whole`` is
    false for an answer that has room for one address of each family only: there may be others.
    """

    interfaces: tuple[dict[str, Any], ...]
    problems: tuple[ParseProblem, ...] = ()
    whole: bool = True


@dataclass(frozen=True, slots=True)
class AgentError:
    """The guest agent's own refusal, sent with HTTP status 200."""

    error_class: str
    description: str


def agent_enabled(config: Mapping[str, Any]) -> bool:
    """Whether a QEMU guest's configuration enables the agent: ``agent`` is ``1``, ``enabled=1``, ``1,type=virtio``."""
    fields = properties(config.get("agent"), default_key="enabled")
    return not isinstance(fields, ParseProblem) and to_bool(fields.get("enabled")) is True


def parse_agent_interfaces(data: Any) -> GuestInterfaces | AgentError | ParseProblem:
    """The answer of ``agent/network-get-interfaces``: ``{"result": [...]}``, the bare list, or an error in either."""
    result = data.get("result", data) if isinstance(data, Mapping) else data
    if isinstance(result, Mapping) and isinstance(error := result.get("error"), Mapping):
        return AgentError(str(error.get("class") or "GenericError"), str(error.get("desc") or "no description"))
    if not isinstance(result, list):
        return ParseProblem.of(data, "no list of interfaces")
    return _interfaces(result)


def parse_container_interfaces(data: Any) -> GuestInterfaces | ParseProblem:
    """The answer of ``lxc/{vmid}/interfaces``, in the shape of Proxmox VE 8.1 (``inet``) or of 8.4 (``ip-addresses``).

    The older shape holds one address of each family, the last one.
    """
    if not isinstance(data, list):
        return ParseProblem.of(data, "no list of interfaces")
    return _interfaces(data)


def _interfaces(entries: Iterable[Any]) -> GuestInterfaces:
    found: list[dict[str, Any]] = []
    problems: list[ParseProblem] = []
    whole = True
    for entry in entries:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str) or not entry["name"]:
            problems.append(ParseProblem.of(entry, "no interface with a name"))
            continue
        mac = normalize_mac(entry.get("hardware-address") or entry.get("hwaddr"))
        addresses: dict[tuple[int, str], dict[str, Any]] = {}
        whole = whole and (_listed(entry) is not None or not (entry.get("inet") or entry.get("inet6")))
        for text, prefix in _addresses(entry):
            address = _address(text, prefix)
            if isinstance(address, ParseProblem):
                problems.append(address)
            else:
                addresses[address["family"], address["address"]] = address
        found.append(
            {
                "name": entry["name"],
                "mac": None if mac == _NO_MAC else mac,
                "addresses": [addresses[key] for key in sorted(addresses)],
            }
        )
    ordered = sorted(found, key=lambda item: (item["name"], item["mac"] or ""))
    return GuestInterfaces(tuple(ordered), tuple(problems), whole)


def _listed(entry: Mapping[str, Any]) -> list[Any] | None:
    """The list of all addresses of an interface, in answers that have one."""
    listed = entry.get("ip-addresses")
    return listed if isinstance(listed, list) else None


def _addresses(entry: Mapping[str, Any]) -> Iterable[tuple[Any, Any]]:
    """Address and prefix length of each address of an interface."""
    listed = _listed(entry)
    if listed is not None:
        for item in listed:
            if isinstance(item, Mapping):
                yield item.get("ip-address"), item.get("prefix")
            else:
                yield item, None
        return
    for family in ("inet", "inet6"):
        if entry.get(family):
            text, _, prefix = str(entry[family]).partition("/")
            yield text, prefix


def _address(text: Any, prefix: Any) -> dict[str, Any] | ParseProblem:
    try:
        # ip_address() takes integers as addresses too.
        address = ipaddress.ip_address(text.strip().split("%")[0]) if isinstance(text, str) else None
    except ValueError:
        address = None
    if address is None:
        return ParseProblem.of(text, "no IP address")
    length = to_int(prefix)
    known = isinstance(length, int) and 0 <= length <= address.max_prefixlen
    return {"address": str(address), "prefix": length if known else None, "family": address.version}
