"""Whatever stands in NetBox and whatever happens at the source: nothing that is not ours is ever changed.

In memory, for breadth; ``test_scenarios_ownership.py`` shows the same on a real NetBox.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from proxbox_dagster.netbox.changes import Rules
from proxbox_dagster.netbox.removal import RemovalRules
from proxbox_dagster.netbox.spec import OWNER_TAG
from proxbox_dagster_tests.support.core import NOW, Run, base, fake
from proxbox_dagster_tests.support.core_specs import CLUSTER, DISK, ENDPOINT, MACHINE, OTHER, disk, machine, wanted
from proxbox_dagster_tests.support.core_specs import machine_ref as ref
from proxbox_dagster_tests.support.fake_netbox import FakeNetBox

VMIDS = (100, 101, 102, 103)
NAMES = ("vm100", "vm101", "VM102", "theirs", "scsi0", "scsi1")
MARKS: tuple[dict[str, Any], ...] = (
    {},
    {"tags": [OWNER_TAG]},
    {"cf_proxmox_endpoint": ENDPOINT},
    {"cf_proxmox_endpoint": OTHER, "tags": [OWNER_TAG]},
    {"cf_proxmox_endpoint": ENDPOINT, "tags": ["proxbox-keep"]},
)
"""Every way of looking like ours but one: tagged and of this endpoint."""

guests = st.dictionaries(
    st.sampled_from(VMIDS),
    st.fixed_dictionaries(
        {"name": st.sampled_from(("", "web", "theirs")), "disks": st.sets(st.sampled_from(("scsi0", "scsi1")))}
    ),
)
planted = st.lists(
    st.tuples(st.sampled_from(("machine", "disk")), st.sampled_from(MARKS), st.sampled_from(NAMES)), max_size=8
)
modes = st.sampled_from(("mark", "delete", "ignore"))


def plant(netbox: FakeNetBox, things: list[tuple[str, dict[str, Any], str]]) -> dict[tuple[str, int], dict[str, Any]]:
    """Put foreign rows beside and under ours; those that NetBox itself refuses for their name are left out."""
    cluster = netbox.all(CLUSTER.path)[0]["id"]
    machines = [row["id"] for row in netbox.all(MACHINE.path)]
    taken = {(row["name"].casefold(), row["cluster"]) for row in netbox.all(MACHINE.path)}
    under = {(row["virtual_machine"], row["name"]) for row in netbox.all(DISK.path)}
    made: list[tuple[str, int]] = []
    for kind, mark, name in things:
        if kind == "machine" and (name.casefold(), cluster) not in taken:
            taken.add((name.casefold(), cluster))
            made.append((MACHINE.path, netbox.add(MACHINE.path, name=name, cluster=cluster, **mark)))
        elif kind == "disk" and machines and (machines[0], name) not in under:
            under.add((machines[0], name))
            made.append((DISK.path, netbox.add(DISK.path, virtual_machine=machines[0], name=name, size=7, **mark)))
    return {(path, row_id): netbox.one(path, id=row_id) for path, row_id in made}


@settings(deadline=None, max_examples=80)
@given(first=guests, things=planted, later=st.lists(guests, min_size=1, max_size=3), mode=modes, whole=st.booleans())
def test_scenario_19_nothing_foreign_is_changed(
    first: dict[int, Any],
    things: list[tuple[str, dict[str, Any], str]],
    later: list[dict[int, Any]],
    mode: Any,
    whole: bool,
) -> None:
    netbox = fake()
    rules = Rules(
        removal=RemovalRules(default=mode, grace_days=0, confirmations=1, brake_percent=100, brake_objects=999)
    )

    def run(now: int, source: dict[int, Any]) -> None:
        machines = [machine(vmid, found["name"] or f"vm{vmid}") for vmid, found in source.items()]
        disks = [disk(vmid, name) for vmid, found in source.items() for name in sorted(found["disks"])]
        Run(netbox, rules, now=NOW + timedelta(days=now)).write(
            *base(),
            wanted("virtual_machines", *machines, whole=whole),
            wanted("virtual_disks", *disks, parents=frozenset(ref(vmid) for vmid in source)),
        )

    run(0, first)
    before = plant(netbox, things)
    for day, source in enumerate((*later, {}, {}), 1):
        run(day, source)
        assert {place: netbox.one(place[0], id=place[1]) for place in before} == before
