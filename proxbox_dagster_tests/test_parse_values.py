from __future__ import annotations

from typing import Any

import pytest

from proxbox_dagster.proxmox.parse import ParseProblem
from proxbox_dagster.proxmox.parse.prune import Prune, parse_prune
from proxbox_dagster.proxmox.parse.smbios import parse_smbios_uuid
from proxbox_dagster.proxmox.parse.tags import TagStyle, parse_tag_style, parse_tags, tag_slug
from proxbox_dagster.proxmox.parse.upid import Upid, parse_upid
from proxbox_dagster.proxmox.parse.values import properties, size_to_mib, to_bool, to_float, to_int, to_str
from proxbox_dagster.proxmox.parse.volid import parse_volid


@pytest.mark.parametrize(
    ("value", "expected"),
    [(100, 100), ("100", 100), ("5217320960", 5217320960), (7.0, 7), (True, 1), ("", None), (None, None), ("-1", -1)],
)
def test_to_int(value: Any, expected: int | None) -> None:
    assert to_int(value) == expected


@pytest.mark.parametrize("value", ["abc", "1.5", 1.5, [], {}, float("nan"), "9" * 5000])
def test_to_int_problem(value: Any) -> None:
    assert isinstance(to_int(value), ParseProblem)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, True), (0, False), ("1", True), ("0", False), ("", False), (None, None), (True, True), ("yes", True)],
)
def test_to_bool(value: Any, expected: bool | None) -> None:
    assert to_bool(value) is expected


def test_scalars_that_are_none() -> None:
    assert isinstance(to_bool("maybe"), ParseProblem)
    assert isinstance(to_bool(2), ParseProblem)
    assert isinstance(to_float("inf"), ParseProblem)
    assert isinstance(to_str(["a"]), ParseProblem)
    assert to_float("0.25") == 0.25
    assert to_str(4096) == "4096"


@pytest.mark.parametrize(
    ("text", "mib"),
    [
        ("32G", 32768),
        ("10240M", 10240),
        ("10G", 10240),
        ("1T", 1048576),
        ("528K", 1),
        ("1K", 1),
        ("0T", 0),
        ("104858K", 103),
        ("4985424K", 4869),
        ("4194304", 4),
        (4194304, 4),
        ("1", 1),
        ("1.5G", 1536),
        ("4M", 4),
    ],
)
def test_sizes_in_mib_rounded_up(text: str, mib: int) -> None:
    assert size_to_mib(text) == mib


@pytest.mark.parametrize("text", ["", "G", "-1G", "1X", None, [], "1 2"])
def test_sizes_that_are_none(text: Any) -> None:
    assert isinstance(size_to_mib(text), ParseProblem)


def test_properties() -> None:
    assert properties("1,fstrim_cloned_disks=1", "enabled") == {"enabled": "1", "fstrim_cloned_disks": "1"}
    assert properties({"keep-last": 4, "keep-all": True}) == {"keep-last": "4", "keep-all": "1"}
    assert properties("a=b=c, d=") == {"a": "b=c", "d": ""}
    assert isinstance(properties("x"), ParseProblem)
    assert isinstance(properties("a=1,a=2"), ParseProblem)
    assert isinstance(properties("x,y", "k"), ParseProblem)


def test_upid() -> None:
    text = "UPID:pve1:0002A3F1:01B2C3D4:65B9F5A0:vzdump:100:root@pam!backup:"
    assert parse_upid(text) == Upid("pve1", 0x2A3F1, 0x1B2C3D4, 0x65B9F5A0, "vzdump", "100", "root@pam", "backup")
    nine_digits = parse_upid("UPID:pve-2:0002A3F1:101B2C3D4:65B9F5A0:vzdump::root@pam:")
    assert isinstance(nine_digits, Upid)
    assert (nine_digits.pstart, nine_digits.id, nine_digits.tokenid) == (0x101B2C3D4, "", None)
    assert isinstance(parse_upid("UPID:pve1:zz:1:2:a:b:c:"), ParseProblem)


