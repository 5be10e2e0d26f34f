"""Which addresses guests have, how well that is known, and who gets one that several claim. Pure rules.

1. What runs inside the guest tells: the interfaces (of the QEMU guest agent, of the running container) that have the
   MAC address of a card; of containers else by name. Left out are interfaces and networks as in the settings.
2. A card for which nothing was reported has the static addresses of its configuration (``ipconfigN`` of cloud-init,
   ``ip`` and ``ip6`` of containers); so has a card of which not all was reported, beside what was.
3. While something that should report does not (guest stopped, agent silent), the configuration only presumes: such an
   address is made when NetBox has none, and never changes one that is there.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from proxbox_dagster.proxmox.parse.agent import agent_enabled
from proxbox_dagster.proxmox.parse.ipconfig import ip_configs
from proxbox_dagster.proxmox.parse.net import NetDevice
from proxbox_dagster.proxmox.parse.problem import ParseProblem
from proxbox_dagster.stages.guest_nics import Address, AddressRules, interfaces_of, nic_label
from proxbox_dagster.stages.guests import Guest
from proxbox_dagster.stages.network_specs import SHARED_REMEDY

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


class Strength(IntEnum):
    """How well it is known that a guest has an address."""

    PRESUMED = 0  # configured, but what runs in the guest was not observed
    CONFIGURED = 1  # configured, and nothing in the guest says more
    REPORTED = 2  # reported by what runs in the guest


@dataclass(frozen=True)
class Claim:
    """One address on one card of one guest. ``gateway``: the configuration has a gateway for it."""

    guest: Guest
    card: NetDevice
    interface: Interface
    strength: Strength
    configured: bool
    gateway: bool

    @property
    def address(self) -> Address:
        return self.interface.ip

    @property
    def host(self) -> str:
        """The address without prefix length, in its shortest form."""
        return str(self.interface.ip)

    @property
    def label(self) -> str:
        return f"{self.host} of {nic_label(self.guest, self.card.key)}"


def expects_report(guest: Guest) -> bool:
    """True where something in the guest would report its addresses while it runs."""
    return guest.kind == "lxc" or agent_enabled(guest.config or {})


def is_running(guest: Guest) -> bool:
    return guest.row.get("status") == "running"


_BY_NAME = "addresses.ignore_interfaces"

# -- what the configuration says --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Static:
    """The static addresses that a card is configured with; ``gateways`` are the families with a gateway."""

    interfaces: tuple[Interface, ...] = ()
    gateways: frozenset[int] = frozenset()


def static_addresses(guest: Guest, card: NetDevice) -> Static | ParseProblem:
    """The card's addresses from ``ipconfigN`` (QEMU) or ``netN`` (containers); dhcp, auto and manual give none."""
    source: Any = card
    if guest.kind == "qemu":
        source = ip_configs(guest.config or {}).get(card.key.replace("net", "ipconfig", 1))
        if source is None:
            return Static()
        if isinstance(source, ParseProblem):
            return source
    found = []
    for text in (source.ip, source.ip6):
        if text and text not in ("dhcp", "auto", "manual"):
            found.append(with_prefix(ipaddress.ip_interface(text).ip, _length(text)))
    gateways = {family for family, text in ((4, source.gw), (6, source.gw6)) if text}
    return Static(tuple(found), frozenset(gateways))


def _length(text: str) -> int | None:
    return int(text.partition("/")[2]) if "/" in text else None


def with_prefix(address: Address, length: int | None) -> Interface:
    """The address with its prefix length; a host's own (32 or 128) where none is known, or where it is 0."""
    return ipaddress.ip_interface(f"{address}/{length or address.max_prefixlen}")


# -- what is claimed --------------------------------------------------------------------------------------------


@dataclass
class Claims:
    """All claims of one endpoint's guests, with what had to be left out and why."""

    claims: list[Claim]
    left_out: list[tuple[str, str]]
    notes: list[str]
    ignored: dict[str, str]
    """Addresses that the settings leave out, each with the key that does."""

    @classmethod
    def empty(cls) -> Claims:
        return cls([], [], [], {})


def claim(
    guest: Guest,
    cards: Iterable[NetDevice],
    interfaces: list[dict[str, Any]] | None,
    rules: AddressRules,
    into: Claims,
    *,
    whole: bool = True,
) -> None:
    """Add a guest's claims. ``interfaces`` are what runs in it; ``None`` when that was not observed.

    ``whole`` is false when there may be addresses that were not reported.
    """
    best: dict[str, Claim] = {}
    for card in cards:
        for found in _of_card(guest, card, interfaces, rules, into, whole):
            if rules.ignores(found.address):
                into.ignored[found.host] = "addresses.ignore_networks"
                continue
            reason = _refused_by_netbox(found.interface)
            if reason:
                into.left_out.append((found.label, reason))
                continue
            # Two cards that seem to have one address (one MAC twice, a bond): the better proof, then the first card.
            other = best.get(found.host)
            if other is None or found.strength > other.strength:
                best[found.host] = found
    into.claims += best.values()


def _of_card(
    guest: Guest,
    card: NetDevice,
    interfaces: list[dict[str, Any]] | None,
    rules: AddressRules,
    into: Claims,
    whole: bool,
) -> Iterator[Claim]:
    static = static_addresses(guest, card)
    if isinstance(static, ParseProblem):
        into.left_out.append((nic_label(guest, card.key), f"its configured address cannot be read: {static}"))
        static = Static()
    reported = list(_reported(guest, card, interfaces or (), static, rules, into))
    yield from reported
    if reported and whole:
        return
    observed = interfaces is not None or (is_running(guest) and not expects_report(guest))
    strength = Strength.CONFIGURED if observed else Strength.PRESUMED
    for item in static.interfaces:
        yield Claim(guest, card, item, strength, configured=True, gateway=item.version in static.gateways)


