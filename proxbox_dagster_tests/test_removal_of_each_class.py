"""What keeps rows from being removed, for every object class of the table: brake, keep tag, grace, reads, owners.

The classes are the stages' own, so that a new one is tried without a word here; NetBox is in memory, and knows of each
class what its spec says. test_scenarios_removal.py does with each class on the real NetBox what can be done there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from proxbox_dagster import stages
from proxbox_dagster.netbox.apply import Applied, Writer
from proxbox_dagster.netbox.changes import Plan, Rules
from proxbox_dagster.netbox.permissions import owned
from proxbox_dagster.netbox.plan import plan
from proxbox_dagster.netbox.reading import STAYS, looked_under
from proxbox_dagster.netbox.removal import RemovalRules
from proxbox_dagster.netbox.spec import ENDPOINT_FIELD, Coverage, Desired, Kind, ModelSpec, ObjectClass, Row
from proxbox_dagster.netbox.state import NetBoxState
from proxbox_dagster.report import report_of
from proxbox_dagster_tests.support.memory_netbox import MACHINES, MemoryNetBox

ENDPOINT = "ams1"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALL = stages.object_classes()
REMOVABLE = [item for item in ALL if item.spec.removable]
STAGED = [item for item in REMOVABLE if item.spec.removal == "mark"]
LISTS = [item for item in REMOVABLE if item.spec.removal == "delete"]
"""Those that mirror a list: by default they are deleted at once."""

WHOLE = Coverage(everything=True)
HOLE = Coverage(reason="node pve2 is offline", gap=True)
DELETE = RemovalRules(default="delete", grace_days=5, confirmations=3, override=True)
AT_ONCE = RemovalRules(default="delete", grace_days=0, confirmations=1, override=True)

each_class = pytest.mark.parametrize("item", REMOVABLE, ids=lambda item: item.name)


class Table(MemoryNetBox):
    """NetBox with rows of one class, and perhaps something that hangs on them."""

    def __init__(self, item: ObjectClass) -> None:
        super().__init__()
        self.item, self.spec = item, item.spec
        self.hung: dict[str, Any] = {}
        self.asked_for: tuple[str, str] | None = None
        self.under = self.seed("dcim/devices", tags=[])
        self.interfaces = {
            model: self.seed(path, **{machine: self.under}, tags=[]) for model, (path, machine, _) in MACHINES.items()
        }

    def read(
        self, path: str, filters: dict[str, Any] | None = None, fields: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """What hangs on rows is found by its filter alone, whatever NetBox calls that in the row."""
        if self.asked_for is not None and path == self.asked_for[0]:
            name = self.asked_for[1].replace("_*", "_id")
            return [self.hung] if name in (filters or {}) else super().read(path, filters, fields)
        under = {name.replace("_*", "_id") for other, name in looked_under(self.spec) if other == path}
        return [] if under & set(filters or {}) else super().read(path, filters, fields)

    def values(self, number: int) -> dict[str, Any]:
        """What tells the row of this number from the others."""
        found: dict[str, Any] = {"cf.proxmox_endpoint": ENDPOINT, **dict(self.item.only)}
        for name in self.spec.identity:
            field = self.spec.by_name[name]
            if name in found:
                continue
            if name == "assigned_object_id":
                found[name] = self.interfaces[found["assigned_object_type"]]
            elif field.kind is Kind.REF:
                # Alone in a row's identity it must be another one for each.
                found[name] = self.under if len(self.spec.identity) > 1 else 10_000 + number
            elif field.kind is Kind.HOST:
                found[name] = f"10.0.{number // 200}.{number % 200 + 1}"
            elif name == "cf.proxmox_vm_id":
                found[name] = number
            else:
                found[name] = f"x{number}"
        return found

    def have(self, count: int, **fields: Any) -> list[int]:
        """Rows of ours, unless ``fields`` say otherwise; their ids."""
        return [self.seed(self.spec.path, **self._spelt(number, fields)) for number in range(count)]

    def _spelt(self, number: int, fields: dict[str, Any]) -> dict[str, Any]:
        row: dict[str, Any] = {"tags": ["proxbox"], "cf_proxbox_last_written": None, "cf_proxbox_missing": None}
        if self.spec.missing_status:
            row["status"] = "active"
        for name, value in self.values(number).items():
            field = self.spec.by_name.get(name)
            if field is not None and field.kind is Kind.HOST:
                row[field.column] = f"{value}/24"
                if model := dict(self.item.only).get("assigned_object_type"):
                    row["assigned_object_id"] = self.interfaces[model]
            else:
                row[name.replace("cf.", "cf_")] = value
        return {**row, **fields}

    def run(self, rules: RemovalRules, seen: Sequence[int] = (), *, day: float = 0, coverage: Coverage = WHOLE) -> Plan:
        """A run that finds the objects of these numbers at the source."""
        rows = [Row(self.values(number), f"number {number}") for number in seen]
        desired = Desired(self.item, rows, coverage=coverage)
        state = self.state(stages.specs(), ENDPOINT)
        made, done = plan(desired, state, Rules(removal=rules), NOW + timedelta(days=day)), Applied()
        Writer(self, state).apply(made, done)
        assert report_of("stage", made, done, dry_run=False, seconds=0.0).accounted
        assert not done.failed, done.failed
        return made

    def content(self) -> dict[int, Any]:
        return deepcopy(self._table(self.spec.path))

    def of(self, row_id: int) -> dict[str, Any]:
        return self.content()[row_id]

    def is_marked(self, row_id: int) -> bool:
        row = self.of(row_id)
        tagged = "proxbox-missing" in {tag["slug"] for tag in row["tags"]}
        assert tagged == bool(row["custom_fields"]["proxbox_missing"])
        if self.spec.missing_status:
            assert (row["status"] == self.spec.missing_status) == tagged
        return tagged


def removed(made: Plan) -> int:
    return sum(mark.first for mark in made.removals.marks) + len(made.removals.deletes)


def test_the_table_has_classes_of_each_kind_and_people_can_keep_a_row_of_any() -> None:
    assert len(STAGED) > 4
    assert len(LISTS) > 4
    for item in REMOVABLE:
        assert {"tags", ENDPOINT_FIELD} <= set(item.spec.by_name), item.name


@pytest.mark.parametrize("item", [item for item in ALL if not item.spec.removable], ids=lambda item: item.name)
def test_a_class_that_is_not_removed_stays_whatever_the_settings_say(item: ObjectClass) -> None:
    desired = Desired(item, coverage=WHOLE)
    table = Table(item)
    table.have(3)
    before = table.content()
    for rules in (AT_ONCE, RemovalRules(classes={item.name: "delete"}, grace_days=0, confirmations=1, override=True)):
        for _ in range(3):
            state = table.state(stages.specs(), ENDPOINT)
            made = plan(desired, state, Rules(removal=rules), NOW)
            assert not made.removals.writes
            Writer(table, state).apply(made, Applied())
    assert table.content() == before


# -- the brake ----------------------------------------------------------------------------------------------------


@each_class
@pytest.mark.parametrize(("have", "gone", "braked"), [(30, 3, False), (30, 4, True), (300, 25, False), (300, 26, True)])
def test_scenario_16_more_than_ten_percent_or_25_of_any_class_stop_its_removals(
    item: ObjectClass, have: int, gone: int, braked: bool
) -> None:
    table = Table(item)
    table.have(have)
    seen, before = range(gone, have), table.content()
    made = table.run(RemovalRules(), seen)
    if braked:
        assert f"{gone} of {have} {item.name} would be removed" in str(made.removals.braked)
        assert "--override-brake" in str(made.removals.braked)
        assert not made.removals.writes
        assert {row_id: row["tags"] for row_id, row in table.content().items()} == {
            row_id: row["tags"] for row_id, row in before.items()
        }
        made = table.run(RemovalRules(override=True), seen)
    assert made.removals.braked is None
    assert removed(made) == gone
    again = table.run(RemovalRules(), seen)
    assert not again.writes


@each_class
def test_scenario_9_all_of_any_class_at_once_are_stopped(item: ObjectClass) -> None:
    table = Table(item)
    table.have(2)
    before = table.content()
    made = table.run(RemovalRules())
    assert "2 of 2" in str(made.removals.braked)
    assert table.content() == before
    assert removed(table.run(RemovalRules(override=True))) == 2


@pytest.mark.parametrize("item", STAGED, ids=lambda item: item.name)
def test_scenario_16_the_brake_holds_again_when_the_marked_ones_would_be_deleted(item: ObjectClass) -> None:
    table = Table(item)
    table.have(30)
    seen = range(4, 30)
    rules = RemovalRules(default="delete", grace_days=1, confirmations=1)
    table.run(RemovalRules(default="delete", grace_days=1, confirmations=1, override=True), seen)
    assert "4 of 30" in str(table.run(rules, seen, day=2).removals.braked)
    assert len(table.content()) >= 30


# -- what people want kept ----------------------------------------------------------------------------------------


@each_class
def test_a_row_of_any_class_that_is_tagged_to_be_kept_is_neither_marked_nor_deleted(item: ObjectClass) -> None:
    table = Table(item)
    kept, other = table.have(2)
    table._table(item.spec.path)[kept]["tags"] = [{"slug": "proxbox"}, {"slug": "proxbox-keep"}]
    before = table.of(kept)
    for day in range(4):
        made = table.run(AT_ONCE, day=day)
        assert [line for line in made.removals.kept if "tagged proxbox-keep" in line and f"id {kept}" in line]
        assert table.of(kept) == before
    assert other not in table.content()


@pytest.mark.parametrize("item", STAGED, ids=lambda item: item.name)
def test_the_keep_tag_holds_a_row_that_is_marked_already(item: ObjectClass) -> None:
    table = Table(item)
    [row_id] = table.have(1)
    table.run(AT_ONCE)
    table._table(item.spec.path)[row_id]["tags"].append({"slug": "proxbox-keep"})
    before = table.of(row_id)
    for day in range(1, 4):
        table.run(AT_ONCE, day=day)
    assert table.of(row_id) == before


EMPTIED = [
    (item, name)
    for item in REMOVABLE
    for name in item.spec.identity
    if name.startswith("cf.") and name != ENDPOINT_FIELD
]
"""Classes that are known by a custom field, which an administrator may empty, or delete for all rows at once."""


@pytest.mark.parametrize(("item", "name"), EMPTIED, ids=[f"{item.name}-{name}" for item, name in EMPTIED])
def test_a_row_of_any_class_that_has_lost_what_it_is_known_by_stays_to_the_byte(item: ObjectClass, name: str) -> None:
    table = Table(item)
    table.have(2)
    for row in table.rows(item.spec.path):
        row["custom_fields"][name.removeprefix("cf.")] = None
    before = table.content()
    for seen in ((), (0, 1), ()):
        for rules in (RemovalRules(), AT_ONCE):
            desired = Desired(item, [Row(table.values(number), str(number)) for number in seen], coverage=WHOLE)
            made = plan(desired, table.state(stages.specs(), ENDPOINT), Rules(removal=rules), NOW)
            assert not made.removals.writes
            assert [line for line in made.removals.kept if f"its {name} is empty" in line]
    assert table.content() == before


LOOKED_UNDER = [(item, path, name) for item in REMOVABLE for path, name in looked_under(item.spec)]


@pytest.mark.parametrize(
    ("item", "path", "name"), LOOKED_UNDER, ids=[f"{item.name}-{path}-{name}" for item, path, name in LOOKED_UNDER]
)
def test_scenario_19_what_people_hung_on_a_row_of_any_class_keeps_it(item: ObjectClass, path: str, name: str) -> None:
    table = Table(item)
    [row_id] = table.have(1)
    ours = {"id": 9999, "display": "theirs", "tags": [{"slug": "proxbox"}]}
    ours["custom_fields"] = {"proxmox_endpoint": ENDPOINT}
    table.asked_for = (path, name)
    of_people: tuple[dict[str, Any], ...] = (
        {**ours, "custom_fields": {}},
        {**ours, "custom_fields": {"proxmox_endpoint": "fra1"}},
        {**ours, "tags": []},
        {**ours, "tags": [*ours["tags"], {"slug": "proxbox-keep"}]},  # type: ignore[misc]
    )
    for hung in of_people:
        table.hung = hung
        for day in range(3):
            made = table.run(AT_ONCE, day=day)
        assert any("'theirs' under it, which is not ours" in line for line in made.removals.kept), hung
        assert row_id in table.content()
    table.hung = ours
    table.run(AT_ONCE, day=4)
    assert row_id not in table.content(), "what is ours goes along"


MAKERS = {spec.path: spec for spec in stages.specs() if not spec.update_only}
OWNED = tuple({item.spec.path: item.spec for item in ALL if owned(item)}.values())


def chains(spec: ModelSpec) -> Iterator[tuple[tuple[str, str], ...]]:
    """(path, filter) from a row down to what people hang on rows of ours that go along with it."""
    for path, name in spec.children:
        if path in MAKERS and path != spec.path and name not in STAYS:
            yield from (((path, name), end) for end in looked_under(MAKERS[path]))
            yield from (((path, name), *chain) for chain in chains(MAKERS[path]))


CHAINS = [(spec, chain) for spec in OWNED for chain in chains(spec)]


class Chain:
    """NetBox where the rows of a chain hang on one another; the last is a person's."""

    def __init__(self, chain: Sequence[tuple[str, str]]) -> None:
        self.chain = chain

    def read(
        self, path: str, filters: dict[str, Any] | None = None, fields: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        for depth, (where, name) in enumerate(self.chain):
            if path == where and (filters or {}).get(name.replace("_*", "_id")) == [depth]:
                ours = depth < len(self.chain) - 1
                tags = [{"slug": "proxbox"}] if ours else []
                return [
                    {
                        "id": depth + 1,
                        "tags": tags,
                        "custom_fields": {"proxmox_endpoint": ENDPOINT},
                        "display": "theirs",
                    }
                ]
        return []


def test_what_goes_along_with_guests_interfaces_and_devices_is_looked_under() -> None:
    found = {(spec.name, *(path for path, _ in chain)) for spec, chain in CHAINS}
    assert {
        ("vm_interfaces", "ipam/ip-addresses", "extras/journal-entries"),
        ("virtual_machines", "virtualization/virtual-disks", "extras/journal-entries"),
        ("virtual_machines", "virtualization/interfaces", "vpn/l2vpn-terminations"),
        ("virtual_machines", "virtualization/interfaces", "ipam/ip-addresses", "ipam/ip-addresses"),
        ("devices", "dcim/interfaces", "dcim/mac-addresses", "extras/journal-entries"),
    } <= found


@pytest.mark.parametrize(
    ("spec", "chain"), CHAINS, ids=[f"{spec.name}-{'-'.join(path for path, _ in chain)}" for spec, chain in CHAINS]
)
def test_scenario_19_what_people_hung_on_what_goes_along_keeps_a_row(
    spec: ModelSpec, chain: tuple[tuple[str, str], ...]
) -> None:
    state = NetBoxState(Chain(chain), ENDPOINT, stages.specs())
    assert state.foreign_children(spec, [0]) == {0: f"{chain[-1][0].rsplit('/', 1)[-1]} 'theirs'"}
    assert state.foreign_children(spec, [7]) == {}


# -- grace, and reads that agree ----------------------------------------------------------------------------------


@pytest.mark.parametrize("item", STAGED, ids=lambda item: item.name)
def test_scenario_17_each_class_waits_for_the_grace_period_and_for_reads_that_agree(item: ObjectClass) -> None:
    table = Table(item)
    [row_id] = table.have(1)

    def confirmed() -> Any:
        return table.of(row_id)["custom_fields"]["proxbox_missing"]["confirmed"]

    table.run(DELETE, coverage=HOLE)
    assert not table.is_marked(row_id), "an incomplete read proves nothing"
    table.run(DELETE)
    assert (table.is_marked(row_id), confirmed()) == (True, 1)
    for reads in (2, 3):
        table.run(DELETE, day=6, coverage=HOLE)
        table.run(DELETE, day=6)
        assert (table.is_marked(row_id), confirmed()) == (True, reads), "the days are over, the reads too few"
    table.run(DELETE, day=4)
    assert table.is_marked(row_id), "enough reads, the days are not over"
    table.run(DELETE, day=6, coverage=HOLE)
    assert row_id in table.content(), "an incomplete read deletes nothing"
    table.run(DELETE, day=6)
    assert row_id not in table.content()


@pytest.mark.parametrize("item", LISTS, ids=lambda item: item.name)
def test_scenario_17_a_list_loses_a_row_by_a_complete_read_only(item: ObjectClass) -> None:
    table = Table(item)
    [row_id] = table.have(1)
    made = table.run(DELETE, coverage=HOLE)
    assert row_id in table.content()
    assert any("node pve2 is offline" in line for line in made.removals.kept)
    table.run(DELETE)
    assert row_id not in table.content()


@each_class
def test_scenario_17_what_is_marked_stays_and_is_as_before_once_it_is_back(item: ObjectClass) -> None:
    """Every class can be set to be marked only."""
    table = Table(item)
    row_id, _ = table.have(2)
    table.run(DELETE, (0, 1))
    before = table.of(row_id)
    rules = RemovalRules(classes={item.name: "mark"}, grace_days=0, confirmations=1, override=True)
    for day in (0, 100, 200):
        table.run(rules, (1,), day=day)
        assert table.is_marked(row_id)
    table.run(rules, (0, 1), day=201)
    assert table.of(row_id) == before


# -- whose it is --------------------------------------------------------------------------------------------------

NOT_OURS: tuple[dict[str, Any], ...] = (
    {"tags": [], "cf_proxmox_endpoint": None},
    {"tags": ["proxbox"], "cf_proxmox_endpoint": None},
    {"tags": [], "cf_proxmox_endpoint": ENDPOINT},
    {"tags": ["proxbox"], "cf_proxmox_endpoint": "fra1"},
)
"""All that looks like ours but is not: tagged and of this endpoint is what makes it so."""


@each_class
@pytest.mark.parametrize("marks", NOT_OURS, ids=["by hand", "of nobody", "released", "of another endpoint"])
def test_scenario_19_a_row_of_any_class_that_is_not_ours_stays_to_the_byte(
    item: ObjectClass, marks: dict[str, Any]
) -> None:
    table = Table(item)
    table.have(3, **marks)
    before = table.content()
    for day in range(4):
        made = table.run(AT_ONCE, day=day)
        assert not made.writes
    assert table.content() == before
