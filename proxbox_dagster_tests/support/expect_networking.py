"""What NetBox should hold of a simulated cluster's networks: interfaces of nodes and guests, MACs, VLANs, addresses.

Made from the cluster's own records with none of the project's parsers or mappings, as :mod:`.expect_guest_data` is.
Guests are (kind, VMID), interfaces of nodes (node, name), cards (guest, ``net0``); addresses are by host.
"""

from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from proxbox_dagster.demo.proxmox import Cluster, Guest
from proxbox_dagster_tests.support.expect_guest_data import GuestKey, Rows

_TYPE = {"bridge": "bridge", "OVSBridge": "bridge", "vnet": "bridge", "bond": "lag", "OVSBond": "lag", "eth": "other"}
_TYPE |= dict.fromkeys(("vlan", "vxlan", "dummy", "OVSIntPort"), "virtual")
_NOISE = re.compile(r"lo|(docker|br-|veth|cali|cni|flannel|virbr|tunl|kube-|lxdbr|podman).*")
_MAC = re.compile(r"(?i)\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b")
_MOST = 64


def vids(text: Any) -> set[int]:
    """The VLAN ids in ``10;20;30-40``, whatever stands between them."""
    found: set[int] = set()
    for low, high in re.findall(r"(\d+)(?:-(\d+))?", str(text or "")):
        found |= set(range(int(low), int(high or low) + 1))
    return found


def dot1q(untagged: int | None, tagged: Iterable[int]) -> dict[str, Any]:
    """The three fields of an interface."""
    rest = sorted(set(tagged) - {untagged})
    mode = "access" if untagged else None
    if rest:
        mode = "tagged" if len(rest) <= _MOST else "tagged-all"
    return {"mode": mode, "untagged": untagged, "tagged": rest if mode == "tagged" else []}


def _worthless(address: Any) -> bool:
    return bool(address.is_loopback or address.is_link_local)


