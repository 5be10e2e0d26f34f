"""Sizes and volatile figures of nodes and guests, worked out from their configuration."""

from __future__ import annotations

import re
from typing import Any

from .call import Call
from .state import GIB, MIB, Guest, Node, parse_size

_BOOT_ORDER = re.compile(r"(?:^|,)order=([^,]*)")
_OLD_BUSES = ("ide", "scsi", "sata", "virtio")
_DISK_KEYS = re.compile(r"^(?:ide|sata|scsi|virtio)\d+$")
_SIZE = re.compile(r"(?:^|,)size=(\d+(?:\.\d+)?[KMGT]?)(?:,|$)")


def disk_size(value: str) -> int | None:
    """Bytes of a disk's ``size=``; None when it has none."""
    found = _SIZE.search(value)
    return parse_size(found.group(1)) if found else None


def boot_disk_size(guest: Guest) -> int:
    """The size that lists show as the guest's disk: the first disk in the boot order, or a container's root."""
    if guest.kind == "lxc":
        return disk_size(guest.config.get("rootfs", "")) or 0
    for key in _boot_order(guest):
        value = guest.config.get(key, "")
        if value and "media=cdrom" not in value and value != "cdrom":
            return disk_size(value) or 0
    return 0


def _boot_order(guest: Guest) -> list[str]:
    found = _BOOT_ORDER.search(guest.config.get("boot", ""))
    if found:
        return [key for key in found.group(1).split(";") if _DISK_KEYS.match(key)]
    if "bootdisk" in guest.config:
        return [guest.config["bootdisk"]]
    return sorted((key for key in guest.config if _DISK_KEYS.match(key)), key=_bus_order)


def _bus_order(key: str) -> tuple[int, int]:
    bus = key.rstrip("0123456789")
    return _OLD_BUSES.index(bus), int(key[len(bus) :])


def cpus(call: Call, guest: Guest) -> int | float:
    """Processors that lists show: a container without ``cores`` has its limit, or all of its node."""
    config = guest.config
    if guest.kind == "qemu":
        return _whole(config.get("vcpus")) or _whole(config.get("sockets"), 1) * _whole(config.get("cores"), 1)
    if "cores" in config:
        return _whole(config["cores"], 1)
    limit = float(config.get("cpulimit", "0"))
    if limit:
        return int(limit) if limit == int(limit) else limit
    return call.cluster.nodes[guest.node].cpus


def _whole(text: str | None, default: int = 0) -> int:
    """A number of a configuration; what is none, as somebody may have put it into the file by hand, is not there."""
    return int(text) if text and text.isdecimal() else default


def memory(guest: Guest) -> int:
    """Bytes; 512 MiB unless configured. The value may carry options (``current=2048``)."""
    text = guest.config.get("memory", "512").split(",")[0].removeprefix("current=")
    return _whole(text, 512) * MIB


def uptime(call: Call, guest: Guest) -> int:
    """Seconds since the start."""
    return max(1, call.cluster.now - guest.started) if guest.running else 0


def guest_figures(call: Call, guest: Guest) -> dict[str, Any]:
    """Sizes and use of a guest as cluster resources show them."""
    key, running = f"guest/{guest.vmid}", guest.running
    maxmem, maxdisk = memory(guest), boot_disk_size(guest)
    used = maxdisk if guest.kind == "lxc" and running else 0
    noise = call.noise
    figures = {
        "uptime": uptime(call, guest),
        "maxcpu": cpus(call, guest),
        "cpu": noise(key + "/cpu") if running else 0,
        "maxmem": maxmem,
        "mem": int(maxmem * (0.2 + 0.7 * noise(key + "/mem"))) if running else 0,
        "maxdisk": maxdisk,
        "disk": int(used * (0.2 + 0.7 * noise(key + "/disk"))),
        "netin": int(GIB * noise(key + "/in")) if running else 0,
        "netout": int(GIB * noise(key + "/out")) if running else 0,
        "diskread": int(GIB * noise(key + "/read")) if running else 0,
        "diskwrite": int(GIB * noise(key + "/write")) if running else 0,
    }
    if call.flavour.ha_rules:
        figures["memhost"] = figures["mem"]
    return figures


def node_figures(call: Call, node: Node) -> dict[str, Any]:
    """Sizes and, while it is online, use of a node."""
    figures: dict[str, Any] = {"maxcpu": node.cpus, "maxmem": node.memory, "maxdisk": node.disk}
    if node.online:
        key = f"node/{node.name}"
        figures |= {
            "uptime": max(1, call.cluster.now - node.started),
            "cpu": call.noise(key + "/cpu"),
            "mem": int(node.memory * (0.2 + 0.6 * call.noise(key + "/mem"))),
            "disk": int(node.disk * (0.1 + 0.5 * call.noise(key + "/disk"))),
        }
    return figures
