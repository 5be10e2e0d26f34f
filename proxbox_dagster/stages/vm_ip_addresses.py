"""Stage 10, the mapping: addresses of guests to IP addresses on their interfaces, and the primary ones."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from proxbox_dagster.facts import UNOBSERVED, Gap
from proxbox_dagster.netbox.spec import Coverage, Desired, FieldSpec, Kind, ModelSpec, ObjectClass, Policy, Ref, Row
from proxbox_dagster.proxmox.parse.net import NetDevice
from proxbox_dagster.proxmox.parse.problem import ParseProblem
from proxbox_dagster.stages.common import owned, vm_ref
from proxbox_dagster.stages.guest_addresses import (
    Claim,
    Claims,
    Strength,
    claim,
    expects_report,
    is_running,
    judge,
    primary,
    static_addresses,
)
from proxbox_dagster.stages.guest_nics import AddressRules, Reported, nic_ref, nics
from proxbox_dagster.stages.guests import Guest, guests, unreadable
from proxbox_dagster.stages.network_specs import IP_ADDRESS, VM_INTERFACE, address_ref
from proxbox_dagster.stages.node_addresses import node_hosts
from proxbox_dagster.stages.stage import Inputs, Stage, StageContext
from proxbox_dagster.stages.virtual_machines_specs import VIRTUAL_MACHINE

_RULE = (
    "in this order: the settings' addresses.primary_preference; a card with a configured gateway; the card of the "
    "lowest number; a configured address; one with a network of its own; a global one before a unique local one; one "
    "made from the card's MAC before a temporary one; the lowest. Kept when a person chose another, untouched while "
    "the guest reports nothing"
)

VM_PRIMARY_ADDRESS = ModelSpec(
    name="vm_primary_addresses",
    path=VIRTUAL_MACHINE.path,
    model=VIRTUAL_MACHINE.model,
    identity=VIRTUAL_MACHINE.identity,
    fields=(
        *(replace(VIRTUAL_MACHINE.by_name[name], policy=Policy.NEVER) for name in (*VIRTUAL_MACHINE.identity, "tags")),
        FieldSpec("primary_ip4", "the guest's IPv4 addresses", _RULE, Policy.MANAGED, Kind.REF),
        FieldSpec("primary_ip6", "the guest's IPv6 addresses", _RULE, Policy.MANAGED, Kind.REF),
    ),
    index="virtual_machines",
    update_only=True,
    removal="ignore",
)

VM_ADDRESSES = ObjectClass(
    "vm_addresses",
    IP_ADDRESS,
    "VM addresses",
    "The addresses of guests: of the guest agent (agent/network-get-interfaces), of running containers (interfaces), "
    "else from the configuration (ipconfigN, netN ip and ip6). What runs in a guest is matched with a card by its MAC "
    "address. Interfaces and networks as in the settings' addresses.ignore_interfaces and addresses.ignore_networks "
    "are left out. An address that several guests or a node have is a reported conflict: NetBox's row stays where it "
    "is. While a guest is off or silent its addresses stay, and configured ones are made where NetBox has none. "
    "Containers on Proxmox VE 8.1 to 8.3 show one address of each family: the configured ones are taken beside it, and "
    "none is removed.",
    only=(("assigned_object_type", VM_INTERFACE),),
)
VM_PRIMARY_ADDRESSES = ObjectClass(
    "vm_primary_addresses",
    VM_PRIMARY_ADDRESS,
    "VM primary addresses",
    "Which address of each family is each virtual machine's primary one.",
)

_DNS_NAME = re.compile(r"[0-9a-z_-]+(\.[0-9a-z_-]+)*")


def build(inputs: Inputs, context: StageContext) -> list[Desired]:
    """Desired rows of stage 10.

    From ``guest_agent``, ``container_interfaces``, ``guest_configs``, ``guests`` and (for addresses that a node has)
    ``node_networks``.
    """
    rules = AddressRules(context.addresses)
    addresses = Desired(VM_ADDRESSES, notes=rules.problems)
    if not context.scope.is_full:
        addresses.hold = f"it is narrowed to {context.scope}"
    reported = Reported(inputs)
    found = Claims.empty()
    covered: set[Ref] = set()
    seen: list[Guest] = []
    for guest in guests(inputs, context):
        if unreadable(guest, addresses) or guest.is_template:
            continue  # a template never runs: what its configuration says is for its clones
        seen.append(guest)
        cards, _ = nics(guest)
        before = len(found.claims)
        claim(guest, cards, reported.interfaces(guest), rules, found, whole=reported.gap(guest) is None)
        own = found.claims[before:]
        covered |= _covered(guest, cards, own, reported, context)
        _account(guest, reported, bool(cards) and not own, addresses)
    for label, reason in found.left_out:
        addresses.skip(label, reason)
    addresses.notes += found.notes
    addresses.outside = {
        address_ref(context, host).key: f"the settings leave {host} out ({setting})"
        for host, setting in found.ignored.items()
    }
    granted = _grant(found.claims, inputs, context, addresses)
    addresses.coverage = Coverage(
        parents=frozenset(covered), reason="only cards of guests whose addresses were observed are covered"
    )
    return [addresses, _primaries(seen, granted, reported, rules, context)]


def _covered(
    guest: Guest, cards: list[NetDevice], own: list[Claim], reported: Reported, context: StageContext
) -> set[Ref]:
    """The cards whose addresses are all known: what is not among them is gone.

    A guest that reports no address at all is taken to be starting up: that proves nothing.
    """
    if reported.interfaces(guest) is not None:
        up = any(item.strength is Strength.REPORTED for item in own)
        if not up or reported.gap(guest) is not None:
            return set()  # or something of the answer could not be read
        known = [card for card in cards if card.mac is not None or guest.kind == "lxc"]
    elif is_running(guest) and not expects_report(guest):
        known = [card for card in cards if _is_static(guest, card)]
    else:
        known = []
    return {nic_ref(context, guest, card.key) for card in known}


def _is_static(guest: Guest, card: NetDevice) -> bool:
    static = static_addresses(guest, card)
    return not isinstance(static, ParseProblem) and bool(static.interfaces)


def _account(guest: Guest, reported: Reported, nothing_known: bool, desired: Desired) -> None:
    """Put down what could not be read of a guest, so that nobody wonders where its addresses are."""
    gap: Gap | None = reported.gap(guest)
    if gap is None:
        return
    if gap.is_error and reported.interfaces(guest) is None:
        desired.fail(guest.label, f"its addresses could not be read: {gap.reason}")
    elif gap.is_error:
        desired.skip(guest.label, f"not all of its addresses could be read: {gap.reason}")
    elif nothing_known:
        desired.skip(guest.label, f"no address is known: {gap.reason}")


def _grant(claims: list[Claim], inputs: Inputs, context: StageContext, desired: Desired) -> list[Claim]:
    granted, refused = judge(claims, node_hosts(inputs["node_networks"]))
    for item in granted:
        desired.rows.append(_address(item, context))
    for verdict in refused:
        key = address_ref(context, verdict.claim.host).key if verdict.contested else None
        (desired.fail if verdict.failed else desired.skip)(verdict.claim.label, verdict.reason, key)
    return granted


def _address(item: Claim, context: StageContext) -> Row:
    values = {
        "host": item.host,
        "address": str(item.interface),
        "status": "active",
        "dns_name": dns_name(item.guest),
        "assigned_object_type": VM_INTERFACE,
        "assigned_object_id": nic_ref(context, item.guest, item.card.key),
    }
    link = context.link(item.guest.key)
    return Row(owned(context, values), item.label, link, only_new=item.strength is Strength.PRESUMED)


def dns_name(guest: Guest) -> Any:
    """A container's ``hostname.searchdomain``; ``UNOBSERVED`` where the configuration does not tell both."""
    if guest.kind != "lxc" or guest.config is None:
        return UNOBSERVED
    host = str(guest.config.get("hostname") or "").strip().rstrip(".").lower()
    domains = str(guest.config.get("searchdomain") or "").replace(",", " ").split()
    name = host if "." in host or not domains else f"{host}.{domains[0].strip('.').lower()}"
    return name if "." in name and len(name) <= 255 and _DNS_NAME.fullmatch(name) else UNOBSERVED


