"""Stage 3, the mapping: guests to virtual machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxbox_dagster.facts import UNOBSERVED, GapKind
from proxbox_dagster.netbox.spec import Desired, Ref, Row
from proxbox_dagster.proxmox.parse.agent import agent_enabled
from proxbox_dagster.proxmox.parse.problem import ParseProblem
from proxbox_dagster.proxmox.parse.smbios import parse_smbios_uuid
from proxbox_dagster.proxmox.parse.tags import Tag, TagStyle, parse_tag_style, parse_tags
from proxbox_dagster.proxmox.parse.values import properties, to_bool
from proxbox_dagster.stages import virtual_machines_specs as specs
from proxbox_dagster.stages.common import (
    OWNER_TAGS,
    SHARED,
    cluster_name,
    cluster_ref,
    covered,
    device_ref,
    endpoint_ref,
    owned,
    proxmox_cluster_ref,
    proxmox_node_ref,
    slug_of,
    vm_ref,
)
from proxbox_dagster.stages.guest_nics import nics
from proxbox_dagster.stages.guest_vocabulary import netbox_status, platform_name, ui_color, unique_names
from proxbox_dagster.stages.guests import MAX_DISK_MIB, Guest, guest_coverage, guests, hidden, synced_disks, unreadable
from proxbox_dagster.stages.ownership import GUEST_TAG_DESCRIPTION, TEMPLATE_TAG, custom_field_row
from proxbox_dagster.stages.stage import Inputs, Stage, StageContext

_ROLES = {
    "qemu": ("virtual-machine-qemu", "Virtual Machine (QEMU)", "00ffff", "Proxmox Virtual Machine"),
    "lxc": ("container-lxc", "Container (LXC)", "7fffd4", "Proxmox LXC Container"),
}
_TYPES = {
    "qemu": ("qemu-virtual-machine", "QEMU Virtual Machine"),
    "lxc": ("lxc-container", "LXC Container"),
}
_MIB = 1024 * 1024


def build(inputs: Inputs, context: StageContext) -> list[Desired]:
    """Desired rows of stage 3 from ``guests``, ``guest_configs``, ``cluster_options`` and ``cluster_status``."""
    found = list(guests(inputs, context))
    names = unique_names(all_named(inputs, context))
    made = [
        _tags(inputs, context, found),
        _custom_fields(),
        _roles(),
        _machine_types(),
        _platforms(found),
        _virtual_machines(inputs, context, found, names),
    ]
    return [*made, _sync_states(inputs, context, found)] if context.plugin else made


def all_named(inputs: Inputs, context: StageContext) -> list[tuple[int, str, str]]:
    """VMID, type and name of every guest of the cluster that has a name, also of those outside of the scope.

    Names are unique among all of them: a narrowed run gives a guest the name that a full one does.
    """
    everything = StageContext(context.endpoint)
    found = [
        (guest.vmid, guest.kind, guest.name) for guest in guests(inputs, everything) if isinstance(guest.name, str)
    ]
    others = next((row["others"] for row in inputs["guests"].rows if row["others"]), ())
    return [*found, *((vmid, kind, name) for vmid, kind, name in others)]


def guest_tags(guest: Guest) -> tuple[Tag, ...] | None:
    """The guest's tags; ``None`` when they were not observed, or cannot be read."""
    value = guest.config.get("tags") if guest.config is not None else guest.row.get("tags", UNOBSERVED)
    if value is UNOBSERVED or (guest.config is None and value is None):
        return None
    parsed = parse_tags(value)
    return None if isinstance(parsed, ParseProblem) else parsed


def _tags(inputs: Inputs, context: StageContext, found: list[Guest]) -> Desired:
    desired = Desired(specs.GUEST_TAGS, coverage=SHARED)
    description = GUEST_TAG_DESCRIPTION.format(endpoint=context.endpoint)
    style = _style(inputs, desired)
    spelled: dict[str, set[str]] = {}
    for guest in found:
        for tag in guest_tags(guest) or ():
            spelled.setdefault(tag.slug, set()).add(tag.name)
    colors = style or TagStyle()
    for slug, names in sorted(spelled.items()):
        # Of several spellings the one that the cluster gives a colour; they are one tag in NetBox.
        name = min(names, key=lambda name: (colors.color(name) is None, name))
        color = UNOBSERVED if style is None else colors.color(name) or ui_color(name)
        values = {"slug": slug, "name": name, "color": color, "description": description}
        desired.rows.append(Row(values, name))
    return desired


