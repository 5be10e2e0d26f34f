"""Property: a history in which runs fail and are killed leaves the same NetBox as one in which none does.

The invariant. A history is a row of points; at each, the source changes, and then runs look at it. In the undisturbed
history one clean run looks at each point. In the disturbed one, any number of runs that are killed, lose NetBox, lose
answers or are refused look first, and one clean run after them. Both histories look at the same points, so that
what depends on them (who was seen missing, which name was free) is equal; the brake is overridden, as it counts what a
run finds. Then after every clean run: NetBox shows the same by natural keys, a further run writes nothing, every
object of every run is in one outcome, and no row that is not ours has changed by a byte.

Two clusters are synced one after the other, and guests move between them; the second is looked at once the first was
seen clean, for a guest that moves keeps its row only where it is known to be missing there. People's rows stand beside
ours, under ours, and in the way of ours: what clashes with them fails alike in both histories. People also change our
rows, in both histories alike: names, texts, tags; they release some and take them back, delete some, empty the
number or the memory of some. What they wrote stays as long as the row.

Here NetBox is in memory and a few classes stand for all; test_real_histories.py does the same with all twelve stages.
"""

from __future__ import annotations

import copy
import json
import os
import random
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from proxbox_dagster.facts import UNOBSERVED
from proxbox_dagster.netbox.applied import Applied
from proxbox_dagster.netbox.apply import Writer
from proxbox_dagster.netbox.changes import Rules
from proxbox_dagster.netbox.errors import NetBoxError, NetBoxUnreachable, RowsRefused, WriteUncertain
from proxbox_dagster.netbox.plan import plan
from proxbox_dagster.netbox.removal import RemovalRules
from proxbox_dagster.netbox.spec import Desired
from proxbox_dagster.report import report_of
from proxbox_dagster_tests.support.core import NOW, fake, state_of
from proxbox_dagster_tests.support.core_specs import (
    CLUSTER,
    DISK,
    ENDPOINT,
    MACHINE,
    MODELS,
    OTHER,
    PORT,
    SNAPSHOT,
    cluster,
    disk,
    disk_ref,
    machine,
    port,
    primary,
    role,
    snapshot,
    wanted,
)
from proxbox_dagster_tests.support.fake_netbox import FakeNetBox

RULES = Rules(removal=RemovalRules(override=True))
EXAMPLES = 30 * int(os.environ.get("PROXBOX_HISTORIES", "5"))
SHRINK = "PROXBOX_HISTORIES" in os.environ
"""Minutes are spent on making a failing history small; who looks for one asks for it."""

VMIDS = range(100, 105)
AWAY = 100
"""A guest that moves to the other cluster gets a number greater by this; in that one all are that great."""
NAMES = ("scsi0", "scsi1", "scsi2")


class Killed(BaseException):
    """SIGKILL."""


# -- the source ---------------------------------------------------------------------------------------------------

Source = dict[int, dict[str, Any]]
"""Guests by VMID: name, memory, status, tags, and the names under it; ``hidden``: not in the token's sight."""


def endpoint_of(vmid: int) -> str:
    return ENDPOINT if vmid in VMIDS else OTHER


def guest(vmid: int, serial: int = 0) -> dict[str, Any]:
    name = f"other{vmid}-{serial}" if serial else f"vm{vmid}"
    under = {"disks": {"scsi0": 8}, "ports": ["net0"], "snaps": ["s0"]}
    return {"name": name, "serial": f"uuid {vmid} {serial}", "memory": 1024, "tags": (), **under}


def mapped(everything: Source, endpoint: str) -> list[Desired]:
    """What the stages would make of one cluster. With a guest out of sight nothing is proved absent."""
    source = {vmid: found for vmid, found in everything.items() if endpoint_of(vmid) == endpoint}
    seen = {vmid: found for vmid, found in source.items() if not found.get("hidden")}
    whole = len(seen) == len(source)
    of = {"endpoint": endpoint}
    rows: dict[str, list[Any]] = {"virtual_machines": [], "vm_interfaces": [], "virtual_disks": [], "snapshots": []}
    boots = []
    for vmid, found in seen.items():
        silent = found.get("silent")
        rows["virtual_machines"].append(
            machine(
                vmid,
                found["name"],
                memory=UNOBSERVED if silent else found["memory"],
                tags={"proxbox", *found["tags"]},
                description=found.get("description"),
                serial=found["serial"],
                endpoint=endpoint,
            )
        )
        rows["vm_interfaces"] += [port(vmid, name, **of) for name in found["ports"]]
        rows["virtual_disks"] += [disk(vmid, name, size, **of) for name, size in found["disks"].items()]
        rows["snapshots"] += [snapshot(vmid, name, **of) for name in found["snaps"]]
        first = disk_ref(vmid, min(found["disks"]), endpoint) if found["disks"] else None
        boots.append(primary(vmid, first, endpoint))
    return [
        wanted("roles", role("qemu")),
        wanted("clusters", cluster("prod" if endpoint == ENDPOINT else "away", endpoint)),
        *(wanted(name, *those, whole=whole) for name, those in rows.items()),
        wanted("primary_disks", *boots),
    ]