def _primaries(
    seen: list[Guest], granted: list[Claim], reported: Reported, rules: AddressRules, context: StageContext
) -> Desired:
    desired = Desired(VM_PRIMARY_ADDRESSES, coverage=Coverage(reason="goes with its virtual machine"))
    by_guest: Mapping[str, list[Claim]] = _by_guest(granted)
    for guest in seen:
        values: dict[str, Any] = {}
        for family in (4, 6):
            best = primary(by_guest.get(guest.key, ()), family, rules)
            if best is not None:
                values[f"primary_ip{family}"] = address_ref(context, best.host)
        if not values:
            continue
        base = dict(zip(VIRTUAL_MACHINE.identity, vm_ref(context, guest.kind, guest.vmid).key, strict=True))
        observed = reported.interfaces(guest) is not None or (is_running(guest) and not expects_report(guest))
        row = Row(base, guest.label, context.link(guest.key))
        (row.values if observed else row.initial).update(values)
        desired.rows.append(row)
    return desired


def _by_guest(granted: list[Claim]) -> dict[str, list[Claim]]:
    by_guest: dict[str, list[Claim]] = {}
    for item in granted:
        by_guest.setdefault(item.guest.key, []).append(item)
    return by_guest


STAGE = Stage(
    number=10,
    name="vm_ip_addresses",
    group="networking",
    title="VM IP addresses",
    description="The addresses of the guests on their interfaces, and each machine's primary ones.",
    sources=("guest_agent", "container_interfaces", "guest_configs", "guests", "node_networks"),
    object_classes=(VM_ADDRESSES, VM_PRIMARY_ADDRESSES),
    upstream=("vm_interfaces",),
    build=build,
)
