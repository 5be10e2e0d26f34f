"""One small cluster for the tests of the networking stages: reads of Proxmox made by hand, and a NetBox in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxbox_dagster.facts import Fetched, Gap, GapKind
from proxbox_dagster.netbox.changes import Plan, Rules
from proxbox_dagster.netbox.spec import Desired, ModelSpec, Row
from proxbox_dagster.proxmox.parse.agent import GuestInterfaces, parse_agent_interfaces
from proxbox_dagster.stages import devices_specs, node_interfaces, vm_interfaces, vm_ip_addresses
from proxbox_dagster.stages.ownership import CUSTOM_FIELD
from proxbox_dagster.stages.stage import Stage, StageContext
from proxbox_dagster.stages.virtual_machines_specs import VIRTUAL_MACHINE
from proxbox_dagster_tests.support.memory_netbox import MemoryNetBox, failures
from proxbox_dagster_tests.support.sources import ENDPOINT, fetched, guest_gap

CONTEXT = StageContext(ENDPOINT, host="pve1.example.org")
SITE = "proxmox-default-site-ams1"


def specs_of(*stages: Stage) -> list[ModelSpec]:
    """The specs that these stages and what they stand on need."""
    base = [devices_specs.SITE, devices_specs.CLUSTER, devices_specs.DEVICE, VIRTUAL_MACHINE, CUSTOM_FIELD]
    own = [item.spec for stage in stages for item in stage.object_classes]
    return list({spec.name: spec for spec in (*base, *own)}.values())


ALL = specs_of(node_interfaces.STAGE, vm_interfaces.STAGE, vm_ip_addresses.STAGE)


class Source:
    """Proxmox as the stages read it. Change it, then ``inputs()`` gives the reads."""

    def __init__(self) -> None:
        self.guests: dict[tuple[str, int], dict[str, Any]] = {}
        self.configs: dict[tuple[str, int], dict[str, Any] | None] = {}
        self.agents: dict[int, list[dict[str, Any]]] = {}
        self.containers: dict[int, list[dict[str, Any]]] = {}
        self.networks: list[dict[str, Any]] = [{"node": "pve1", "iface": "vmbr0", "type": "bridge", "active": True}]
        self.gaps: dict[str, list[Gap]] = {}

    def qemu(self, vmid: int, *, status: str = "running", node: str = "pve1", **config: Any) -> None:
        """A QEMU guest. ``agent=1`` in the configuration enables the agent; it is silent until :meth:`reports`."""
        self._guest("qemu", vmid, status, node, {"name": f"vm{vmid}", **config})

    def lxc(self, vmid: int, *, status: str = "running", node: str = "pve1", **config: Any) -> None:
        """A container."""
        self._guest("lxc", vmid, status, node, {"hostname": f"ct{vmid}", **config})

    def _guest(self, kind: str, vmid: int, status: str, node: str, config: dict[str, Any]) -> None:
        self.guests[kind, vmid] = {
            "id": f"{kind}/{vmid}",
            "node": node,
            "type": kind,
            "vmid": vmid,
            "name": config.get("name") or config.get("hostname"),
            "status": status,
            "template": bool(config.get("template")),
        }
        self.configs[kind, vmid] = config

    def reports(self, vmid: int, *interfaces: dict[str, Any]) -> None:
        """What runs in a guest reports these interfaces; none at all: it is silent from now on."""
        where = self.agents if ("qemu", vmid) in self.guests else self.containers
        if interfaces:
            where[vmid] = list(interfaces)
        else:
            where.pop(vmid, None)

    def gap(self, source: str, kind: str, vmid: int, gap_kind: GapKind, reason: str) -> None:
        self.gaps.setdefault(source, []).append(guest_gap(kind, vmid, gap_kind, reason))

    def inputs(self) -> dict[str, Fetched]:
        """The reads, with the gaps that a silent agent and a stopped guest leave."""
        rows = {
            "cluster_status": [
                {"type": "cluster", "name": "ams1", "id": "cluster", "nodes": 2, "quorate": True},
                {"type": "node", "name": "pve1", "ip": "192.0.2.11", "online": True},
                {"type": "node", "name": "pve2", "ip": "192.0.2.12", "online": True},
            ],
            "guests": list(self.guests.values()),
            "guest_configs": [
                {"node": self.guests[key]["node"], "type": key[0], "vmid": key[1], "config": config}
                for key, config in self.configs.items()
                if config is not None
            ],
            "node_networks": self.networks,
            "guest_agent": self._interfaces("qemu", self.agents),
            "container_interfaces": self._interfaces("lxc", self.containers),
        }
        gaps = {name: list(self.gaps.get(name, ())) for name in rows}
        for kind, source in (("qemu", "guest_agent"), ("lxc", "container_interfaces")):
            told = self.agents if kind == "qemu" else self.containers
            for guest_kind, vmid in self.guests:
                if guest_kind == kind and vmid not in told:
                    gaps[source].append(guest_gap(kind, vmid, *self._silence(kind, vmid)))
        return {name: fetched(name, rows[name], gaps[name]) for name in rows}

    def _silence(self, kind: str, vmid: int) -> tuple[GapKind, str]:
        if self.guests[kind, vmid]["status"] != "running":
            return GapKind.NOT_APPLICABLE, f"{kind}/{vmid} is not running"
        if kind == "qemu" and not (self.configs[kind, vmid] or {}).get("agent"):
            return GapKind.NOT_APPLICABLE, f"{kind}/{vmid} has no guest agent enabled"
        return GapKind.OFFLINE, f"the guest agent of {kind}/{vmid} does not answer"

    def _interfaces(self, kind: str, told: Mapping[int, list[dict[str, Any]]]) -> list[dict[str, Any]]:
        return [
            {"node": self.guests[kind, vmid]["node"], "vmid": vmid, "interfaces": interfaces}
            for vmid, interfaces in told.items()
        ]


def inside(name: str, mac: str, *addresses: str) -> dict[str, Any]:
    """One interface as an agent reports it; an address without ``/`` has the prefix -1 of Windows."""
    listed = [{"ip-address": text.partition("/")[0], "prefix": int(text.partition("/")[2] or -1)} for text in addresses]
    parsed = parse_agent_interfaces({"result": [{"name": name, "hardware-address": mac, "ip-addresses": listed}]})
    assert isinstance(parsed, GuestInterfaces)
    assert not parsed.problems
    return parsed.interfaces[0]


class Bench:
    """A source and a NetBox that holds the devices and virtual machines; ``sync()`` runs the networking stages."""

    def __init__(self) -> None:
        self.source = Source()
        self.netbox = MemoryNetBox()
        site = self.netbox.seed("dcim/sites", slug=SITE, name="Proxmox Default Site - ams1")
        for node in ("pve1", "pve2"):
            self.netbox.seed(
                "dcim/devices", name=node, site=site, cf_proxmox_endpoint=ENDPOINT, cf_proxmox_node_name=node
            )

    def sync(
        self, *stages: Stage, context: StageContext = CONTEXT, inputs: dict[str, Fetched] | None = None
    ) -> dict[str, Plan]:
        """One run; the plans by object class. Machines of new guests are there as stage 3 would have made them."""
        self._machines()
        read = inputs or self.source.inputs()
        chosen = stages or (node_interfaces.STAGE, vm_interfaces.STAGE, vm_ip_addresses.STAGE)
        classes: list[Desired] = []
        for stage in chosen:
            classes += stage.build({name: read[name] for name in stage.sources}, context)
        done = self.netbox.apply(classes, ALL, Rules())
        self.failures = failures(done)
        return {name: plan for name, (plan, _) in done.items()}

    def _machines(self) -> None:
        known = {
            (row["custom_fields"]["proxmox_vm_type"], row["custom_fields"]["proxmox_vm_id"])
            for row in self.netbox.rows("virtualization/virtual-machines")
        }
        for kind, vmid in self.source.guests:
            if (kind, vmid) not in known:
                self.netbox.seed(
                    "virtualization/virtual-machines",
                    name=f"{'vm' if kind == 'qemu' else 'ct'}{vmid}",
                    cf_proxmox_endpoint=ENDPOINT,
                    cf_proxmox_vm_type=kind,
                    cf_proxmox_vm_id=vmid,
                )

    # -- looking ------------------------------------------------------------------------------------------------

    def changed(self) -> list[tuple[str, str, int]]:
        """(verb, path, rows) of the writes of the last run."""
        return [(verb, path, len(rows)) for verb, path, rows in self.netbox.writes]

    def machine(self, name: str) -> dict[str, Any]:
        return self.netbox.row("virtualization/virtual-machines", name=name)

    def card(self, machine: str, name: str) -> dict[str, Any]:
        return self.netbox.row("virtualization/interfaces", virtual_machine=self.machine(machine)["id"], name=name)

    def addresses(self, machine: str) -> dict[str, str]:
        """The addresses of a machine with the name of the interface that each is on."""
        names = {
            row["id"]: row["name"]
            for row in self.netbox.rows("virtualization/interfaces")
            if row["virtual_machine"] == self.machine(machine)["id"]
        }
        return {
            row["address"]: names[row["assigned_object_id"]]
            for row in self.netbox.rows("ipam/ip-addresses")
            if row["assigned_object_type"] == "virtualization.vminterface" and row["assigned_object_id"] in names
        }

    def primary(self, machine: str, family: int = 4) -> str | None:
        number = self.machine(machine).get(f"primary_ip{family}")
        return self.netbox.tables["ipam/ip-addresses"][number]["address"] if number else None


def by_label(desired: Desired) -> dict[str, Row]:
    """The rows by label."""
    return {row.label: row for row in desired.rows}


def one(classes: list[Desired], name: str) -> Desired:
    """The desired rows of one object class."""
    return next(item for item in classes if item.object_class.name == name)


MAC = "BC:24:11:00:00:{:02X}"
LO = inside("lo", "00:00:00:00:00:00", "127.0.0.1/8", "::1/128")
NET0 = f"virtio={MAC.format(1)},bridge=vmbr0"
NET1 = f"virtio={MAC.format(2)},bridge=vmbr0"