def change(source: Source, vmid: int, what: str, number: int) -> None:
    """One change at the source, to the guest of this number or the one that has moved; else it does nothing."""
    if vmid not in source and vmid + AWAY in source:
        vmid += AWAY
    found = source.get(vmid)
    name = NAMES[number % 3]
    if what == "add":
        source.setdefault(vmid, guest(vmid))
    elif found is None:
        return
    elif what == "delete":
        del source[vmid]
    elif what == "reuse":
        source[vmid] = guest(vmid, number + 1)
    elif what == "move":
        there = vmid + AWAY if vmid in VMIDS else vmid - AWAY
        if there not in source:
            source[there] = source.pop(vmid)
    elif what == "exchange":
        others = [other for other in sorted(source) if other != vmid and endpoint_of(other) == endpoint_of(vmid)]
        if others:
            other = source[others[number % len(others)]]
            found["name"], other["name"] = other["name"], found["name"]
    elif what == "rename":
        found["name"] = f"vm{vmid}-{number}"
    elif what == "tags":
        found["tags"] = tuple(("db", "prod", "web")[: number % 4])
    elif what == "disk":
        found["disks"][name] = number + 1
    elif what == "no disk":
        found["disks"].pop(name, None)
    elif what == "port":
        found["ports"] = [f"net{index}" for index in range(number % 4)]
    elif what == "snapshot":
        found["snaps"] = [f"s{index}" for index in range(number % 5)]
    elif what in ("hidden", "silent"):
        found[what] = bool(number % 2)
    else:
        found[what] = number if what == "memory" else f"text {number}" if number % 3 else None


def by_hand(netbox: FakeNetBox, vmid: int, what: str, number: int) -> int | None:
    """What a person does with the row of this guest; its id, where a text or a name was written."""
    rows = [row for row in netbox.all(MACHINE.path) if row["custom_fields"]["proxmox_vm_id"] == vmid]
    if not rows:
        return None
    row = rows[0]
    tags = set(row["tags"])
    if what == "own":  # all at once: where all had lost it, one alone would not do
        for each in netbox.all(MACHINE.path):
            if each["custom_fields"]["proxmox_endpoint"]:
                netbox.edit(MACHINE.path, each["id"], tags=sorted({*each["tags"], "proxbox"}))
    elif what == "delete":
        netbox.delete(MACHINE.path, [row["id"]])
    elif what == "number":
        netbox.edit(MACHINE.path, row["id"], cf_proxmox_vm_id=None)
    elif what == "memory":
        netbox.edit(MACHINE.path, row["id"], cf_proxbox_last_written=None)
    elif what in ("name", "description"):
        netbox.edit(MACHINE.path, row["id"], **{what: f"hand {vmid} {number}"})
        return int(row["id"])
    else:
        after = {"tag": tags | {"theirs"}, "keep": tags | {"proxbox-keep"}, "release": tags - {"proxbox"}}[what]
        netbox.edit(MACHINE.path, row["id"], tags=sorted(after))
    return None


# -- runs ---------------------------------------------------------------------------------------------------------