def _reported(
    guest: Guest,
    card: NetDevice,
    interfaces: Iterable[Mapping[str, Any]],
    static: Static,
    rules: AddressRules,
    into: Claims,
) -> Iterator[Claim]:
    configured = {item.ip: item for item in static.interfaces}
    for inside in interfaces_of(card, interfaces, guest.kind):
        if rules.ignores_interface(inside["name"]):
            into.ignored |= {str(ipaddress.ip_address(entry["address"])): _BY_NAME for entry in inside["addresses"]}
            continue
        for entry in inside["addresses"]:
            address = ipaddress.ip_address(entry["address"])
            if rules.ignores(address):
                into.ignored[str(address)] = "addresses.ignore_networks"
                continue
            item = with_prefix(address, entry["prefix"])
            if not entry["prefix"] and address in configured:
                item = configured[address]
            elif not entry["prefix"]:
                into.notes.append(f"{nic_label(guest, card.key)} reports {address} without a prefix length: {item}")
            known = address in configured
            gateway = address.version in static.gateways
            yield Claim(guest, card, item, Strength.REPORTED, configured=known, gateway=gateway)


def _refused_by_netbox(item: Interface) -> str | None:
    """Why NetBox would not take the address on an interface."""
    network = item.network
    if network.prefixlen >= network.max_prefixlen - 1:
        return None
    if item.ip == network.network_address:
        return f"{item} is the address of the network itself, which NetBox does not take on an interface"
    if item.version == 4 and item.ip == network.broadcast_address:
        return f"{item} is the broadcast address of its network, which NetBox does not take on an interface"
    return None


# -- who gets it ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """A claim that is not granted. ``contested``: nobody's claim to the address is."""

    claim: Claim
    reason: str
    failed: bool
    contested: bool


def judge(claims: Iterable[Claim], nodes: Mapping[str, str]) -> tuple[list[Claim], list[Verdict]]:
    """The claims that are granted, and the others with the reason.

    The best proof wins. Several claims of the best proof are a conflict: none of them is granted, and NetBox's row
    stays where it is, so that it does not move to and fro from run to run. ``nodes`` are the addresses of nodes with
    what has them; they always win.
    """
    by_host: dict[str, list[Claim]] = {}
    for item in claims:
        by_host.setdefault(item.host, []).append(item)
    granted: list[Claim] = []
    refused: list[Verdict] = []
    for host, items in by_host.items():
        top = max(item.strength for item in items)
        best = [item for item in items if item.strength is top]
        if host in nodes:
            reason = (
                f"{host} is the address of {nodes[host]}; two machines with one address cannot be both in NetBox; "
                f"{SHARED_REMEDY}"
            )
            refused += [Verdict(item, reason, item.strength > Strength.PRESUMED, True) for item in items]
        elif len(best) == 1:
            granted += best
            reason = f"{host} is configured here, but {best[0].guest.label} uses it"
            refused += [Verdict(item, reason, False, False) for item in items if item is not best[0]]
        else:
            refused += _conflict(host, items, best)
    return granted, refused


def _conflict(host: str, items: list[Claim], best: list[Claim]) -> Iterator[Verdict]:
    for item in items:
        others = ", ".join(sorted(nic_label(other.guest, other.card.key) for other in best if other is not item))
        verb = "reports" if best[0].strength is Strength.REPORTED else "is configured with"
        reason = (
            f"address conflict: {others} {verb} {host} too; nothing is written until only one of them has it "
            f"(NetBox keeps what it has); {SHARED_REMEDY}"
        )
        yield Verdict(item, reason, item in best and item.strength > Strength.PRESUMED, True)


# -- the primary one --------------------------------------------------------------------------------------------


def primary(claims: Iterable[Claim], family: int, rules: AddressRules) -> Claim | None:
    """The guest's primary address of a family, the same for every order of the claims.

    In this order: the settings' ``primary_preference``; a card with a configured gateway; the card of the lowest
    number; an address that is configured; one with a network of its own rather than a single host's (VIPs); a global
    one before a unique local one (IPv6); one made from the card's MAC before a temporary one; the lowest.
    """
    own = [item for item in claims if item.address.version == family]
    return min(own, key=lambda item: _rank(item, rules), default=None)


def _rank(item: Claim, rules: AddressRules) -> tuple[int, ...]:
    address = item.address
    return (
        rules.preference(address),
        not item.gateway,
        int(item.card.key.removeprefix("net")),
        not item.configured,
        item.interface.network.prefixlen == address.max_prefixlen,
        address.version == 6 and address.is_private,
        address.version == 6 and not _is_eui64(address, item.card.mac),
        int(address),
    )


def _is_eui64(address: Address, mac: str | None) -> bool:
    """True for a SLAAC address that was made from the MAC (RFC 4291, appendix A)."""
    if mac is None:
        return False
    parts = bytes.fromhex(mac.replace(":", ""))
    wanted = bytes([parts[0] ^ 0x02, parts[1], parts[2], 0xFF, 0xFE, *parts[3:]])
    return address.packed[8:] == wanted