def _style(inputs: Inputs, desired: Desired) -> TagStyle | None:
    read = inputs["cluster_options"]
    if not read.rows:
        return None
    style = parse_tag_style((read.rows[0]["options"] or {}).get("tag-style"))
    if isinstance(style, ParseProblem):
        desired.notes.append(f"the cluster's tag-style cannot be read ({style.reason}): tags keep their colours")
        return None
    desired.notes += [f"tag-style: {problem.reason} ({problem.text})" for problem in style.problems]
    return style


def _custom_fields() -> Desired:
    models = ("virtualization.virtualmachine",)
    rows = [
        custom_field_row("proxmox_vm_id", "integer", "VM ID", "The guest's VMID in Proxmox", models),
        custom_field_row("proxmox_vm_type", "text", "VM Type", "qemu or lxc", models),
    ]
    return Desired(specs.GUEST_CUSTOM_FIELDS, rows, coverage=SHARED)


def _roles() -> Desired:
    rows = [
        Row(
            {"slug": slug, "name": name, "color": color, "vm_role": True, "description": text, "tags": OWNER_TAGS},
            name,
        )
        for slug, name, color, text in _ROLES.values()
    ]
    return Desired(specs.GUEST_ROLES, rows, coverage=SHARED)


def _machine_types() -> Desired:
    rows = [Row({"slug": slug, "name": name, "tags": OWNER_TAGS}, name) for slug, name in _TYPES.values()]
    return Desired(specs.MACHINE_TYPES, rows, coverage=SHARED)


def _platform_of(guest: Guest) -> str | None:
    return platform_name(guest.kind, (guest.config or {}).get("ostype"))


def _platforms(found: list[Guest]) -> Desired:
    names = sorted({name for guest in found if (name := _platform_of(guest))})
    rows = [Row({"slug": slug_of(name), "name": name, "tags": OWNER_TAGS}, name) for name in names]
    return Desired(specs.GUEST_PLATFORMS, rows, coverage=SHARED)


def _virtual_machines(
    inputs: Inputs, context: StageContext, found: list[Guest], names: Mapping[tuple[int, str], str]
) -> Desired:
    desired = Desired(specs.VIRTUAL_MACHINES, coverage=covered(context, inputs["guests"], inputs["cluster_status"]))
    for guest in found:
        key = vm_ref(context, guest.kind, guest.vmid).key
        if guest.config is None and guest.gap is not None and guest.gap.is_error and unreadable(guest, desired, key):
            continue
        values = {
            "cf.proxmox_vm_type": guest.kind,
            "cf.proxmox_vm_id": guest.vmid,
            "name": names.get((guest.vmid, guest.kind), UNOBSERVED),
            "status": netbox_status(guest.row.get("status")),
            "cluster": cluster_ref(context),
            "device": device_ref(context, guest.node),
            "role": Ref("device_roles", (_ROLES[guest.kind][0],)),
            "virtual_machine_type": Ref("machine_types", (_TYPES[guest.kind][0],)),
            "vcpus": _size(guest.row.get("maxcpu"), 1),
            "memory": _size(guest.row.get("maxmem"), _MIB),
            "tags": _wanted_tags(guest),
            **_from_config(guest),
        }
        link = context.link(guest.key)
        desired.rows.append(Row(owned(context, values), guest.label, link, proofs=_macs(guest)))
    _note_unknown(inputs, context, desired)
    return desired


def _macs(guest: Guest) -> frozenset[str]:
    """The guest's MAC addresses: what tells containers of one number from one another."""
    return frozenset(card.mac for card in nics(guest)[0] if card.mac is not None)


def _note_unknown(inputs: Inputs, context: StageContext, desired: Desired) -> None:
    """A run narrowed to a guest that is not there has nothing to do, and says so; it removes nothing."""
    listed = {row["vmid"] for row in inputs["guests"].rows}
    for vmid in sorted(context.scope.vmids - listed):
        gap = hidden(inputs, vmid)
        if gap is not None and gap.kind is not GapKind.OUT_OF_SCOPE:
            reason = f"it is not observed: {gap.reason}"
        elif gap is not None:
            reason = f"it is not on {', '.join(sorted(context.scope.nodes))}, to which the run is narrowed"
        else:
            reason = (
                f"endpoint {context.endpoint} has no guest of that number. A run narrowed to a guest removes nothing; "
                "a run over the whole endpoint marks what is gone"
            )
        desired.fail(f"guest {vmid}", reason)


