"""The order in which purge removes, and rows that are gone before their turn comes; over a NetBox in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from proxbox_dagster import stages
from proxbox_dagster.netbox.client import NetBoxClient
from proxbox_dagster.netbox.errors import RowsRefused
from proxbox_dagster.netbox.state import NetBoxState
from proxbox_dagster.purge import Owned, children_first, remove
from proxbox_dagster_tests.support.core import fake
from proxbox_dagster_tests.support.core_specs import MACHINE


def test_what_netbox_would_delete_along_is_removed_before_what_it_hangs_on() -> None:
    specs = stages.specs(plugin=True)
    order = [spec.path for spec in children_first(specs)]
    assert sorted(order) == sorted({spec.path for spec in specs if not spec.update_only})
    for spec in specs:
        for child, _filter in spec.children:
            if child in order and child != spec.path:
                assert order.index(child) < order.index(spec.path), (child, spec.path)


def test_scenario_52_a_row_that_is_gone_already_is_removed_and_one_that_netbox_refuses_is_kept() -> None:
    netbox = fake()
    for number in range(5):
        netbox.add(MACHINE.path, name=f"vm{number}")
    rows = netbox.all(MACHINE.path)
    netbox.delete(MACHINE.path, [rows[1]["id"]])  # another deletion took it along
    delete = netbox.delete

    def protected(path: str, ids: Sequence[int]) -> None:
        if rows[3]["id"] in ids:
            raise RowsRefused("vm3 is protected", {})
        delete(path, ids)

    netbox.delete = protected  # type: ignore[method-assign]
    item = Owned(MACHINE, rows)
    assert not remove(cast(NetBoxClient, netbox), NetBoxState(cast(Any, netbox), "small", [MACHINE]), item)
    assert item.deleted == 4
    assert item.kept == ["vm3: vm3 is protected"]
    assert [row["name"] for row in netbox.all(MACHINE.path)] == ["vm3"]
