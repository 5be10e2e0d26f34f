"""Stage 10 over runs: a second one, what moves, what was not observed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxbox_dagster.scope import Scope
from proxbox_dagster.stages.vm_ip_addresses import STAGE
from proxbox_dagster_tests.support.networking import CONTEXT, LO, MAC, NET0, NET1, Bench, inside


@pytest.fixture
def bench() -> Bench:
    """A QEMU guest with an agent and a container, both running."""
    made = Bench()
    made.source.qemu(100, agent="1", net0=NET0)
    made.source.reports(100, LO, inside("eth0", MAC.format(1), "198.51.100.1/26", "2001:db8::1/64"))
    made.source.lxc(101, net0=f"name=eth0,bridge=vmbr0,hwaddr={MAC.format(3)},ip=dhcp")
    made.source.reports(101, inside("eth0", MAC.format(3), "198.51.100.2/26"))
    made.sync()
    assert made.failures == []
    return made


def test_1_a_second_run_writes_nothing(bench: Bench) -> None:
    assert bench.addresses("vm100") == {"198.51.100.1/26": "net0", "2001:db8::1/64": "net0"}
    assert (bench.primary("vm100"), bench.primary("vm100", 6)) == ("198.51.100.1/26", "2001:db8::1/64")
    assert bench.primary("ct101") == "198.51.100.2/26"
    bench.sync()
    assert bench.netbox.writes == []


@pytest.mark.parametrize("status", ["running", "stopped"])
def test_14_15_a_silent_or_stopped_guest_keeps_everything(bench: Bench, status: str) -> None:
    bench.source.qemu(100, status=status, agent="1", net0=NET0)
    bench.source.reports(100)
    bench.source.lxc(101, status=status, net0=f"name=eth0,bridge=vmbr0,hwaddr={MAC.format(3)},ip=dhcp")
    bench.source.reports(101)
    bench.sync()
    assert bench.netbox.writes == []
    assert len(bench.addresses("vm100")) == 2


def test_30_an_address_moves_from_one_guest_to_another(bench: Bench) -> None:
    row_id = bench.netbox.row("ipam/ip-addresses", address="198.51.100.1/26")["id"]
    bench.source.reports(100, inside("eth0", MAC.format(1), "198.51.100.9/26"))
    bench.source.reports(101, inside("eth0", MAC.format(3), "198.51.100.1/26"))
    bench.sync()
    assert bench.failures == []
    assert bench.addresses("ct101") == {"198.51.100.1/26": "eth0"}
    assert bench.netbox.row("ipam/ip-addresses", address="198.51.100.1/26")["id"] == row_id
    assert (bench.primary("vm100"), bench.primary("ct101")) == ("198.51.100.9/26", "198.51.100.1/26")
    bench.sync()
    assert bench.netbox.writes == []


def test_30_an_address_moves_away_from_a_stopped_guest(bench: Bench) -> None:
    bench.source.qemu(100, status="stopped", agent="1", net0=NET0, ipconfig0="ip=198.51.100.1/26")
    bench.source.reports(100)
    bench.source.reports(101, inside("eth0", MAC.format(3), "198.51.100.1/26"))
    bench.sync()
    assert bench.failures == []
    assert (bench.primary("vm100"), bench.primary("ct101")) == (None, "198.51.100.1/26")
    bench.source.lxc(101, status="stopped", net0=f"name=eth0,bridge=vmbr0,hwaddr={MAC.format(3)},ip=dhcp")
    bench.source.reports(101)
    for _ in range(2):
        bench.sync()
        assert bench.netbox.writes == [], "both are stopped: nobody knows better"


def test_31_a_conflict_does_not_flip_over_five_runs(bench: Bench) -> None:
    bench.source.reports(101, inside("eth0", MAC.format(3), "198.51.100.1/26", "198.51.100.2/26"))
    for _ in range(5):
        bench.sync()
        assert bench.netbox.writes == []
        assert len(bench.failures) == 2
    assert bench.primary("vm100") == "198.51.100.1/26"


def test_33_a_changed_prefix_length_is_one_patch(bench: Bench) -> None:
    bench.source.reports(100, LO, inside("eth0", MAC.format(1), "198.51.100.1/25", "2001:db8::1/64"))
    bench.sync()
    assert bench.changed() == [("update", "ipam/ip-addresses", 1)]
    assert bench.netbox.writes[0][2][0]["address"] == "198.51.100.1/25"


def test_an_address_that_is_gone_is_deleted_and_the_primary_follows(bench: Bench) -> None:
    bench.source.reports(100, LO, inside("eth0", MAC.format(1), "198.51.100.8/26"))
    bench.sync()
    assert bench.addresses("vm100") == {"198.51.100.8/26": "net0"}
    assert bench.primary("vm100") == "198.51.100.8/26"
    bench.sync()
    assert bench.netbox.writes == []


def test_a_guest_that_reports_no_address_is_starting_up(bench: Bench) -> None:
    bench.source.reports(100, LO, inside("eth0", MAC.format(1), "fe80::1/64"))
    bench.sync()
    assert bench.netbox.writes == []
    assert bench.primary("vm100") == "198.51.100.1/26"
    bench.source.reports(100, LO, inside("eth0", MAC.format(1), "198.51.100.8/26"))
    bench.sync()
    assert bench.addresses("vm100") == {"198.51.100.8/26": "net0"}
    assert bench.primary("vm100") == "198.51.100.8/26"


def test_a_card_without_addresses_loses_them_while_the_guest_is_up(bench: Bench) -> None:
    bench.source.qemu(100, agent="1", net0=NET0, net1=NET1)
    bench.source.reports(100, inside("a", MAC.format(1), "198.51.100.1/26"), inside("b", MAC.format(2), "10.0.0.1/8"))
    bench.sync()
    assert bench.addresses("vm100") == {"198.51.100.1/26": "net0", "10.0.0.1/8": "net1"}
    bench.source.reports(100, inside("a", MAC.format(1), "198.51.100.1/26"), inside("b", MAC.format(2)))
    bench.sync()
    assert bench.addresses("vm100") == {"198.51.100.1/26": "net0"}


def test_a_changed_cloud_init_address_of_a_guest_without_agent() -> None:
    bench = Bench()
    bench.source.qemu(100, net0=NET0, ipconfig0="ip=198.51.100.1/26")
    bench.sync()
    bench.source.qemu(100, net0=NET0, ipconfig0="ip=198.51.100.2/26")
    bench.sync()
    assert bench.addresses("vm100") == {"198.51.100.2/26": "net0"}
    assert bench.primary("vm100") == "198.51.100.2/26"


def test_the_address_by_which_an_endpoint_is_reached_becomes_its_guests_or_nodes() -> None:
    bench = Bench()
    made = bench.netbox.seed("ipam/ip-addresses", address="198.51.100.1/32")  # tagged, owned by no endpoint
    bench.source.qemu(100, agent="1", net0=NET0)
    bench.source.reports(100, inside("eth0", MAC.format(1), "198.51.100.1/26"))
    bench.sync()
    assert bench.failures == []
    assert bench.netbox.tables["ipam/ip-addresses"][made]["address"] == "198.51.100.1/26"
    assert bench.primary("vm100") == "198.51.100.1/26"


def test_a_narrowed_run_leaves_other_guests_their_addresses(bench: Bench) -> None:
    bench.source.reports(100, inside("eth0", MAC.format(1), "198.51.100.9/26"))
    bench.source.reports(101, inside("eth0", MAC.format(3), "198.51.100.1/26"))
    narrowed = replace(CONTEXT, scope=Scope(vmids=frozenset({101})))
    before = bench.addresses("vm100")
    plans = bench.sync(STAGE, context=narrowed)
    assert bench.addresses("vm100") == before
    assert any("where this run does not look" in skip.reason for skip in plans["vm_addresses"].skips)
    assert bench.failures == []
    bench.sync()
    assert bench.addresses("ct101") == {"198.51.100.1/26": "eth0"}


def test_an_address_of_another_endpoint_is_left_there_with_a_remedy_for_addresses() -> None:
    bench = Bench()
    theirs = bench.netbox.seed("ipam/ip-addresses", address="198.51.100.1/26", cf_proxmox_endpoint="other")
    bench.source.qemu(100, agent="1", net0=NET0)
    bench.source.reports(100, inside("eth0", MAC.format(1), "198.51.100.1/26"))
    bench.sync()
    reasons = list(bench.failures)
    assert any("belongs to endpoint other" in reason and "addresses.ignore_networks" in reason for reason in reasons)
    assert not any("rename" in reason for reason in reasons)
    assert "assigned_object_id" not in bench.netbox.tables["ipam/ip-addresses"][theirs]