def _size(value: Any, unit: int) -> Any:
    """A size in whole units; 0 is known absent."""
    if value is UNOBSERVED or value is None:
        return UNOBSERVED
    return (int(value // unit) if unit > 1 else value) or None


def _wanted_tags(guest: Guest) -> Any:
    tags, template = guest_tags(guest), guest.template
    if tags is None or template is UNOBSERVED:
        return UNOBSERVED
    marks = {f"proxbox-discovered-{guest.kind}"} | ({TEMPLATE_TAG} if template else set())
    return OWNER_TAGS | marks | {tag.slug for tag in tags}


def _from_config(guest: Guest) -> dict[str, Any]:
    """The fields that come from the guest's configuration; not observed without it."""
    if guest.config is None:
        return dict.fromkeys(("start_on_boot", "platform", "disk", "serial", "description", "comments"), UNOBSERVED)
    config = guest.config
    first, note = note_of(config.get("description"))
    platform = _platform_of(guest)
    size = sum(disk.size or 0 for disk in synced_disks(guest)[0])
    uuid = parse_smbios_uuid(config.get("smbios1"))
    on_boot = _flag(config, "onboot")
    return {
        "start_on_boot": on_boot if on_boot is UNOBSERVED else "on" if on_boot else "off",
        "platform": Ref("platforms", (slug_of(platform),)) if platform else None,
        "disk": min(size, MAX_DISK_MIB) or None,
        "serial": UNOBSERVED if isinstance(uuid, ParseProblem) else uuid and uuid.upper(),
        "description": first,
        "comments": note,
    }


def _flag(config: Mapping[str, Any], name: str) -> Any:
    """A switch of the configuration, which is off without it; not observed when it cannot be read."""
    value = to_bool(config.get(name))
    return UNOBSERVED if isinstance(value, ParseProblem) else value is True


def note_of(description: Any) -> tuple[str | None, str | None]:
    """NetBox's description and comments from Proxmox's note: its first line, and all of it when there is more."""
    text = str(description or "").replace("\r\n", "\n").strip()
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if not lines:
        return None, None
    return lines[0], text if len(lines) > 1 or len(lines[0]) > 200 else None


def _sync_states(inputs: Inputs, context: StageContext, found: list[Guest]) -> Desired:
    desired = Desired(specs.VM_SYNC_STATES, coverage=guest_coverage(context, found))
    cluster = cluster_name(StageContext(context.endpoint), inputs["cluster_status"])
    for guest in found:
        ref = vm_ref(context, guest.kind, guest.vmid)
        if guest.config is None and unreadable(guest, desired, (ref,)):
            continue
        status = guest.row.get("status")
        values = {
            "virtual_machine": ref,
            "endpoint": endpoint_ref(context),
            "proxmox_endpoint_raw_id": endpoint_ref(context),
            "proxmox_node": proxmox_node_ref(context, guest.node),
            "proxmox_node_name": guest.node,
            "proxmox_cluster": proxmox_cluster_ref(context),
            "proxmox_cluster_name": cluster or UNOBSERVED,
            "proxmox_vm_id": guest.vmid,
            "proxmox_vm_type": guest.kind,
            "proxmox_vm_name": guest.name,
            "proxmox_status": UNOBSERVED if status in (None, "unknown") else status,
            "proxmox_link": context.link(guest.key),
            **_sync_config(guest, guest.config or {}),
        }
        desired.rows.append(Row(owned(context, values), guest.label, context.link(guest.key)))
    return desired


def _sync_config(guest: Guest, config: Mapping[str, Any]) -> dict[str, Any]:
    cpu = properties(config.get("cpu"), default_key="cputype") if config.get("cpu") else {}
    tags = guest_tags(guest)
    return {
        "proxmox_start_at_boot": _flag(config, "onboot"),
        "proxmox_unprivileged_container": _flag(config, "unprivileged"),
        "proxmox_qemu_agent": agent_enabled(config),
        "proxmox_search_domain": config.get("searchdomain"),
        "proxmox_os": config.get("ostype"),
        "proxmox_cpu_type": cpu.get("cputype") if isinstance(cpu, dict) else UNOBSERVED,
        "proxmox_tags": UNOBSERVED if tags is None else ";".join(tag.name for tag in tags) or None,
    }


STAGE = Stage(
    number=3,
    name="virtual_machines",
    group="guest_data",
    title="Virtual machines",
    description="QEMU machines and LXC containers, templates too, with their tags, roles, types and platforms.",
    sources=("guests", "guest_configs", "cluster_options", "cluster_status"),
    object_classes=(
        specs.GUEST_TAGS,
        specs.GUEST_CUSTOM_FIELDS,
        specs.GUEST_ROLES,
        specs.MACHINE_TYPES,
        specs.GUEST_PLATFORMS,
        specs.VIRTUAL_MACHINES,
        specs.VM_SYNC_STATES,
    ),
    upstream=("devices",),
    build=build,
)
