"""Stage 10: which addresses guests have, who gets one that several claim, and which is primary."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from proxbox_dagster.facts import UNOBSERVED, Gap, GapKind
from proxbox_dagster.netbox.spec import Desired, Outcome, Ref
from proxbox_dagster.proxmox.parse.net import NetDevice
from proxbox_dagster.settings import AddressConfig
from proxbox_dagster.stages.guest_addresses import Claim, Strength, primary
from proxbox_dagster.stages.guest_nics import AddressRules
from proxbox_dagster.stages.guests import Guest
from proxbox_dagster.stages.vm_ip_addresses import build
from proxbox_dagster_tests.support.networking import CONTEXT, LO, MAC, NET0, NET1, Source, inside, one
from proxbox_dagster_tests.support.sources import shuffled


def told(source: Source, context: Any = CONTEXT) -> dict[str, str]:
    """Address to the card that gets it."""
    rows = one(build(source.inputs(), context), "vm_addresses").rows
    return {row.values["address"]: f"{row.values['assigned_object_id'].key[0].key[2]} {_nic(row)}" for row in rows}


def _nic(row: Any) -> str:
    return str(row.values["assigned_object_id"].key[1])


def covered(desired: Desired) -> set[tuple[int, str]]:
    return {(ref.key[0].key[2], ref.key[1]) for ref in desired.coverage.parents}


# -- what is taken ----------------------------------------------------------------------------------------------


def test_addresses_of_the_agent_go_to_the_card_with_the_mac() -> None:
    source = Source()
    source.qemu(100, agent="1", net0=NET0, net1=NET1)
    source.reports(
        100,
        LO,
        inside("eth1", MAC.format(2), "2001:db8::2/64", "fe80::2%3/64"),
        inside("eth0", MAC.format(1).lower(), "198.51.100.1/26", "169.254.7.7/16"),
        inside("eth0.30", MAC.format(1), "203.0.113.1/24"),
        inside("docker0", MAC.format(1), "172.17.0.1/16"),
        inside("br-4f3a", "02:42:00:00:00:01", "172.18.0.1/16"),
        inside("wg0", "", "10.8.0.2/24"),
    )
    made = one(build(source.inputs(), CONTEXT), "vm_addresses")
    assert told(source) == {"198.51.100.1/26": "100 net0", "203.0.113.1/24": "100 net0", "2001:db8::2/64": "100 net1"}
    assert made.skips == []
    assert covered(made) == {(100, "net0"), (100, "net1")}
    values = made.rows[0].values
    assert (values["status"], values["assigned_object_type"]) == ("active", "virtualization.vminterface")


def test_the_settings_say_what_is_noise() -> None:
    source = Source()
    source.qemu(100, agent="1", net0=NET0)
    source.reports(100, inside("eth0", MAC.format(1), "198.51.100.1/26", "10.1.0.1/8"), inside("v0", MAC.format(1)))
    rules = AddressConfig(ignore_networks=("10.0.0.0/8",), ignore_interfaces=("v*",))
    context = replace(CONTEXT, addresses=rules)
    assert told(source, context) == {"198.51.100.1/26": "100 net0"}


def test_what_is_no_network_is_refused_with_the_settings() -> None:
    with pytest.raises(ValidationError, match="no network such as"):
        AddressConfig(ignore_networks=("no network",))


def test_windows_tells_no_prefix_length() -> None:
    source = Source()
    source.qemu(100, agent="1", net0=NET0, ipconfig0="ip=198.51.100.1/26")
    source.reports(100, inside("Ethernet", MAC.format(1), "198.51.100.1", "203.0.113.7", "2001:db8::7", "fe80::1%12"))
    made = one(build(source.inputs(), CONTEXT), "vm_addresses")
    assert [row.values["address"] for row in made] == ["198.51.100.1/26", "203.0.113.7/32", "2001:db8::7/128"]
    assert [note.split(" reports ")[1] for note in made.notes] == [
        "203.0.113.7 without a prefix length: 203.0.113.7/32",
        "2001:db8::7 without a prefix length: 2001:db8::7/128",
    ]


def test_addresses_that_netbox_refuses_are_told() -> None:
    source = Source()
    source.qemu(100, agent="1", net0=NET0)
    source.reports(
        100, inside("eth0", MAC.format(1), "198.51.100.0/26", "198.51.100.63/26", "192.0.2.0/31", "2001:db8::/64")
    )
    made = one(build(source.inputs(), CONTEXT), "vm_addresses")
    assert [row.values["address"] for row in made] == ["192.0.2.0/31"]
    assert len([skip for skip in made.skips if "which NetBox does not take" in skip.reason]) == 3


def test_a_running_container_tells_by_mac_or_name_and_has_a_dns_name() -> None:
    source = Source()
    source.lxc(
        101,
        hostname="Web",
        searchdomain="Example.com other.example",
        net0=f"name=eth0,bridge=vmbr0,hwaddr={MAC.format(3)},ip=dhcp",
        net1="name=eth1,bridge=vmbr0,ip=203.0.113.9/24",
    )
    source.reports(
        101,
        LO,
        inside("eth0", MAC.format(3), "198.51.100.3/24"),
        inside("eth1", MAC.format(4), "203.0.113.10/24"),
        inside("docker0", MAC.format(5), "172.17.0.1/16"),
    )
    assert told(source) == {"198.51.100.3/24": "101 net0", "203.0.113.10/24": "101 net1"}
    made = one(build(source.inputs(), CONTEXT), "vm_addresses")
    assert {row.values["dns_name"] for row in made} == {"web.example.com"}
    assert covered(made) == {(101, "net0"), (101, "net1")}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"hostname": "ct.example.org"}, "ct.example.org"),
        ({"hostname": "ct"}, UNOBSERVED),
        ({"hostname": "bad host", "searchdomain": "example.org"}, UNOBSERVED),
        ({"hostname": "ct.", "searchdomain": ".Example.org."}, "ct.example.org"),
    ],
)
def test_dns_names(config: dict[str, Any], expected: Any) -> None:
    source = Source()
    source.lxc(101, status="stopped", net0="name=eth0,ip=203.0.113.9/24", **config)
    assert one(build(source.inputs(), CONTEXT), "vm_addresses").rows[0].values["dns_name"] == expected


def test_a_stopped_container_has_its_static_addresses_presumably() -> None:
    source = Source()
    source.lxc(101, status="stopped", net0="name=eth0,ip=203.0.113.9/24,gw=203.0.113.1,ip6=2001:DB8::9/64")
    source.lxc(102, status="stopped", net0="name=eth0,ip=dhcp,ip6=auto", net1="name=eth1,ip=manual")
    made = one(build(source.inputs(), CONTEXT), "vm_addresses")
    assert told(source) == {"203.0.113.9/24": "101 net0", "2001:db8::9/64": "101 net0"}
    assert all(row.only_new for row in made)
    assert made.coverage.parents == frozenset()
    assert [(skip.label, skip.outcome) for skip in made.skips] == [("ct102 (lxc/102)", Outcome.SKIPPED)]
    assert "lxc/102 is not running" in made.skips[0].reason


def test_cloud_init_counts_when_the_agent_gives_nothing() -> None:
    source = Source()
    source.qemu(100, net0=NET0, ipconfig0="ip=198.51.100.1/26,gw=198.51.100.62")  # no agent: all there is
    source.qemu(101, agent="1", net0=NET1, ipconfig0="ip=198.51.100.2/26")  # silent
    source.qemu(
        102, agent="1", net1=f"virtio={MAC.format(3)}", ipconfig1="ip=198.51.100.3/26", ipconfig0="ip=1.2.3.4/8"
    )
    source.reports(102, LO, inside("eth0", MAC.format(3)))
    source.qemu(103, net0=f"virtio={MAC.format(4)}", ipconfig0="ip=dhcp,ip6=auto")
    source.qemu(104, net0=f"virtio={MAC.format(5)}", ipconfig0="ip=nonsense")
    made = one(build(source.inputs(), CONTEXT), "vm_addresses")
    assert {row.values["address"]: row.only_new for row in made} == {
        "198.51.100.1/26": False,
        "198.51.100.2/26": True,
        "198.51.100.3/26": False,
    }
    assert covered(made) == {(100, "net0")}
    assert any("its configured address cannot be read" in skip.reason for skip in made.skips if "vm104" in skip.label)


def test_templates_have_no_addresses() -> None:
    source = Source()
    source.qemu(100, status="stopped", template=1, net0=NET0, ipconfig0="ip=198.51.100.1/26")
    assert build(source.inputs(), CONTEXT)[0].rows == []


def test_what_could_not_be_read_is_a_failure_and_covers_nothing() -> None:
    source = Source()
    source.qemu(100, agent="1", net0=NET0)
    source.qemu(101, agent="1", net0=NET1)
    source.reports(101, inside("eth0", MAC.format(2), "198.51.100.2/26"))
    source.gap("guest_agent", "qemu", 100, GapKind.PERMISSION, "403 Permission check failed")
    source.gap("guest_agent", "qemu", 101, GapKind.UNREADABLE, "no IP address: 'x'")
    source.gaps["guest_agent"].append(Gap("all", "", GapKind.PERMISSION, "VM.Audit is missing on /vms"))
    made = one(build(source.inputs(), CONTEXT), "vm_addresses")
    assert [(skip.label, skip.outcome) for skip in made.skips] == [
        ("vm100 (qemu/100)", Outcome.FAILED),
        ("vm101 (qemu/101)", Outcome.SKIPPED),
    ]
    assert covered(made) == set()
    source.gaps["guest_agent"].pop(1)
    assert covered(one(build(source.inputs(), CONTEXT), "vm_addresses")) == {(101, "net0")}


# -- who gets it ------------------------------------------------------------------------------------------------


def conflict(source: Source) -> dict[str, tuple[Outcome, Any]]:
    made = one(build(source.inputs(), CONTEXT), "vm_addresses")
    return {skip.label: (skip.outcome, skip.key) for skip in made.skips}


def test_31_two_running_guests_report_one_address() -> None:
    source = Source()
    for vmid, nic in ((100, NET0), (101, NET1)):
        source.qemu(vmid, agent="1", net0=nic)
        source.reports(vmid, inside("eth0", MAC.format(vmid - 99), "198.51.100.1/26", f"198.51.100.{vmid}/24"))
    assert told(source) == {"198.51.100.100/24": "100 net0", "198.51.100.101/24": "101 net0"}
    key = ("ams1", "198.51.100.1")
    assert conflict(source) == {
        "198.51.100.1 of vm100 (qemu/100) net0": (Outcome.FAILED, key),
        "198.51.100.1 of vm101 (qemu/101) net0": (Outcome.FAILED, key),
    }
    reasons = [skip.reason for skip in one(build(source.inputs(), CONTEXT), "vm_addresses").skips]
    assert "vm101 (qemu/101) net0 reports 198.51.100.1 too" in reasons[0]


def test_what_is_reported_beats_what_is_configured() -> None:
    source = Source()
    source.lxc(101, status="stopped", net0="name=eth0,ip=198.51.100.1/26")
    source.qemu(102, agent="1", net0=NET0)
    source.reports(102, inside("eth0", MAC.format(1), "198.51.100.1/26"))
    assert told(source) == {"198.51.100.1/26": "102 net0"}
    assert conflict(source) == {"198.51.100.1 of ct101 (lxc/101) net0": (Outcome.SKIPPED, None)}


def test_stopped_clones_with_one_address_are_no_failure() -> None:
    source = Source()
    for vmid in (101, 102):
        source.lxc(vmid, status="stopped", net0="name=eth0,ip=198.51.100.1/26")
    assert told(source) == {}
    assert {outcome for outcome, _ in conflict(source).values()} == {Outcome.SKIPPED}


def test_the_address_of_a_node_is_the_nodes() -> None:
    source = Source()
    source.networks[0] |= {"cidr": "198.51.100.1/24"}
    source.qemu(102, agent="1", net0=NET0)
    source.reports(102, inside("eth0", MAC.format(1), "198.51.100.1/26"))
    made = one(build(source.inputs(), CONTEXT), "vm_addresses")
    assert made.rows == []
    assert "is the address of node pve1 (vmbr0)" in made.skips[0].reason
    assert made.skips[0].outcome is Outcome.FAILED


def test_one_address_on_two_cards_of_one_guest_is_on_the_first() -> None:
    source = Source()
    source.qemu(100, agent="1", net0=NET0, net1=NET0, net2=NET1)
    source.reports(
        100, inside("bond0", MAC.format(1), "198.51.100.1/26"), inside("e", MAC.format(2), "198.51.100.1/26")
    )
    assert told(source) == {"198.51.100.1/26": "100 net0"}
    assert conflict(source) == {}


@pytest.mark.parametrize("seed", range(3))
def test_2_the_order_of_answers_makes_no_difference(seed: int) -> None:
    source = Source()
    for vmid in range(100, 106):
        source.qemu(vmid, agent="1", net0=f"virtio={MAC.format(vmid)},bridge=vmbr0")
        source.reports(
            vmid, inside("a", MAC.format(vmid), f"10.0.0.{vmid}/24", "10.0.0.7/24"), inside("b", MAC.format(vmid))
        )
    straight, mixed = build(source.inputs(), CONTEXT), build(shuffled(source.inputs(), seed), CONTEXT)
    for one_class, other in zip(straight, mixed, strict=True):
        assert [(row.label, row.values) for row in one_class] == [(row.label, row.values) for row in other]
        assert one_class.skips == other.skips


# -- the primary one --------------------------------------------------------------------------------------------


def claim(text: str, net: int = 0, **more: Any) -> Claim:
    guest = Guest("qemu", 100, "pve1", {}, {}, None)
    card = NetDevice(f"net{net}", f"net{net}", mac=MAC.format(1))
    given = {"strength": Strength.REPORTED, "configured": False, "gateway": False, **more}
    return Claim(guest, card, ipaddress.ip_interface(text), **given)


def rules(*preference: str) -> AddressRules:
    return AddressRules(AddressConfig(primary_preference=preference))


@pytest.mark.parametrize(
    ("claims", "best"),
    [
        ([claim("10.0.0.9/24"), claim("10.0.0.10/24")], "10.0.0.9"),
        ([claim("10.0.0.9/24", 1), claim("10.0.0.10/24", 0)], "10.0.0.10"),
        ([claim("10.0.0.9/24", 0), claim("10.0.0.10/24", 2, gateway=True)], "10.0.0.10"),
        ([claim("10.0.0.9/24"), claim("10.0.0.10/24", configured=True)], "10.0.0.10"),
        ([claim("10.0.0.9/32"), claim("10.0.0.10/24")], "10.0.0.10"),
        ([claim("10.0.0.9/24", gateway=True), claim("192.0.2.10/24", 9)], "192.0.2.10"),
    ],
)
def test_34_the_primary_address(claims: list[Claim], best: str) -> None:
    found = primary(claims, 4, rules("192.0.2.0/24"))
    assert found is not None
    assert found.host == best
    assert primary(reversed(claims), 4, rules("192.0.2.0/24")) == found


def test_34_the_primary_ipv6_address() -> None:
    stable = "2001:db8::be24:11ff:fe00:1/64"
    claims = [claim("fd00::1/64"), claim("2001:db8::1:2:3/64"), claim(stable), claim("10.0.0.1/8")]
    found = primary(claims, 6, rules())
    assert found is not None
    assert str(found.interface) == stable, "made from the card's MAC, so it does not change by the day"
    assert primary(claims[:1], 6, rules()) == claims[0]
    assert primary(claims[3:], 6, rules()) is None


@given(st.permutations([claim(f"10.0.{n}.{n * 3 % 7 + 1}/24", n % 3, gateway=n == 4) for n in range(6)]))
@settings(max_examples=30, deadline=None)
def test_34_the_primary_address_does_not_depend_on_order(claims: list[Claim]) -> None:
    found = primary(claims, 4, rules())
    assert found is not None
    assert found.gateway


def test_a_silent_guest_keeps_its_primary_address() -> None:
    source = Source()
    source.qemu(100, agent="1", net0=NET0, ipconfig0="ip=198.51.100.1/26")
    row = one(build(source.inputs(), CONTEXT), "vm_primary_addresses").rows[0]
    assert "primary_ip4" not in row.values
    assert row.initial == {"primary_ip4": Ref("ip_addresses", ("ams1", "198.51.100.1"))}
