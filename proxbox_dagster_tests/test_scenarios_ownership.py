"""What people made or changed in NetBox stays theirs, in every kind of run. On the real NetBox."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from proxbox_dagster_tests.support.synced import VMS, Synced, described, errors, laid_out, lend, synced

pytestmark = pytest.mark.xdist_group("scenarios_ownership")
MEMORY = "proxbox_last_written"


@pytest.fixture(scope="module")
def shared(netbox_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synced]:
    with synced(netbox_server, tmp_path_factory.mktemp("ownership"), small=described("small")) as lab:
        yield lab


@pytest.fixture
def lab(shared: Synced, request: pytest.FixtureRequest) -> Iterator[Synced]:
    yield from lend(shared, request)


def edit(lab: Synced, path: str, row_id: int, **values: Any) -> None:
    """What a person does in NetBox."""
    client = lab.client()
    client.update(path, [{"id": row_id, **values}])
    client.close()


# -- the memory of what we last wrote -----------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["{}", '"text"', "[1, 2]", '{"name": 7, "description": ["x"], "tags": "y"}', "null"])
def test_a_damaged_memory_overwrites_nothing_and_is_made_good(damage: str, lab: Synced) -> None:
    cluster, vm = lab.clusters["small"], lab.vm(101)
    edit(lab, VMS, vm["id"], description="by hand")
    lab.netbox.sql(
        "update virtualization_virtualmachine set custom_field_data ="
        " jsonb_set(custom_field_data, '{proxbox_last_written}', %s::jsonb) where id = %s",
        damage,
        vm["id"],
    )
    cluster.set_config("qemu", 101, "description", f"from the source {len(damage)}")
    cluster.set_config("qemu", 101, "tags", "db;new")
    lab.run(vmids=(101,))
    row = lab.vm(101)
    assert row["description"] == "by hand"
    assert {item["slug"] for item in row["tags"]} >= {item["slug"] for item in vm["tags"]}
    assert row["custom_fields"][MEMORY]["name"] == "db01", "what both sides say alike is remembered again"
    lab.run(vmids=(101,))
    assert lab.written() == []
    cluster.set_config("qemu", 101, "description", None)
    cluster.set_config("qemu", 101, "tags", "db")
    edit(lab, VMS, vm["id"], description="", tags=[{"slug": item["slug"]} for item in vm["tags"]])
    lab.run(vmids=(101,))
