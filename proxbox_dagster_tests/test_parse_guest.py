from __future__ import annotations

from typing import Any

import pytest

from proxbox_dagster.proxmox.parse import ParseProblem
from proxbox_dagster.proxmox.parse.agent import (
    AgentError,
    GuestInterfaces,
    parse_agent_interfaces,
    parse_container_interfaces,
)
from proxbox_dagster.proxmox.parse.disks import Disk, disks, parse_disk
from proxbox_dagster.proxmox.parse.ipconfig import IpConfig, ip_configs
from proxbox_dagster.proxmox.parse.net import MODELS, NetDevice, net_devices, normalize_mac, parse_net

MAC = "52:54:00:AA:BB:CC"


def net(text: str, kind: str = "qemu") -> NetDevice:
    parsed = parse_net("net0", text, kind)
    assert isinstance(parsed, NetDevice), parsed
    return parsed


@pytest.mark.parametrize("model", sorted(MODELS))
def test_net_of_every_model(model: str) -> None:
    forms = [f"{model}={MAC.lower()},bridge=vmbr0", f"model={model},macaddr={MAC},bridge=vmbr0"]
    forms.append(f"{model},bridge=vmbr0,macaddr={MAC}")
    for form in forms:
        parsed = net(form)
        assert (parsed.model, parsed.mac, parsed.bridge, parsed.name) == (model, MAC, "vmbr0", "net0")


def test_net_of_a_model_not_known_yet_is_read_by_its_mac() -> None:
    assert (net(f"igb={MAC},bridge=vmbr1").model, net(f"igb={MAC},bridge=vmbr1").mac) == ("igb", MAC)


def test_net_with_everything_and_what_nobody_reads_may_be_odd() -> None:
    parsed = net(f"virtio={MAC},bridge=vnet7,tag=10,trunks=30-40;10;20,firewall=1,link_down=1,mtu=1,rate=x,queues=4")
    assert (parsed.tag, parsed.trunks) == (10, ((10, 10), (20, 20), (30, 40)))
    assert parsed.link_down
    assert parsed.inherits_mtu


def test_net_without_mac_or_bridge() -> None:
    parsed = net("virtio")
    assert (parsed.model, parsed.mac, parsed.bridge, parsed.mtu) == ("virtio", None, None, None)


def test_net_of_a_container() -> None:
    parsed = net(
        "name=eth0,bridge=vmbr0,firewall=1,hwaddr=5d:cf:bd:b2:c5:39,ip=10.0.0.5/24,gw=10.0.0.1,"
        "ip6=2001:DB8::0005/64,gw6=fe80::1,tag=7,type=veth,mtu=1400",
        "lxc",
    )
    assert (parsed.name, parsed.model, parsed.mac) == ("eth0", "veth", "5D:CF:BD:B2:C5:39")
    assert (parsed.ip, parsed.gw, parsed.ip6, parsed.gw6) == ("10.0.0.5/24", "10.0.0.1", "2001:db8::5/64", "fe80::1")
    assert (parsed.tag, parsed.mtu) == (7, 1400)
    assert net("name=eth0,ip=dhcp,ip6=auto", "lxc").ip6 == "auto"


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        ("virtio=52:54:00,bridge=vmbr0", "qemu", "no MAC address"),
        (f"virtio={MAC},tag=ten", "qemu", "tag"),
        (f"virtio={MAC},trunks=9-1", "qemu", "trunks"),
        ("bridge=vmbr0", "lxc", "no name"),
        ("name=eth0,ip=10.0.0.500/24", "lxc", "ip"),
        (None, "qemu", "no list of properties"),
    ],
)
def test_net_that_cannot_be_read(text: Any, kind: str, reason: str) -> None:
    parsed = parse_net("net0", text, kind)
    assert isinstance(parsed, ParseProblem)
    assert reason in parsed.reason


def test_net_devices_in_the_order_of_their_numbers() -> None:
    config = {"net31": "virtio", "net2": "e1000", "net1": "virtio", "netmask": "x", "scsi0": "a:b"}
    assert list(net_devices(config, "qemu")) == ["net1", "net2", "net31"]


def test_mac_spellings() -> None:
    assert normalize_mac("52-54-00-aa-bb-cc") == normalize_mac("525400AABBCC") == MAC
    assert normalize_mac("52:54:00:aa:bb") is None
    assert normalize_mac(5) is None


