"""A plan that keeps its word, a doctor and a purge as a user meets them, on the real NetBox."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from proxbox_dagster.cli import app
from proxbox_dagster.stages import STAGES
from proxbox_dagster_tests.support.least import for_runs
from proxbox_dagster_tests.support.synced import VMS, Synced, described, errors, laid_out


@pytest.fixture(scope="module")
def lab(netbox_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synced]:
    """Nothing is synced at first; the tests build on one another, in their order."""
    clusters = {"small": described("small"), "twin": described("twin")}
    with laid_out(netbox_server, tmp_path_factory.mktemp("trust"), **clusters) as found:
        yield found


def run(*arguments: str) -> tuple[int, str]:
    """Exit status and output, white space folded."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, " ".join(result.output.split())


def test_scenario_47_a_dry_run_on_an_empty_netbox_writes_nothing_and_the_sync_writes_the_plan(lab: Synced) -> None:
    planned = lab.run(dry_run=True)
    for found in planned["endpoints"].values():
        assert {line["stage"] for line in found["stages"]} == {stage.name for stage in STAGES}
    plan = sorted(lab.changes())
    assert {name for name, *_ in plan} >= {"ownership_tags", "ownership_custom_fields", "devices", "virtual_machines"}
    assert lab.written() == []
    assert lab.writing_requests() == []
    assert lab.netbox.sql("select count(*) from extras_tag")[0][0] == 0
    done = lab.run()
    written = sorted(lab.changes())
    # A row that both clusters need is in both plans, and made once.
    shared = "ownership_tags ownership_custom_fields cluster_types manufacturers device_types device_roles platforms"
    shared += " tags custom_fields guest_roles machine_types guest_platforms endpoint_addresses"
    shared += " vm_interface_custom_fields vm_vlans"
    assert {name for name, *_ in Counter(plan) - Counter(written)} <= set(shared.split())
    assert set(written) == set(plan)
    counted = {
        (name, line["object_class"]): line["created"]
        for name, found in done["endpoints"].items()
        for line in found["stages"]
    }
    assert counted["small", "virtual_machines"] == len(lab.clusters["small"].guests)
    lab.run(dry_run=True)
    assert lab.changes() == []


def test_scenario_29_two_clusters_do_not_share_one_in_netbox(lab: Synced) -> None:
    lab.settings["endpoints"][1]["cluster"] = "small"
    before = lab.settings["endpoints"][1].copy()
    lab.settings["endpoints"][1]["name"] = "other"
    lab.save()
    result = lab.watched(endpoints=("other",))
    [line] = errors(result)
    assert "endpoints small and other both lead to the NetBox cluster 'small'" in line
    assert "make them one endpoint with both hosts" in line
    assert lab.written() == []
    assert before["cluster"] == "small"
    lab.restore()


def test_the_doctor_finds_everything_right(lab: Synced) -> None:
    code, output = run("doctor")
    assert code == 0, output
    assert "✗" not in output
    for words in ("settings:", "netbox: ", "NetBox 4.", "netbox-proxbox 0.", "netbox clock: in step", "concurrency:"):
        assert words in output
    assert "netbox permissions: the token may do all that a run needs" in output
    for name in ("small", "twin"):
        assert f"proxmox {name} privileges: every source can be read whole" in output
        assert f"proxmox {name} clock: in step" in output
    assert "node(s) online, Proxmox VE 9.1" in output


def test_the_doctor_names_each_thing_that_is_wrong(lab: Synced, monkeypatch: Any) -> None:
    permissions = [(actions, [name for name in models if name != "dcim.device"]) for actions, models in for_runs()]
    monkeypatch.setenv("LAB_NETBOX_TOKEN", lab.netbox.make_token("half", permissions=permissions))
    lab.clusters["small"].revoke("VM.GuestAgent.Audit")
    lab.settings["endpoints"][1]["hosts"] = ["127.0.0.1:9"]
    lab.settings["endpoints"][1]["retry_budget"] = 0
    lab.settings["concurrency"] = {"netbox_max_concurrent": 16}
    lab.save()
    monkeypatch.setenv("LAB_NETBOX_TOKEN", lab.netbox.make_token("half", permissions=permissions))
    lab.log.forget()
    code, output = run("doctor")
    assert code == 1, output
    assert "✗ netbox permissions:" in output
    assert "view, add, change dcim.device" in output
    assert "lacks VM.GuestAgent.Audit on /vms" in output
    assert "pveum acl modify /vms --users sync@pve --tokens 'sync@pve!netbox' --roles ProxboxSync" in output
    assert "✗ proxmox twin: Proxmox at 127.0.0.1:9 cannot be reached" in output
    assert "! concurrency:" in output
    assert lab.log.entries() == [], "a doctor writes nothing"
    lab.clusters["small"].grant_all()
    lab.restore()


def test_scenario_52_purge_lists_and_removes_only_what_is_owned(lab: Synced) -> None:
    web, db = lab.vm(100), lab.vm(101)
    person = lab.client()
    try:
        person.create("virtualization/interfaces", [{"virtual_machine": web["id"], "name": "by-hand"}])
        tags = [{"slug": tag["slug"]} for tag in db["tags"]] + [{"slug": "proxbox-keep"}]
        person.update(VMS, [{"id": db["id"], "tags": tags}])
        cluster = lab.one("virtualization/clusters", name="small")
        [mine] = person.create(VMS, [{"name": "by-hand", "cluster": cluster["id"]}])
        other = lab.one("virtualization/clusters", name="twin")["id"]
        group = {"name": "theirs", "slug": "theirs", "scope_type": "virtualization.cluster", "scope_id": other}
        person.create("ipam/vlan-groups", [group])
        [address] = lab.rows("ipam/ip-addresses", cf_proxmox_endpoint="twin")[:1]
        about = {"assigned_object_type": "ipam.ipaddress", "assigned_object_id": address["id"], "comments": "x"}
        person.create("extras/journal-entries", [about])
    finally:
        person.close()
    twins = {row["id"] for row in lab.rows(VMS, cf_proxmox_endpoint="twin")}
    lab.log.forget()
    code, listed = run("purge", "--endpoint", "small")
    assert code == 0, listed
    assert lab.log.entries() == []
    assert "kept: web01: interfaces 'by-hand' under it is not ours" in listed
    assert "kept: db01: tagged proxbox-keep" in listed
    assert "to remove" in listed
    assert "What endpoints share stays" in listed
    _, done = run("purge", "--endpoint", "small", "--yes")
    assert "removed" in done
    assert {row["id"] for row in lab.rows(VMS)} == {web["id"], db["id"], mine["id"]} | twins
    assert {entry.action for entry in lab.log.entries()} <= {"delete", "update"}
    assert not lab.rows("plugins/proxbox/storage", cf_proxmox_endpoint="small")
    assert lab.rows("plugins/proxbox/storage", cf_proxmox_endpoint="twin")
    assert lab.one("virtualization/clusters", name="small")["id"] == cluster["id"], "people's guest is in it"
    lab.run(endpoints=("twin",))
    assert lab.written() == []
    code, listed = run("purge", "--endpoint", "twin")
    assert code == 0, listed
    assert "kept: twin: vlan-groups 'theirs' under it is not ours" in listed
    under = address["assigned_object"]
    owner = under.get("virtual_machine") or under["device"]
    for name in (address["display"], under["name"], owner["name"]):
        assert f"kept: {name}: journal-entries" in listed, (name, listed)
    code, nothing = run("purge", "--endpoint", "nobody")
    assert (code, "nothing in NetBox belongs to endpoint nobody" in nothing) == (0, True)
