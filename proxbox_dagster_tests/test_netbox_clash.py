"""Two endpoints whose rows NetBox cannot tell apart (snapshots of one VMID, node and name): both keep theirs."""

from __future__ import annotations

from typing import Any

from proxbox_dagster.netbox.spec import OWNER_TAG, Desired
from proxbox_dagster_tests.support.core import again, synced
from proxbox_dagster_tests.support.core_specs import MACHINE, OTHER, machine, snapshot, wanted
from proxbox_dagster_tests.support.fake_netbox import FakeNetBox

SNAPSHOTS = "plugins/proxbox/snapshots"


def theirs(netbox: FakeNetBox, name: str) -> int:
    """A snapshot of the other endpoint."""
    machine_id = netbox.one(MACHINE.path)["id"]
    fields: dict[str, Any] = {"cf_proxmox_endpoint": OTHER, "tags": [OWNER_TAG]}
    return netbox.add(SNAPSHOTS, virtual_machine=machine_id, name=name, vmid=100, **fields)


def ours(name: str, source: str = "s") -> tuple[Desired, Desired]:
    made = snapshot(100, source)
    made.values["name"] = name
    return wanted("virtual_machines", machine(100)), wanted("snapshots", made)


def names(netbox: FakeNetBox) -> dict[int, str]:
    return {row["id"]: row["name"] for row in netbox.all(SNAPSHOTS)}


def test_a_new_row_that_clashes_says_so() -> None:
    netbox = synced(wanted("virtual_machines", machine(100)))
    other = theirs(netbox, "before")
    run = again(netbox, *ours("before"))
    assert names(netbox).pop(other) == "before"
    [note] = run.reports["snapshots"].notes
    assert "is written as before@ams1, because there is a row, of another endpoint or of people" in note


def test_a_row_that_comes_to_clash_later_keeps_its_place_beside_the_other() -> None:
    netbox = synced(*ours("alone"))
    other = theirs(netbox, "taken")
    run = again(netbox, *ours("taken"))
    assert run.counts("snapshots") == {"seen": 1, "updated": 1}
    found = names(netbox)
    assert (found.pop(other), list(found.values())) == ("taken", ["taken@ams1"])
    assert len(run.reports["snapshots"].notes) == 1
    assert again(netbox, *ours("taken")).counts("snapshots") == {"seen": 1, "unchanged": 1}
    assert again(netbox, *ours("free")).counts("snapshots") == {"seen": 1, "updated": 1}
    assert sorted(names(netbox).values()) == ["free", "taken"]


def test_a_clash_in_a_list_leaves_the_rest_of_the_list_alone() -> None:
    netbox = synced(wanted("virtual_machines", machine(100)))
    theirs(netbox, "b")
    rows = [snapshot(100, name) for name in ("a", "b", "c")]
    run = again(netbox, wanted("virtual_machines", machine(100)), wanted("snapshots", *rows))
    assert run.counts("snapshots") == {"seen": 3, "created": 3}
    assert sorted(names(netbox).values()) == ["a", "b", "b@ams1", "c"]
