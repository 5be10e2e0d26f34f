"""The code version of an asset changes with what makes its rows, and with nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from proxbox_dagster import code_version as module
from proxbox_dagster.code_version import code_version
from proxbox_dagster.stages import BY_NAME

DISKS = BY_NAME["virtual_disks"]


def versions(stage: str) -> list[str]:
    return [code_version(BY_NAME[stage], item) for item in BY_NAME[stage].object_classes]


def test_another_rule_for_a_field_is_another_version() -> None:
    item = DISKS.object_classes[0]
    first, *rest = item.spec.fields
    changed = replace(item, spec=replace(item.spec, fields=(replace(first, conversion="another one"), *rest)))
    assert code_version(DISKS, changed) != code_version(DISKS, item)
    assert code_version(DISKS, replace(item)) == code_version(DISKS, item)


@pytest.mark.parametrize(
    "source",
    ["proxbox_dagster.stages.virtual_disks", "proxbox_dagster.stages.common", "proxbox_dagster.proxmox.parse.disks"],
)
def test_another_mapping_or_parser_is_another_version(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    before, elsewhere = versions("virtual_disks"), versions("devices")
    read = module._source
    monkeypatch.setattr(module, "_source", lambda name: read(name) + ("# changed" if name == source else ""))
    assert not set(versions("virtual_disks")) & set(before)
    assert (versions("devices") == elsewhere) == (source != "proxbox_dagster.stages.common")
