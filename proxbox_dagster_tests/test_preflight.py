"""What a run is narrowed to must be there: a green run that has done nothing would look like a sync."""

from __future__ import annotations

import pytest

from proxbox_dagster import stages
from proxbox_dagster.facts import Fetched, frame_of
from proxbox_dagster.preflight import unknown_scope
from proxbox_dagster.scope import Scope

CONTENT = {
    "cluster_status": [{"type": "cluster", "name": "ams"}, {"type": "node", "name": "pve1"}],
    "storage": [{"storage": "local"}],
    "guests": [{"vmid": 100, "type": "qemu"}],
}


def fetched(source: str) -> Fetched:
    rows = CONTENT[source]
    return Fetched(source, "ams1", frame_of(rows, list(rows[-1])))


@pytest.mark.parametrize(
    ("scope", "stage", "named"),
    [
        (Scope(nodes=frozenset({"pve1"})), "devices", ""),
        (Scope(nodes=frozenset({"pve1", "PVE1", "pve9"})), "devices", "node PVE1, pve9"),
        (Scope(storages=frozenset({"local"})), "storage", ""),
        (Scope(storages=frozenset({"nas"})), "backups", "storage nas"),
        (Scope(vmids=frozenset({100})), "snapshots", ""),
        (Scope(vmids=frozenset({100, 7})), "snapshots", "guest 7"),
        (Scope(vmids=frozenset({7})), "virtual_machines", ""),
        (Scope(), "devices", ""),
    ],
)
def test_a_run_narrowed_to_what_is_not_there_is_refused_and_names_it(scope: Scope, stage: str, named: str) -> None:
    found = unknown_scope(scope, "ams1", stages.BY_NAME[stage], fetched, ())
    assert (f"narrowed to {named}, which endpoint ams1 has not" in found) if found else not named


def test_of_guests_that_are_not_there_the_stage_of_the_guests_tells() -> None:
    scope = Scope(vmids=frozenset({7}))
    assert unknown_scope(scope, "ams1", stages.BY_NAME["snapshots"], fetched, ("virtual_machines",)) is None
