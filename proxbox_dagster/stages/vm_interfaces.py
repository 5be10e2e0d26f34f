"""Stage 9, the mapping: network cards of guests to interfaces of virtual machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from proxbox_dagster.netbox.spec import Coverage, Desired, Ref, Row
from proxbox_dagster.proxmox.parse.net import NetDevice
from proxbox_dagster.stages import vm_interfaces_specs as specs
from proxbox_dagster.stages.common import SHARED, device_ref, owned, site_under, vm_ref
from proxbox_dagster.stages.guest_nics import (
    AddressRules,
    Reported,
    interfaces_of,
    nic_label,
    nic_ref,
    nics,
    plain_name,
)
from proxbox_dagster.stages.guests import Guest, guest_coverage, guests, unreadable
from proxbox_dagster.stages.network_specs import VM_INTERFACE, interface_ref, mac_ref
from proxbox_dagster.stages.ownership import custom_field_row
from proxbox_dagster.stages.stage import Inputs, Stage, StageContext
from proxbox_dagster.stages.vlans import LAST, Dot1q, desired_vlans, dot1q, ids_of, spelled

_WITH_INTERFACE = Coverage(reason="goes with its interface")


@dataclass(frozen=True)
class _Card:
    """One network card that NetBox should have."""

    guest: Guest
    device: NetDevice
    vlans: Dot1q
    ref: Ref
    site: Ref

    @property
    def label(self) -> str:
        return nic_label(self.guest, self.device.key)


def build(inputs: Inputs, context: StageContext) -> list[Desired]:
    """Desired rows of stage 9, in the order in which they are written.

    From ``guests``, ``guest_configs``, ``guest_agent``, ``cluster_status`` and ``node_networks``.
    """
    found = list(guests(inputs, context))
    interfaces = Desired(specs.VM_INTERFACES, coverage=guest_coverage(context, found))
    cards = [card for guest in found for card in _cards(guest, inputs, context, interfaces)]
    names = _names(inputs, context, cards)
    for card in cards:
        interfaces.rows.append(_interface(card, context, names.get(card.ref)))
    made = [
        _custom_fields(),
        desired_vlans(specs.VM_VLANS, ((card.site, card.vlans) for card in cards)),
        interfaces,
        _mac_addresses(cards, context),
        _primary_macs(cards, context),
    ]
    return [*made, _sync_states(inputs, cards, context)] if context.plugin else made


def _cards(guest: Guest, inputs: Inputs, context: StageContext, desired: Desired) -> list[_Card]:
    """The cards of a guest; what cannot be read is put down in ``desired`` and its interface stays as it is."""
    if unreadable(guest, desired):
        return []
    devices, problems = nics(guest)
    for key, problem in problems:
        ref = nic_ref(context, guest, key)
        desired.skip(nic_label(guest, key), f"{key} cannot be read: {problem}", ref.key)
    cards = []
    above = vm_ref(context, guest.kind, guest.vmid), device_ref(context, guest.node)
    site = site_under(context, inputs["cluster_status"], *above)
    for device in devices:
        ref = nic_ref(context, guest, device.key)
        if device.tag is not None and not 0 <= device.tag <= LAST:
            reason = f"{device.key}: tag={device.tag} is no VLAN id (1 to {LAST}); correct it in Proxmox"
            desired.skip(nic_label(guest, device.key), reason, ref.key)
            continue
        # A card with tag and trunks gets the tag's frames untagged beside the tagged ones of its trunks.
        cards.append(_Card(guest, device, dot1q(device.tag or None, ids_of(device.trunks)), ref, site))
    return cards


def _names(inputs: Inputs, context: StageContext, cards: list[_Card]) -> dict[Ref, str | None]:
    """The name of each interface; ``None`` where the guest agent has it and was not observed.

    Two cards with one name inside the guest (one MAC address) would clash: the later one keeps Proxmox's name.
    """
    names: dict[Ref, str | None] = {card.ref: card.device.name for card in cards}
    if context.addresses.interface_names != "agent":
        return names
    reported, rules = Reported(inputs), AddressRules(context.addresses)
    taken: set[tuple[str, str]] = set()
    for card in cards:
        if card.guest.kind != "qemu":
            continue
        interfaces = reported.interfaces(card.guest)
        if interfaces is None:
            names[card.ref] = None
            continue
        name = plain_name(interfaces_of(card.device, interfaces, card.guest.kind), rules)
        if name is not None and (card.guest.key, name) not in taken:
            taken.add((card.guest.key, name))
            names[card.ref] = name
    return names


def _interface(card: _Card, context: StageContext, name: str | None) -> Row:
    device = card.device
    values = {
        "virtual_machine": vm_ref(context, card.guest.kind, card.guest.vmid),
        specs.NIC_FIELD: device.key,
        "enabled": not device.link_down,
        "mtu": device.mtu if device.mtu and not device.inherits_mtu else None,
        "description": _description(card),
        **card.vlans.fields(card.site),
    }
    row = Row(owned(context, values), card.label, context.link(card.guest.key))
    if name is None:
        row.initial["name"] = device.name
    else:
        row.values["name"] = name
    return row


def _description(card: _Card) -> str:
    device = card.device
    words = device.model or "network card"
    if device.bridge:
        words += f" on {device.bridge}"
    if card.vlans.mode == "tagged-all":
        words += f", VLANs {spelled(device.trunks)}"
    return words


def _custom_fields() -> Desired:
    row = custom_field_row(
        specs.NIC_FIELD.removeprefix("cf."), "text", "Network card", "The card's key in Proxmox: net0", (VM_INTERFACE,)
    )
    return Desired(specs.VM_INTERFACE_CUSTOM_FIELDS, [row], coverage=SHARED)


def _mac_addresses(cards: list[_Card], context: StageContext) -> Desired:
    parents = frozenset(card.ref for card in cards)
    reason = "only cards whose configuration was read are covered"
    desired = Desired(specs.VM_MAC_ADDRESSES, coverage=Coverage(parents=parents, reason=reason))
    for card in cards:
        if card.device.mac is not None:
            values = {
                "mac_address": card.device.mac,
                "assigned_object_type": VM_INTERFACE,
                "assigned_object_id": card.ref,
            }
            label = f"{card.device.mac} of {card.label}"
            desired.rows.append(Row(owned(context, values), label, context.link(card.guest.key)))
    return desired


def _primary_macs(cards: list[_Card], context: StageContext) -> Desired:
    desired = Desired(specs.VM_PRIMARY_MACS, coverage=_WITH_INTERFACE)
    for card in cards:
        if card.device.mac is not None:
            values: dict[str, Any] = {
                "virtual_machine": vm_ref(context, card.guest.kind, card.guest.vmid),
                specs.NIC_FIELD: card.device.key,
                "primary_mac_address": mac_ref(card.device.mac, VM_INTERFACE, card.ref),
            }
            desired.rows.append(Row(values, card.label, context.link(card.guest.key)))
    return desired


def _sync_states(inputs: Inputs, cards: list[_Card], context: StageContext) -> Desired:
    desired = Desired(specs.VM_INTERFACE_SYNC_STATES, coverage=_WITH_INTERFACE)
    networks = inputs["node_networks"]
    known = {(row["node"], row["iface"]) for row in networks.rows}
    nodes = {node for node, _ in known if networks.gap("node", node) is None}
    for card in cards:
        node, bridge = card.guest.node, card.device.bridge
        # A bridge that a completely read node does not list is a VNet. Otherwise NetBox may know it from before.
        absent = not bridge or (node in nodes and (node, bridge) not in known)
        target = None if absent or not bridge else interface_ref(context, node, bridge)
        values = {
            "vm_interface": card.ref,
            "proxbox_bridge": target,
            "proxbox_bridge_raw_id": target,
            "proxbox_bridge_raw_value": bridge,
        }
        desired.rows.append(Row(owned(context, values), card.label, context.link(card.guest.key)))
    return desired


STAGE = Stage(
    number=9,
    name="vm_interfaces",
    group="networking",
    title="VM interfaces",
    description="The network cards of the guests, with their MAC addresses, VLANs and bridges.",
    sources=("guests", "guest_configs", "guest_agent", "cluster_status", "node_networks"),
    object_classes=(
        specs.VM_INTERFACE_CUSTOM_FIELDS,
        specs.VM_VLANS,
        specs.VM_INTERFACES,
        specs.VM_MAC_ADDRESSES,
        specs.VM_PRIMARY_MACS,
        specs.VM_INTERFACE_SYNC_STATES,
    ),
    upstream=("virtual_machines",),
    build=build,
)