@pytest.mark.parametrize(
    ("volid", "guest_type", "vmid", "time", "suffix"),
    [
        (
            "local:backup/vzdump-qemu-100-2024_01_31-02_00_00.vma.zst",
            "qemu",
            100,
            "2024-01-31T02:00:00",
            "vma.zst",
        ),
        ("nas:backup/vzdump-lxc-16112-2020_03_30-21_59_30.tgz", "lxc", 16112, "2020-03-30T21:59:30", "tgz"),
        (
            "nas:backup/vzdump-openvz-7-2020_03_30-21_39_30.tar.bz2",
            "lxc",
            7,
            "2020-03-30T21:39:30",
            "tar.bz2",
        ),
        ("pbs:backup/vm/100/2024-01-01T00:00:00Z", "qemu", 100, "2024-01-01T00:00:00+00:00", "pbs-vm"),
        ("pbs:backup/ct/101/2024-01-01T00:00:00Z", "lxc", 101, "2024-01-01T00:00:00+00:00", "pbs-ct"),
        ("pbs:backup/host/pve1/2024-01-01T00:00:00Z", None, None, None, None),
        ("local:backup/before-upgrade.vma.zst", None, None, None, None),
    ],
)
def test_volid(volid: str, guest_type: str | None, vmid: int | None, time: str | None, suffix: str | None) -> None:
    volume = parse_volid(volid)
    assert not isinstance(volume, ParseProblem)
    assert volume.storage == volid.split(":")[0]
    assert (volume.guest_type, volume.vmid, volume.format) == (guest_type, vmid, suffix)
    assert (volume.time and volume.time.isoformat()) == time


def test_volid_with_an_impossible_date_keeps_its_guest() -> None:
    volume = parse_volid("local:backup/vzdump-qemu-100-2024_13_01-02_00_00.vma.zst")
    assert not isinstance(volume, ParseProblem)
    assert (volume.vmid, volume.time) == (100, None)


@pytest.mark.parametrize("text", ["prod;Web", "prod,Web", "prod Web", "Web, prod", ["Web", "prod"], "prod;;Web;"])
def test_tags_with_every_separator(text: Any) -> None:
    tags = parse_tags(text)
    assert not isinstance(tags, ParseProblem)
    assert [(tag.name, tag.slug) for tag in tags] == [("prod", "prod"), ("Web", "web")]


def test_tags_of_odd_characters() -> None:
    assert parse_tags(None) == ()
    assert parse_tags("") == ()
    assert tag_slug("c++") != tag_slug("c")
    assert tag_slug("go-proxmox+cloud-init") == "go-proxmox-plus-cloud-init"
    assert tag_slug("snake_case") == "snake_case"
    assert tag_slug("...").startswith("tag-")
    tags = parse_tags("Prod;prod")
    assert not isinstance(tags, ParseProblem)
    assert [tag.name for tag in tags] == ["Prod"]


@pytest.mark.parametrize(
    "value",
    [
        "color-map=prod:FF0000;web:00ff00:FFFFFF,shape=full",
        {"color-map": "prod:FF0000;web:00ff00:FFFFFF", "shape": "full"},
    ],
)
def test_tag_style(value: Any) -> None:
    style = parse_tag_style(value)
    assert isinstance(style, TagStyle)
    assert style.colors == {"prod": "ff0000", "web": "00ff00"}
    assert style.text_colors == {"web": "ffffff"}
    assert style.color("PROD") == "ff0000"
    assert style.color("other") is None


def test_tag_style_keeps_what_can_be_read() -> None:
    style = parse_tag_style("color-map=prod:red;web:00ff00,case-sensitive=1")
    assert isinstance(style, TagStyle)
    assert style.color("web") == "00ff00"
    assert style.color("Web") is None
    assert [problem.text for problem in style.problems] == ["prod:red"]
    assert parse_tag_style(None) == TagStyle()


def test_prune() -> None:
    assert parse_prune("keep-last=3,keep-daily=7") == Prune(keep_last=3, keep_daily=7)
    assert parse_prune({"keep-last": "4"}) == Prune(keep_last=4)
    assert parse_prune("keep-all=1") == Prune(keep_all=True)
    assert parse_prune(None) == Prune()
    assert str(Prune(keep_daily=7, keep_last=3)) == "keep-last=3,keep-daily=7"
    assert str(parse_prune({"keep-all": 1})) == "keep-all=1"
    assert isinstance(parse_prune("keep-last=-1"), ParseProblem)
    assert isinstance(parse_prune("keep-last=x"), ParseProblem)


def test_identity_of_a_guest() -> None:
    uuid = "5F9C0F1E-7C57-4C1B-9C5B-3F6F0A8A1B2C"
    assert parse_smbios_uuid(f"uuid={uuid},manufacturer=cXVhbg==,base64=1") == uuid.lower()
    assert parse_smbios_uuid("manufacturer=x") is None
    assert parse_smbios_uuid(None) is None
    assert isinstance(parse_smbios_uuid("uuid=nonsense"), ParseProblem)
