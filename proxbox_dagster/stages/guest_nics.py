"""The network cards of guests: what the configuration says of them, and what runs inside the guest on each."""

from __future__ import annotations

import fnmatch
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from proxbox_dagster.facts import Gap
from proxbox_dagster.netbox.spec import Ref
from proxbox_dagster.proxmox.parse.net import NetDevice, net_devices
from proxbox_dagster.proxmox.parse.problem import ParseProblem
from proxbox_dagster.settings import AddressConfig
from proxbox_dagster.stages.common import vm_ref
from proxbox_dagster.stages.guests import Guest
from proxbox_dagster.stages.network_specs import vm_interface_ref
from proxbox_dagster.stages.stage import Inputs, StageContext

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def nics(guest: Guest) -> tuple[list[NetDevice], list[tuple[str, ParseProblem]]]:
    """The cards of a guest by number, and the ``netN`` lines that cannot be read."""
    cards: list[NetDevice] = []
    problems: list[tuple[str, ParseProblem]] = []
    for key, card in net_devices(guest.config or {}, guest.kind).items():
        if isinstance(card, ParseProblem):
            problems.append((key, card))
        else:
            cards.append(card)
    return cards, problems


def nic_ref(context: StageContext, guest: Guest, key: str) -> Ref:
    """The NetBox interface of a guest's ``netN``."""
    return vm_interface_ref(vm_ref(context, guest.kind, guest.vmid), key)


def nic_label(guest: Guest, key: str) -> str:
    """What people know a card by."""
    return f"{guest.label} {key}"


class Reported:
    """What runs inside the guests: the interfaces that agents and container hosts reported in this run."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._interfaces: dict[tuple[str, int], list[dict[str, Any]]] = {}
        for kind, source in _SOURCES.items():
            if source in inputs:
                for row in inputs[source].rows:
                    self._interfaces[kind, row["vmid"]] = row["interfaces"]

    def interfaces(self, guest: Guest) -> list[dict[str, Any]] | None:
        """The guest's interfaces ``{name, mac, addresses}``; ``None`` when they were not observed."""
        return self._interfaces.get((guest.kind, guest.vmid))

    def gap(self, guest: Guest) -> Gap | None:
        """Why the interfaces were not observed, or not all of them."""
        read = self._inputs[_SOURCES[guest.kind]]
        gap = read.gap("guest", guest.key) or read.gap("node", guest.node)
        # A hole somewhere in the read takes nothing from an answer that is there.
        return gap if gap is None or gap.level == "guest" or self.interfaces(guest) is None else None


_SOURCES = {"qemu": "guest_agent", "lxc": "container_interfaces"}


def interfaces_of(card: NetDevice, interfaces: Iterable[Mapping[str, Any]], kind: str) -> list[Mapping[str, Any]]:
    """The interfaces inside the guest that use this card: those with its MAC, for containers else by name."""
    found = [item for item in interfaces if card.mac is not None and item["mac"] == card.mac]
    if not found and kind == "lxc":
        found = [item for item in interfaces if item["name"] == card.name]
    return found


@dataclass(frozen=True)
class AddressRules:
    """The settings' ``addresses`` in the form that the mapping asks."""

    config: AddressConfig

    def ignores_interface(self, name: str) -> bool:
        """True for an interface inside the guest that is container noise."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.config.ignore_interfaces)

    def ignores(self, address: Address) -> bool:
        """True for an address that is nobody's: unspecified, multicast, or in a network that the settings leave out."""
        return address.is_unspecified or address.is_multicast or _position(address, self._ignored) is not None

    def preference(self, address: Address) -> int:
        """The place of the address in ``primary_preference``; behind all of them when it is in none."""
        place = _position(address, self._preferred)
        return len(self._preferred) if place is None else place

    @property
    def problems(self) -> list[str]:
        """What stands in the settings as a network and is none."""
        named = {
            "ignore_networks": self.config.ignore_networks,
            "primary_preference": self.config.primary_preference,
        }
        return [
            f"settings, addresses.{name}: {text!r} is no network such as 192.0.2.0/24 and has no effect"
            for name, texts in named.items()
            for text in texts
            if _network(text) is None
        ]

    @cached_property
    def _ignored(self) -> tuple[Network, ...]:
        return _networks(self.config.ignore_networks)

    @cached_property
    def _preferred(self) -> tuple[Network, ...]:
        return _networks(self.config.primary_preference)


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _networks(texts: Iterable[str]) -> tuple[Network, ...]:
    return tuple(network for text in texts if (network := _network(text)) is not None)


def _position(address: Address, networks: Sequence[Network]) -> int | None:
    return next((place for place, network in enumerate(networks) if address in network), None)


def plain_name(interfaces: Iterable[Mapping[str, Any]], rules: AddressRules) -> str | None:
    """Of the interfaces on one card, the name of the card itself rather than of what is stacked on it.

    A bond, bridge or VLAN has the MAC of the card under it: names of those come last, then the shortest name wins.
    """
    names = [item["name"] for item in interfaces if not rules.ignores_interface(item["name"])]
    return min(names, key=lambda name: (_stacked(name), len(name), name), default=None)


def _stacked(name: str) -> bool:
    kinds = ("bond", "team", "br", "vlan", "vmbr", "macvlan", "macvtap", "ipvlan", "vrf", "dummy")
    return any(mark in name for mark in ".:@") or name.lower().startswith(kinds)
