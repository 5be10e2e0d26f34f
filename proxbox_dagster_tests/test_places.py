"""Sites: what is under a node or a guest is where people have put that, for NetBox refuses anything else."""

from __future__ import annotations

from typing import Any

import pytest

from proxbox_dagster import stages
from proxbox_dagster.netbox.changes import Rules
from proxbox_dagster.netbox.plan import plan
from proxbox_dagster.netbox.spec import ENDPOINT_FIELD, Desired, Ref, Row
from proxbox_dagster.places import Places
from proxbox_dagster.stages.virtual_machines_specs import VIRTUAL_MACHINES
from proxbox_dagster_tests.support.memory_netbox import MemoryNetBox

ENDPOINT = "ams1"
HOME = {"id": 1, "slug": "home"}
AWAY = {"id": 2, "slug": "away"}


def netbox_with(scope_type: str | None = "dcim.site", scope: dict[str, Any] | None = None) -> MemoryNetBox:
    netbox = MemoryNetBox()
    netbox.seed("virtualization/clusters", name="a", cf_proxmox_endpoint="other", scope_type="dcim.site", scope=AWAY)
    netbox.seed("virtualization/clusters", name="b", cf_proxmox_endpoint=ENDPOINT, scope_type=scope_type, scope=scope)
    for name, site in (("pve1", HOME), ("pve2", AWAY), ("pve3", HOME)):
        netbox.seed("dcim/devices", name=name, site=site, cf_proxmox_endpoint=ENDPOINT, cf_proxmox_node_name=name)
    return netbox


def device(name: str) -> Ref:
    return Ref("devices", (ENDPOINT, name))


def test_the_site_of_a_cluster_is_that_of_netbox_and_a_region_is_none() -> None:
    for scope_type, scope, found in (("dcim.site", HOME, "home"), ("dcim.region", HOME, None), (None, None, None)):
        places = Places(netbox_with(scope_type, scope).state(stages.specs(), ENDPOINT))
        assert places.cluster() == found
    places = Places(netbox_with("dcim.site", HOME).state(stages.specs(), ENDPOINT))
    assert places.differ(None) is None
    assert places.differ("home") is None
    assert "the settings' site work is for new clusters only" in str(places.differ("work"))
    assert Places(MemoryNetBox().state(stages.specs(), ENDPOINT)).cluster() is None


def test_the_site_of_a_node_or_guest_is_its_own() -> None:
    places = Places(netbox_with().state(stages.specs(), ENDPOINT))
    assert [places(device(name)) for name in ("pve1", "pve2", "pve9")] == ["home", "away", None]
    assert places(Ref("virtual_machines", (ENDPOINT, "qemu", 100))) is None


@pytest.mark.parametrize(("node", "site"), [("pve2", (1, None)), ("pve3", None)])
def test_a_guest_that_goes_to_a_node_elsewhere_lets_go_of_its_site(node: str, site: Any) -> None:
    netbox = netbox_with()
    number = netbox.rows("virtualization/clusters")[1]["id"]
    vm = netbox.seed(
        "virtualization/virtual-machines",
        name="web",
        site=HOME,
        cluster=number,
        device=netbox.row("dcim/devices", name="pve1")["id"],
        cf_proxmox_endpoint=ENDPOINT,
        cf_proxmox_vm_type="qemu",
        cf_proxmox_vm_id=100,
    )
    values = {
        ENDPOINT_FIELD: ENDPOINT,
        "cf.proxmox_vm_type": "qemu",
        "cf.proxmox_vm_id": 100,
        "cluster": Ref("clusters", (ENDPOINT,)),
        "device": device(node),
    }
    made = plan(Desired(VIRTUAL_MACHINES, [Row(values, "web")]), netbox.state(stages.specs(), ENDPOINT), Rules())
    [update] = made.updates
    assert update.row_id == vm
    assert update.changes.get("site") == site
    assert set(update.changes) == {"device"} | ({"site"} if site else set())
