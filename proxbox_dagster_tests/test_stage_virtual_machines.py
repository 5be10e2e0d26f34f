"""Stage 3: what a guest is called, and what is left alone while its configuration is not observed."""

from __future__ import annotations

from typing import Any

import pytest

from proxbox_dagster.facts import UNOBSERVED, GapKind
from proxbox_dagster.netbox.spec import Desired
from proxbox_dagster.stages.virtual_machines import STAGE
from proxbox_dagster_tests.support.guest_data import CONTEXT, built, config, fetched, gap, guest, one


def of(row: dict[str, Any], *configs: dict[str, Any], offline: bool = False) -> dict[str, Desired]:
    status = [
        {"type": "cluster", "id": "cluster", "name": "ams1", "nodes": 1, "quorate": True},
        {"type": "node", "id": "node/pve1", "name": "pve1", "nodeid": 1, "online": not offline},
    ]
    gaps = [gap("node", "pve1", GapKind.OFFLINE)] if offline else []
    return built(
        STAGE,
        CONTEXT,
        guests=fetched("guests", [row], gaps),
        guest_configs=fetched("guest_configs", list(configs), gaps),
        cluster_status=fetched("cluster_status", status),
    )


def machine(made: dict[str, Desired]) -> dict[str, Any]:
    return one(made["virtual_machines"])


@pytest.mark.parametrize(("kind", "broadcast"), [("qemu", "VM 100"), ("lxc", "CT100")])
def test_a_nameless_guest_has_one_name_whether_its_node_can_be_asked_or_not(kind: str, broadcast: str) -> None:
    """The others tell what its node broadcast last, for some minutes after it has gone."""
    row = guest(100, kind, name=broadcast)
    assert machine(of(row, config(100, kind, cores=1)))["name"] == "vm-100"
    assert machine(of(row, offline=True))["name"] == "vm-100"


def test_what_the_configuration_tells_is_left_alone_without_it() -> None:
    values = machine(of(guest(100, name="web"), offline=True))
    untold = {"start_on_boot", "platform", "disk", "serial", "description", "comments", "tags"}
    assert {name for name in untold if values[name] is not UNOBSERVED} == set()
    assert values["name"] == "web"


def test_a_guest_of_which_nothing_was_broadcast_keeps_its_name_and_sizes() -> None:
    row = guest(100, name=UNOBSERVED, status="unknown", maxcpu=UNOBSERVED, maxmem=UNOBSERVED, template=UNOBSERVED)
    values = machine(of(row, offline=True))
    assert {values[name] for name in ("name", "status", "vcpus", "memory", "tags")} == {UNOBSERVED}


def test_the_configured_name_is_newer_than_the_broadcast_one() -> None:
    assert machine(of(guest(100, name="old"), config(100, name="new")))["name"] == "new"
    assert machine(of(guest(100, "lxc", name="old"), config(100, "lxc", hostname="new")))["name"] == "new"


def test_sizes_are_in_netbox_units() -> None:
    row = guest(100, maxcpu=0.5, maxmem=1536 * 1024 * 1024 + 1)
    values = machine(of(row, config(100, scsi0="ceph:vm-100-disk-0,size=33G", efidisk0="ceph:vm-100-disk-1,size=528K")))
    assert (values["vcpus"], values["memory"], values["disk"]) == (0.5, 1536, 33 * 1024 + 1)


def test_what_cannot_be_read_is_left_alone() -> None:
    garbage: dict[str, Any] = {
        "onboot": "maybe",
        "smbios1": "uuid=?",
        "tags": {"a": 1},
        "unprivileged": "?",
        "cpu": "a,b",
    }
    made = of(guest(100), config(100, **garbage))
    values, state = machine(made), one(made["vm_sync_states"])
    assert {values[name] for name in ("start_on_boot", "serial", "tags")} == {UNOBSERVED}
    names = ("start_at_boot", "unprivileged_container", "cpu_type", "tags")
    assert {state[f"proxmox_{name}"] for name in names} == {UNOBSERVED}
    bare = of(guest(100), config(100))
    values, state = machine(bare), one(bare["vm_sync_states"])
    assert (values["start_on_boot"], values["serial"]) == ("off", None)
    assert [state[f"proxmox_{name}"] for name in names] == [False, False, None, None]


def test_the_note_is_taken_as_proxmox_answers_it() -> None:
    """Proxmox decodes what its file encodes: a percent sign in the answer is one that somebody typed."""
    one_line = machine(of(guest(100), config(100, description="100%25 ümlaut: http://x/?q=a%20b\n")))
    assert (one_line["description"], one_line["comments"]) == ("100%25 ümlaut: http://x/?q=a%20b", None)
    more = machine(of(guest(100), config(100, description="\r\n# Web\r\nsecond line\r\n")))
    assert (more["description"], more["comments"]) == ("# Web", "# Web\nsecond line")