def test_ip_configs() -> None:
    found = ip_configs({"ipconfig1": "ip6=auto,ip=dhcp", "ipconfig0": "ip=10.0.0.5/24,gw=10.0.0.1", "ipconfig2": "x"})
    assert found["ipconfig0"] == IpConfig("ipconfig0", "net0", ip="10.0.0.5/24", gw="10.0.0.1")
    assert found["ipconfig1"] == IpConfig("ipconfig1", "net1", ip="dhcp", ip6="auto")
    assert isinstance(found["ipconfig2"], ParseProblem)


@pytest.mark.parametrize(
    ("key", "text", "kind", "expected"),
    [
        ("scsi0", "local-lvm:vm-100-disk-0,size=32G,ssd=1", "qemu",
         Disk("scsi0", "disk", "scsi", "local-lvm", "vm-100-disk-0", 32768, None, None, {"ssd": "1"})),
        ("virtio15", "file=nas:100/vm-100-disk-0.qcow2,size=10240M", "qemu",
         Disk("virtio15", "disk", "virtio", "nas", "100/vm-100-disk-0.qcow2", 10240, "qcow2")),
        ("efidisk0", "local-lvm:vm-100-disk-1,efitype=4m,size=528K", "qemu",
         Disk("efidisk0", "disk", "efidisk", "local-lvm", "vm-100-disk-1", 1, None, None, {"efitype": "4m"})),
        ("tpmstate0", "local-lvm:vm-100-disk-2,size=4M,version=v2.0", "qemu",
         Disk("tpmstate0", "disk", "tpmstate", "local-lvm", "vm-100-disk-2", 4, None, None, {"version": "v2.0"})),
        ("ide2", "none,media=cdrom", "qemu",
         Disk("ide2", "cdrom", "ide", None, None, None, None, None, {"media": "cdrom"})),
        ("ide2", "cdrom", "qemu", Disk("ide2", "cdrom", "ide", None, "cdrom")),
        ("ide2", "local:iso/debian.iso,media=cdrom,size=4985424K", "qemu",
         Disk("ide2", "cdrom", "ide", "local", "iso/debian.iso", 4869, None, None, {"media": "cdrom"})),
        ("ide0", "local-lvm:vm-100-cloudinit,media=cdrom,size=4M", "qemu",
         Disk("ide0", "cloudinit", "ide", "local-lvm", "vm-100-cloudinit", 4, None, None, {"media": "cdrom"})),
        ("ide0", "nas:100/vm-100-cloudinit.qcow2,media=cdrom", "qemu",
         Disk("ide0", "cloudinit", "ide", "nas", "100/vm-100-cloudinit.qcow2", None, "qcow2", None,
              {"media": "cdrom"})),
        ("unused0", "local-lvm:vm-100-disk-9", "qemu",
         Disk("unused0", "unused", "unused", "local-lvm", "vm-100-disk-9")),
        ("scsi3", "/dev/disk/by-id/ata-X=Y,size=1T", "qemu",
         Disk("scsi3", "passthrough", "scsi", None, "/dev/disk/by-id/ata-X=Y", 1048576)),
        ("sata5", "/mnt/file.raw", "qemu", Disk("sata5", "passthrough", "sata", None, "/mnt/file.raw", None, "raw")),
        ("scsi1", "zfs:base-9000-disk-0/vm-100-disk-0,size=8G", "qemu",
         Disk("scsi1", "disk", "scsi", "zfs", "base-9000-disk-0/vm-100-disk-0", 8192, None, "base-9000-disk-0")),
        ("scsi1", "nas:9004/base-9004-disk-0.qcow2/16114/vm-16114-disk-0.qcow2", "qemu",
         Disk("scsi1", "disk", "scsi", "nas", "9004/base-9004-disk-0.qcow2/16114/vm-16114-disk-0.qcow2", None,
              "qcow2", "base-9004-disk-0.qcow2")),
        ("rootfs", "vmstore:subvol-101-disk-0,size=30G", "lxc",
         Disk("rootfs", "disk", "rootfs", "vmstore", "subvol-101-disk-0", 30720, "subvol")),
        ("mp0", "/mnt/foo/bar,mp=/storage", "lxc",
         Disk("mp0", "bind", "mp", None, "/mnt/foo/bar", None, None, None, {"mp": "/storage"})),
        ("mp1", "/dev/sdb1,mp=/data", "lxc",
         Disk("mp1", "passthrough", "mp", None, "/dev/sdb1", None, None, None, {"mp": "/data"})),
        ("mp2", "volume=local:101/vm-101-disk-1.raw,mp=/x,size=1G", "lxc",
         Disk("mp2", "disk", "mp", "local", "101/vm-101-disk-1.raw", 1024, "raw", None, {"mp": "/x"})),
    ],
)  # fmt: skip
def test_disk(key: str, text: str, kind: str, expected: Disk) -> None:
    assert parse_disk(key, text, kind) == expected


