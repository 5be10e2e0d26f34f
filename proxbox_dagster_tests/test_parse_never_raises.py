"""No parser raises, whatever stands in the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxbox_dagster.proxmox.parse import (
    ParseProblem,
    agent,
    disks,
    ipconfig,
    net,
    prune,
    smbios,
    tags,
    upid,
    values,
    volid,
)

_PIECES = st.sampled_from(
    [
        "virtio",
        "e1000",
        "=",
        ",",
        ";",
        ":",
        "/",
        "-",
        ".",
        "%",
        "!",
        "@",
        "net0",
        "bridge=vmbr0",
        "tag=4095",
        "trunks=1-9",
        "mtu=1",
        "ip=10.0.0.1/24",
        "ip6=auto",
        "hwaddr",
        "AA:BB:CC:DD:EE:FF",
        "size=1",
        "G",
        "K",
        "none",
        "media=cdrom",
        "local:vm-1-disk-0",
        "base-9/",
        "keep-last=3",
        "UPID:n:00000001:00000002",
        "backup/vzdump-qemu-100-2024_13_01-00_00_00.vma.zst",
        "color-map=a:ff0000",
        "uuid=",
        "-1",
        "1e999",
        "٣",
        "\x00",
        "\ud800",
    ]
)
TEXTS = st.one_of(st.text(max_size=60), st.lists(_PIECES, max_size=8).map("".join))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(
                TEXTS,
                st.sampled_from(
                    ["result", "error", "name", "inet", "ip-addresses", "ip-address", "prefix", "hwaddr", "net0",
                     "scsi0", "rootfs", "mp0", "ipconfig1", "keep-last", "color-map", "class"]
                ),
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)  # fmt: skip

PARSERS: dict[str, Callable[[Any], Any]] = {
    "to_int": values.to_int,
    "to_float": values.to_float,
    "to_bool": values.to_bool,
    "to_str": values.to_str,
    "size_to_mib": values.size_to_mib,
    "properties": values.properties,
    "normalize_mac": net.normalize_mac,
    "net qemu": lambda value: net.parse_net("net0", value, "qemu"),
    "net lxc": lambda value: net.parse_net("net0", value, "lxc"),
    "ipconfig": lambda value: ipconfig.parse_ipconfig("ipconfig0", value),
    "disk qemu": lambda value: disks.parse_disk("scsi0", value, "qemu"),
    "disk lxc": lambda value: disks.parse_disk("mp0", value, "lxc"),
    "volid": volid.parse_volid,
    "upid": upid.parse_upid,
    "tags": tags.parse_tags,
    "tag_style": tags.parse_tag_style,
    "agent": agent.parse_agent_interfaces,
    "container": agent.parse_container_interfaces,
    "prune": prune.parse_prune,
    "smbios": smbios.parse_smbios_uuid,
}


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=120, deadline=None)
@given(value=st.one_of(TEXTS, JSON))
def test_never_raises_and_says_what_it_could_not_read(name: str, value: Any) -> None:
    result = PARSERS[name](value)
    hash(type(result))
    if isinstance(result, ParseProblem):
        assert result.reason
        assert len(result.text) <= 120
        assert str(result)


@settings(max_examples=120, deadline=None)
@given(config=st.dictionaries(st.one_of(TEXTS, st.sampled_from(["net0", "net31", "scsi0", "mp1", "rootfs"])), JSON))
@pytest.mark.parametrize("kind", ["qemu", "lxc"])
def test_whole_configurations_never_raise(kind: str, config: dict[str, Any]) -> None:
    for found in (net.net_devices(config, kind), disks.disks(config, kind), ipconfig.ip_configs(config)):
        assert set(found) <= set(config)


@given(value=st.integers(min_value=-(10**12), max_value=10**12))
def test_a_number_reads_the_same_however_it_is_spelled(value: int) -> None:
    assert values.to_int(value) == values.to_int(str(value)) == values.to_int(f" {value}.0 ") == value
    assert values.to_float(str(value)) == float(value)


@given(gib=st.integers(min_value=1, max_value=10**6))
def test_a_size_reads_the_same_in_every_unit(gib: int) -> None:
    spellings = [f"{gib}G", f"{gib * 1024}M", f"{gib * 1024**2}K", str(gib * 1024**3)]
    assert {values.size_to_mib(text) for text in spellings} == {gib * 1024}


@given(names=st.lists(st.from_regex(r"[a-z0-9_][a-z0-9_.+-]{0,12}", fullmatch=True), max_size=6), data=st.data())
def test_tags_do_not_depend_on_separator_or_order(names: list[str], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(names))
    separator = data.draw(st.sampled_from([";", ",", " ", ", "]))
    slugs = [tag.slug for tag in tags.parse_tags(";".join(names))]  # type: ignore[union-attr]
    assert [tag.slug for tag in tags.parse_tags(separator.join(shuffled))] == slugs  # type: ignore[union-attr]
    assert all(slugs)


@given(
    answer=st.lists(
        st.fixed_dictionaries(
            {"name": st.sampled_from(["eth0", "eth1", "lo"]), "hardware-address": st.just("52:54:00:aa:bb:cc")},
            optional={
                "ip-addresses": st.lists(
                    st.fixed_dictionaries(
                        {"ip-address": st.ip_addresses().map(str), "prefix": st.integers(-1, 32)}
                    ),
                    max_size=3,
                )
            },
        ),
        max_size=3,
        unique_by=lambda entry: str(entry["name"]),
    ),
    data=st.data(),
)  # fmt: skip
def test_agent_answer_does_not_depend_on_order(answer: list[dict[str, Any]], data: st.DataObject) -> None:
    shuffled = [
        {**entry, "ip-addresses": data.draw(st.permutations(entry["ip-addresses"]))}
        if "ip-addresses" in entry
        else entry
        for entry in data.draw(st.permutations(answer))
    ]
    once, again = agent.parse_agent_interfaces({"result": answer}), agent.parse_agent_interfaces(shuffled)
    assert isinstance(once, agent.GuestInterfaces)
    assert isinstance(again, agent.GuestInterfaces)
    addresses = {a["address"] for entry in once.interfaces for a in entry["addresses"]}
    assert addresses == {a["address"] for entry in again.interfaces for a in entry["addresses"]}
    assert [entry["name"] for entry in once.interfaces] == [entry["name"] for entry in again.interfaces]
