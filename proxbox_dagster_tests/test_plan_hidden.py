"""A reference to what Proxmox may only hide from the token: not cleared before that is proved gone."""

from __future__ import annotations

from typing import Any

import pytest

from proxbox_dagster.netbox.changes import Rules
from proxbox_dagster.netbox.spec import Desired, Ref, Row
from proxbox_dagster.stages import specs
from proxbox_dagster.stages.node_interfaces_specs import INTERFACES
from proxbox_dagster_tests.support.memory_netbox import MemoryNetBox

PORTS = "dcim/interfaces"
REASON = "the token lacks SDN.Audit"


@pytest.mark.parametrize(("reason", "stays"), [(REASON, True), (None, False)])
def test_a_port_keeps_its_bridge_while_that_may_only_be_hidden(reason: str | None, stays: bool) -> None:
    netbox = MemoryNetBox()
    device = netbox.seed("dcim/devices", name="pve1", cf_proxmox_endpoint="ams1", cf_proxmox_node_name="pve1")
    bridge = netbox.seed(PORTS, device=device, name="vmbr0", bridge=None, cf_proxmox_endpoint="ams1")
    port = netbox.seed(PORTS, device=device, name="eth0", bridge=bridge, cf_proxmox_endpoint="ams1")
    asked: list[tuple[str, str]] = []

    def proof(spec: Any, row: dict[str, Any]) -> str | None:
        asked.append((spec.name, row["name"]))
        return reason

    row = Row({"device": Ref("devices", ("ams1", "pve1")), "name": "eth0", "bridge": None}, "pve1 eth0")
    [(made, _)] = netbox.apply([Desired(INTERFACES, [row])], specs(), Rules(proof=proof)).values()
    assert netbox.row(PORTS, id=port)["bridge"] == (bridge if stays else None)
    assert asked == [("interfaces", "vmbr0")]
    assert made.notes == ([f"pve1 eth0: bridge is left alone: {REASON}"] if stays else [])