def test_disks_of_a_configuration() -> None:
    config = {
        "scsi10": "a:vm-1-disk-1,size=1G",
        "scsi2": "a:vm-1-disk-0,size=1G",
        "scsihw": "virtio-scsi-pci",
        "scsi": "x",
        "virtio0": ",size=1G",
        "ide2": "a:vm-1-disk-2,size=lots",
        "name": "x",
    }
    found = disks(config, "qemu")
    assert list(found) == ["ide2", "scsi2", "scsi10", "virtio0"]
    assert isinstance(found["ide2"], ParseProblem)
    assert isinstance(found["virtio0"], ParseProblem)
    assert list(disks({"rootfs": "a:b,size=1G", "mp0": "/x,mp=/y", "scsi0": "a:b"}, "lxc")) == ["mp0", "rootfs"]


def test_agent_interfaces() -> None:
    answer = {
        "result": [
            {"name": "lo", "hardware-address": "00:00:00:00:00:00",
             "ip-addresses": [{"ip-address": "127.0.0.1", "ip-address-type": "ipv4", "prefix": 8}]},
            {"name": "Ethernet", "hardware-address": "52-54-00-aa-bb-cc",
             "ip-addresses": [
                 {"ip-address": "fe80::1%3", "ip-address-type": "ipv6", "prefix": 64},
                 {"ip-address": "10.0.0.9", "ip-address-type": "ipv4", "prefix": -1},
             ]},
            {"name": "tunnel"},
        ]
    }  # fmt: skip
    parsed = parse_agent_interfaces(answer)
    assert isinstance(parsed, GuestInterfaces)
    assert parsed.problems == ()
    assert list(parsed.interfaces) == [
        {
            "name": "Ethernet",
            "mac": MAC,
            "addresses": [
                {"address": "10.0.0.9", "prefix": None, "family": 4},
                {"address": "fe80::1", "prefix": 64, "family": 6},
            ],
        },
        {"name": "lo", "mac": None, "addresses": [{"address": "127.0.0.1", "prefix": 8, "family": 4}]},
        {"name": "tunnel", "mac": None, "addresses": []},
    ]


def test_agent_error_inside_a_200() -> None:
    refused = {"result": {"error": {"class": "CommandDisabled", "desc": "The command has been disabled"}}}
    assert parse_agent_interfaces(refused) == AgentError("CommandDisabled", "The command has been disabled")
    assert isinstance(parse_agent_interfaces({"result": "?"}), ParseProblem)
    assert isinstance(parse_agent_interfaces(None), ParseProblem)


def test_agent_keeps_what_can_be_read() -> None:
    parsed = parse_agent_interfaces([{"name": "eth0", "ip-addresses": [{"ip-address": "10.0.0.300"}]}, "x"])
    assert isinstance(parsed, GuestInterfaces)
    assert [entry["name"] for entry in parsed.interfaces] == ["eth0"]
    assert len(parsed.problems) == 2


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "eth0", "hwaddr": MAC.lower(), "inet": "10.0.0.5/24", "inet6": "2001:db8::5/64"},
        {
            "name": "eth0",
            "hwaddr": MAC.lower(),
            "hardware-address": MAC.lower(),
            "inet": "10.0.0.5/24",
            "ip-addresses": [
                {"ip-address-type": "inet6", "ip-address": "2001:db8::5", "prefix": "64"},
                {"ip-address-type": "inet", "ip-address": "10.0.0.5", "prefix": 24},
            ],
        },
    ],
)
def test_container_interfaces_of_both_shapes(entry: dict[str, Any]) -> None:
    parsed = parse_container_interfaces([entry])
    assert isinstance(parsed, GuestInterfaces)
    assert list(parsed.interfaces) == [
        {
            "name": "eth0",
            "mac": MAC,
            "addresses": [
                {"address": "10.0.0.5", "prefix": 24, "family": 4},
                {"address": "2001:db8::5", "prefix": 64, "family": 6},
            ],
        }
    ]


def test_container_that_is_stopped_answers_nothing() -> None:
    assert isinstance(parse_container_interfaces(None), ParseProblem)