class Disturbed:
    """NetBox, with trouble at one in four of the writing requests, drawn from ``seed``; none without one."""

    def __init__(self, netbox: FakeNetBox, seed: int | None) -> None:
        self.netbox = netbox
        self._draw = random.Random(seed)
        self._often = 0.0 if seed is None else 0.25

    def read(self, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        return self.netbox.read(*args, **kwargs)

    def create(self, path: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return self._send(lambda: self.netbox.create(path, rows), repeats=False, alone=len(rows) == 1)

    def update(self, path: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return self._send(lambda: self.netbox.update(path, rows), repeats=True, alone=len(rows) == 1)

    def delete(self, path: str, ids: Sequence[int]) -> None:
        self._send(lambda: self.netbox.delete(path, ids), repeats=True, alone=len(ids) == 1)

    def _send(self, send: Callable[[], Any], *, repeats: bool, alone: bool) -> Any:
        what = self._draw.choice(TROUBLE) if self._draw.random() < self._often else ""
        if what == "killed before":
            raise Killed
        if what == "too large":
            raise RowsRefused("HTTP 413", {})
        if what == "lost before" and not repeats:
            raise WriteUncertain("no answer")
        if what == "fault":
            raise RowsRefused("HTTP 500", {}) if repeats else WriteUncertain("HTTP 500", fault=True)
        answer = send()
        if what == "killed after":
            raise Killed
        if what == "lost after":
            if not repeats:
                raise WriteUncertain("no answer")
            answer = send()  # the client itself repeats it
        if what == "out of reach after":
            raise NetBoxUnreachable("no answer")
        return answer


TROUBLE = (
    "killed before",
    "killed after",
    "out of reach after",
    "too large",
    "lost before",
    "lost after",
    "fault",
)


def run(netbox: FakeNetBox, source: Source, endpoint: str, seed: int | None = None) -> list[str] | None:
    """One run, disturbed where there is a seed. What failed in it; None where it did not come to its end."""
    sender = Disturbed(netbox, seed)
    state = state_of(sender, endpoint)  # type: ignore[arg-type]
    writer = Writer(sender, state, bulk_size=3)
    failed: list[str] = []
    for desired in mapped(source, endpoint):
        handed_over = len(desired.rows)
        made = plan(desired, state, RULES, NOW)
        done, ended = Applied(), None
        try:
            writer.apply(made, done)
        except (Killed, NetBoxError) as error:
            ended = str(error) or "killed"
        report = report_of("stage", made, done, dry_run=False, seconds=0.0, ended=ended)
        assert report.accounted, report
        assert report.seen == handed_over
        if ended:
            return None
        failed += [f"{report.object_class} {item.label}" for item in report.failures]
    return failed


# -- what NetBox shows --------------------------------------------------------------------------------------------


def shown(netbox: FakeNetBox) -> list[str]:
    """Every row by its natural key, references as labels, without ids."""
    return sorted(
        f"{model.path} {json.dumps(plain(netbox, model, row), sort_keys=True)}"
        for model in MODELS
        for row in netbox.all(model.path)
    )


def plain(netbox: FakeNetBox, model: Any, row: dict[str, Any]) -> dict[str, Any]:
    refs = dict(model.refs)
    found = {name: label(netbox, refs[name], value) if name in refs else value for name, value in row.items()}
    custom = dict(row["custom_fields"])
    memory = custom.get("proxbox_last_written")
    if memory:
        custom["proxbox_last_written"] = {
            name: label(netbox, refs[name], value) if name in refs else value for name, value in memory.items()
        }
    return {**found, "custom_fields": custom, "id": None}


def label(netbox: FakeNetBox, path: str, number: int | None) -> str | None:
    row = netbox.tables[path].rows.get(number) if number else None
    if row is None:
        return None
    custom = row["custom_fields"]
    own = f"{row.get('slug') or row['name']}@{custom.get('proxmox_vm_id')}"
    above = label(netbox, MACHINE.path, row["virtual_machine"]) if "virtual_machine" in row else ""
    return f"{above}/{own}"


def put_foreign(netbox: FakeNetBox, picks: list[int]) -> dict[tuple[str, int], Any]:
    """Rows of people: machines beside ours, of ours' names elsewhere or in our cluster, things under them and under
    ours. Their exact content.
    """
    added: list[tuple[str, int]] = []
    home = netbox.one(CLUSTER.path, name="prod")["id"]
    taken = {row["name"] for row in netbox.all(MACHINE.path)}
    ours = netbox.all(MACHINE.path)[0]["id"]
    for number, pick in enumerate(picks):
        name = f"vm{VMIDS[pick % 5]}" if pick % 2 else f"theirs{number}"
        where = home if pick % 4 == 1 and name not in taken else None
        taken.add(name)
        found = netbox.add(MACHINE.path, name=f"{name}", cluster=where, tags=[], memory=pick)
        if pick % 7 == 0:  # in the way of a disk of ours to come
            in_the_way = {"virtual_machine": ours, "name": NAMES[1 + number % 2], "size": pick + 1}
            if not any(
                (row["virtual_machine"], row["name"]) == (ours, in_the_way["name"]) for row in netbox.all(DISK.path)
            ):
                added.append((DISK.path, netbox.add(DISK.path, **in_the_way)))
        added.append((MACHINE.path, found))
        if pick % 3 == 0:
            added.append((DISK.path, netbox.add(DISK.path, virtual_machine=found, name="scsi0", size=pick + 1)))
        if pick % 3 == 1:
            added.append((PORT.path, netbox.add(PORT.path, virtual_machine=found, name="net0")))
        if pick % 3 == 2:
            added.append(
                (SNAPSHOT.path, netbox.add(SNAPSHOT.path, virtual_machine=found, name="s0", vmid=900 + number))
            )
    return {key: copy.deepcopy(netbox.tables[key[0]].rows[key[1]]) for key in added}


def settled(netbox: FakeNetBox, source: Source) -> None:
    """A further run writes nothing; where a guest has moved back, the first cluster hears of it in the next one."""
    before = netbox.changes
    for endpoint in (ENDPOINT, OTHER):
        run(netbox, source, endpoint)
    assert netbox.changes == before, "a further run writes nothing"


CHANGES = ("add", "add", "delete", "rename", "tags", "disk", "no disk", "port", "snapshot", "memory", "description")
CHANGES += ("hidden", "silent", "reuse", "move", "exchange")
HANDS = ("name", "description", "tag", "keep", "release", "own", "own", "delete", "number", "memory")
NUMBERS = st.sampled_from(range(30))  # not integers(): those are small most of the time
change_at = st.tuples(st.sampled_from(VMIDS), st.sampled_from(CHANGES), NUMBERS)
hand_at = st.tuples(st.sampled_from([*VMIDS, *(vmid + AWAY for vmid in VMIDS)]), st.sampled_from(HANDS), NUMBERS)
point = st.tuples(
    st.lists(change_at, min_size=1, max_size=6),
    st.lists(st.integers(0, 2**32), min_size=1, max_size=3),
    st.lists(hand_at, max_size=2),
)


# A number that is used again, and a move, whose old row or what is under it NetBox would not let be changed.
@example(begin={100, 101}, foreign=[], points=[([(100, "add", 0)], [0], []), ([(100, "reuse", 0)], [1], [])])
@example(begin={100, 101}, foreign=[], points=[([(100, "move", 0)], [462], []), ([(100, "add", 0)], [0], [])])
@given(
    begin=st.sets(st.sampled_from(VMIDS), min_size=2, max_size=4),
    foreign=st.lists(st.sampled_from(range(40)), max_size=4, unique=True),
    points=st.lists(point, min_size=2, max_size=4),
)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
    phases=[Phase.explicit, Phase.generate, *([Phase.shrink] if SHRINK else [])],
)
def test_a_disturbed_history_ends_as_an_undisturbed_one(begin: set[int], foreign: list[int], points: list[Any]) -> None:
    calm, rough = fake(), fake()
    source: Source = {vmid: guest(vmid) for vmid in sorted(begin)}
    for netbox in (calm, rough):
        assert run(netbox, source, ENDPOINT) == []
    put_foreign(calm, foreign)
    theirs = put_foreign(rough, foreign)
    written: dict[tuple[int, str], Any] = {}
    for changes, seeds, hands in points:
        for vmid, what, number in hands:
            by_hand(calm, vmid, what, number)
            row_id = by_hand(rough, vmid, what, number)
            if row_id is not None:
                written[row_id, what] = rough.tables[MACHINE.path].rows[row_id][what]
        # What was under a row that a person has deleted went with it.
        theirs = {key: row for key, row in theirs.items() if key[1] in rough.tables[key[0]].rows}
        for vmid, what, number in changes:
            change(source, vmid, what, number)
        for endpoint in (ENDPOINT, OTHER):
            for seed in seeds:
                run(rough, source, endpoint, seed)
            undisturbed = run(calm, source, endpoint)
            assert undisturbed is not None
            assert run(rough, source, endpoint) == undisturbed
            assert shown(rough) == shown(calm)
        settled(rough, source)
        assert {key: rough.tables[key[0]].rows[key[1]] for key in theirs} == theirs
        for (row_id, name), text in written.items():
            row = rough.tables[MACHINE.path].rows.get(row_id)
            assert row is None or row[name] == text, "what a person wrote stays"