class NetworkExpectation:
    """``has(kind, vmid)`` says whether NetBox has the guest's virtual machine."""

    def __init__(self, cluster: Cluster, has: Callable[[str, int], bool]) -> None:
        self.cluster = cluster
        self.nodes = {name: node for name, node in cluster.nodes.items() if node.online}
        self.guests = [g for g in cluster.guests.values() if g.node in self.nodes and has(g.kind, g.vmid)]
        self.node_rows = {
            name: {row["iface"]: row for row in node.network if row["type"] != "alias" and row["iface"] != "lo"}
            for name, node in self.nodes.items()
        }

    # -- nodes --------------------------------------------------------------------------------------------------

    def interfaces(self) -> Rows:
        """(node, name) of an interface to its fields; other interfaces by name."""
        return {
            (node, name): self._interface(rows, name) for node, rows in self.node_rows.items() for name in sorted(rows)
        }

    def _interface(self, rows: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
        row = rows[name]
        parent = row.get("vlan-raw-device")
        bridge, lag = row.get("ovs_bridge"), None
        for other, its in rows.items():
            if name in f"{its.get('bridge_ports', '')} {its.get('ovs_ports', '')}".split():
                bridge = other
            if name in f"{its.get('slaves', '')} {its.get('ovs_bonds', '')}".split():
                lag = other
        words = f"{row.get('comments', '')}\n{row.get('comments6', '')}".split("\n")
        mac = _MAC.search(" ".join(row.get("options", [])))
        on_top = {int(its["vlan-id"]) for its in rows.values() if its.get("vlan-raw-device") == name}
        if row.get("bridge_vlan_aware"):
            on_top |= vids(row.get("bridge_vids") or "2-4094")
        options = row.get("ovs_options", "")
        tag = row.get("vlan-id") or row.get("ovs_tag") or (re.findall(r"\btag=(\d+)", options) or [None])[0]
        return {
            "type": _TYPE.get(row["type"], "other"),
            "enabled": bool(row.get("active")),
            "mtu": int(row["mtu"]) if row.get("mtu") else None,
            "parent": parent if parent in rows else None,
            "bridge": bridge if bridge in rows else None,
            "lag": lag,
            "description": " ".join(word for word in words if word) or None,
            "mac": mac[0].upper() if mac else None,
            "macs": [mac[0].upper()] if mac else [],
            **dot1q(int(tag) if tag else None, on_top | vids("".join(re.findall(r"trunks=([\d,]+)", options)))),
        }

    def _node_addresses(self) -> Iterator[tuple[str, str, Any, bool]]:
        """(node, interface, address, whether it has a gateway); what an alias has is its interface's."""
        for name, node in self.nodes.items():
            for row in node.network:
                for family in ("", "6"):
                    text = row.get(f"cidr{family}")
                    if not text and row.get(f"address{family}"):
                        text = f"{row[f'address{family}']}/{row[f'netmask{family}']}"
                    if text:
                        found = ipaddress.ip_interface(text)
                        yield name, row["iface"].split(":")[0], found, f"gateway{family}" in row

    def node_addresses(self) -> Rows:
        """Host to address with prefix length and the interface that has it."""
        return {
            str(found.ip): {"address": str(found), "at": (node, iface), "dns_name": None}
            for node, iface, found, _ in self._node_addresses()
        }

    def node_primaries(self) -> Rows:
        """Node to its primary addresses: of the cluster, else with a gateway, else beside the other family's."""
        rows: Rows = {}
        for name, node in self.nodes.items():
            own = [item for item in self._node_addresses() if item[0] == name]
            chosen: dict[int, tuple[str, Any]] = {}
            for _, iface, found, gateway in sorted(own, key=lambda item: (str(item[2].ip) != node.ip, not item[3])):
                if str(found.ip) == node.ip or gateway:
                    chosen.setdefault(found.version, (iface, found))
            beside = {iface for iface, _ in chosen.values()}
            for _, iface, found, _ in own:
                if iface in beside:
                    chosen.setdefault(found.version, (iface, found))
            rows[name] = {f"ip{family}": str(chosen[family][1]) if family in chosen else None for family in (4, 6)}
        return rows

    # -- guests: cards ------------------------------------------------------------------------------------------

    def _cards(self, guest: Guest) -> dict[str, dict[str, str]]:
        """Key of each card to its properties; ``model`` and ``mac`` in one spelling."""
        found = {}
        for key, text in guest.config.items():
            if not re.fullmatch(r"net\d+", key):
                continue
            parts = [part.partition("=") for part in text.split(",")]
            card = {name: value for name, _, value in parts}
            mac = _MAC.search(text)
            card["mac"] = mac[0].upper() if mac else ""
            if guest.kind == "lxc":
                card["model"] = card["type"]
            else:
                models = [name for name, _, value in parts if not value or (mac and value == mac[0])]
                card["model"] = card.get("model") or models[0]
            found[key] = card
        return found

    def cards(self) -> Rows:
        """(guest, key) to the interface's fields; ``bridge`` is the node's interface that the plugin refers to."""
        rows: Rows = {}
        for guest in self.guests:
            for key, card in self._cards(guest).items():
                tag, trunks = int(card.get("tag", 0)) or None, vids(card.get("trunks"))
                bridge, mtu = card.get("bridge"), card.get("mtu")
                description = f"{card['model']} on {bridge}" if bridge else card["model"]
                rows[(guest.kind, guest.vmid), key] = {
                    "name": card["name"] if guest.kind == "lxc" else key,
                    "enabled": card.get("link_down") != "1",
                    "mtu": int(mtu) if mtu and mtu != "1" else None,
                    "description": description,
                    "mac": card["mac"] or None,
                    "macs": [card["mac"]] if card["mac"] else [],
                    "bridge": (guest.node, bridge) if bridge in self.node_rows[guest.node] else None,
                    "bridge_name": bridge,
                    **dot1q(tag, trunks),
                }
        return rows

    def used_vlans(self) -> set[int]:
        """The VLAN ids that something refers to."""
        rows = [*self.interfaces().values(), *self.cards().values()]
        return {vid for row in rows for vid in [*row["tagged"], *([row["untagged"]] if row["untagged"] else [])]}

    # -- guests: addresses --------------------------------------------------------------------------------------

    def _inside(self, guest: Guest) -> list[tuple[str, str, list[str]]] | None:
        """(name, MAC, addresses) of what runs in the guest; ``None`` where nobody tells."""
        if guest.status != "running":
            return None
        if guest.kind == "lxc":
            shape = self.cluster.flavour.container_interfaces
            if shape == "missing":
                return None
            told = []
            for item in guest.interfaces:
                texts = item.addresses
                if shape == "old":  # the last one of each family
                    texts = list({":" in text: text for text in texts}.values())
                told.append((item.name, item.mac.upper(), texts))
            return told
        agent = guest.agent
        enabled = re.match(r"(enabled=)?1\b", guest.config.get("agent", ""))
        if not enabled or agent is None or not agent.running or agent.hangs or agent.error:
            return None
        return [
            (
                row["name"],
                row.get("hardware-address", "").upper(),
                [_text(item) for item in row.get("ip-addresses", [])],
            )
            for row in agent.interfaces
        ]

    def _static(self, guest: Guest, key: str, card: dict[str, str]) -> list[str]:
        given = card
        if guest.kind == "qemu":
            text = guest.config.get(key.replace("net", "ipconfig"), "")
            given = dict(part.split("=") for part in text.split(",") if part)
        return [given[name] for name in ("ip", "ip6") if "/" in given.get(name, "")]

    def _claims(self) -> Iterator[tuple[int, Guest, str, Any, bool]]:
        """(how sure, guest, card, address, whether the card has a gateway of that family)."""
        for guest in self.guests:
            if guest.template:
                continue
            inside = self._inside(guest)
            silent = inside is None and (guest.status != "running" or guest.kind == "lxc" or "agent" in guest.config)
            silent = (silent and guest.config.get("agent") != "0") or guest.status != "running"
            partial = guest.kind == "lxc" and self.cluster.flavour.container_interfaces == "old"
            for key, card in self._cards(guest).items():
                texts = [
                    text
                    for name, mac, addresses in inside or ()
                    if mac == card["mac"] and not _NOISE.fullmatch(name)
                    for text in addresses
                ]
                reported = [item for item in map(ipaddress.ip_interface, texts) if not _worthless(item.ip)]
                static = [ipaddress.ip_interface(text) for text in self._static(guest, key, card)]
                gateways = self._gateways(guest, key, card)
                for item in reported:
                    yield 2, guest, key, item, item.version in gateways
                for item in static if partial or not reported else ():
                    if item.ip not in {other.ip for other in reported}:
                        yield 0 if silent else 1, guest, key, item, item.version in gateways

    def _gateways(self, guest: Guest, key: str, card: dict[str, str]) -> set[int]:
        text = guest.config.get(key.replace("net", "ipconfig"), "") if guest.kind == "qemu" else ""
        return {version for version, name in ((4, "gw"), (6, "gw6")) if name in card or f"{name}=" in text}

    def _granted(self) -> list[tuple[Guest, str, Any, bool]]:
        """What is written: of two guests with one address neither has it; an address of a node is the node's."""
        nodes = self.node_addresses()
        by_host: dict[str, list[tuple[int, Guest, str, Any, bool]]] = defaultdict(list)
        for claim in self._claims():
            by_host[str(claim[3].ip)].append(claim)
        granted = []
        for host, claims in by_host.items():
            surest = max(claim[0] for claim in claims)
            best = {(claim[1].kind, claim[1].vmid): claim[1:] for claim in reversed(claims) if claim[0] == surest}
            if len(best) == 1 and host not in nodes:
                granted += best.values()
        return granted

    def addresses(self) -> Rows:
        """Host to address with prefix length, card and DNS name."""
        rows: Rows = {}
        for guest, key, found, _ in self._granted():
            domain = guest.config.get("searchdomain") if guest.kind == "lxc" else None
            name = f"{guest.name}.{domain}".lower() if domain else None
            place = ((guest.kind, guest.vmid), key)
            rows[str(found.ip)] = {"address": str(found), "at": place, "dns_name": name}
        return rows

    def primaries(self) -> Rows:
        """Guest to its primary addresses: gateway, lowest card, configured, with a network, lowest, in this order."""
        by_guest: dict[GuestKey, list[tuple[Any, Any]]] = defaultdict(list)
        for guest, key, found, gateway in self._granted():
            card = self._cards(guest)[key]
            configured = any(found.ip == ipaddress.ip_interface(t).ip for t in self._static(guest, key, card))
            slaac = found.version == 6 and f"{int(found.ip) & (2**64 - 1):016x}" == _eui64(card["mac"])
            rank = (not gateway, int(key[3:]), not configured, found.network.num_addresses == 1, not slaac, found.ip)
            by_guest[guest.kind, guest.vmid].append((rank, found))
        rows: Rows = {}
        for guest in self.guests:
            own = by_guest.get((guest.kind, guest.vmid), [])
            best = {f: sorted(i for i in own if i[1].version == f) for f in (4, 6)}
            rows[guest.kind, guest.vmid] = {f"ip{f}": str(found[0][1]) if found else None for f, found in best.items()}
        return rows


def _text(item: dict[str, Any]) -> str:
    """``192.0.2.1/24`` of an entry of the agent; Windows gives -1 where it knows no length."""
    address = item["ip-address"].split("%")[0]
    return f"{address}/{item['prefix']}" if item["prefix"] >= 0 else address


def _eui64(mac: str) -> str:
    digits = mac.replace(":", "").lower()
    return f"{int(digits[:2], 16) ^ 2:02x}{digits[2:6]}fffe{digits[6:]}" if digits else ""
