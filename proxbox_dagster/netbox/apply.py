"""The one place that writes to NetBox: a plan in lists, each bad row by itself, every row accounted for.

NetBox takes a list all or none. A refused list is sent again without the rows that NetBox named (or halved until the
bad row is alone). A list without an answer is looked up before it is sent again. A new row that NetBox refuses is
looked up too: another run may have made it in the meantime.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from proxbox_dagster.netbox.applied import Applied
from proxbox_dagster.netbox.changes import Create, Plan, Update
from proxbox_dagster.netbox.deletion import delete
from proxbox_dagster.netbox.errors import RowsRefused, WriteUncertain
from proxbox_dagster.netbox.identity import step_aside
from proxbox_dagster.netbox.payload import changes_of, payload_of
from proxbox_dagster.netbox.removal import Removal
from proxbox_dagster.netbox.spec import (
    ENDPOINT_FIELD,
    MEMORY_FIELD,
    ModelSpec,
    Outcome,
    Ref,
    Row,
    Skip,
)
from proxbox_dagster.netbox.state import NetBoxState
from proxbox_dagster.netbox.tables import key_of
from proxbox_dagster.netbox.values import decode
from proxbox_dagster.parallel import each, in_lists

FAULT_TRIES = 3
"""How often a single row at which NetBox itself fails is sent."""

UNCERTAIN_TRIES = 6
"""How often a list without an answer is looked up and sent again, before its rows are given up as failed."""

_CLASH = ("already exist", "unique")
"""Words of Django's refusals of a row whose unique key another row has."""


class Sender(Protocol):
    """The writing half of :class:`proxbox_dagster.netbox.client.NetBoxClient`."""

    def create(self, path: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]: ...

    def update(self, path: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]: ...

    def delete(self, path: str, ids: Sequence[int]) -> None: ...


class Writer:
    """Writes plans. ``workers`` lists are under way at once; the client's own limit holds besides.

    ``progress`` is called with the number of rows that a finished list brought to an end.
    """

    def __init__(
        self,
        sender: Sender,
        state: NetBoxState,
        *,
        bulk_size: int = 75,
        workers: int = 1,
        progress: Callable[[int], None] | None = None,
        pause: Callable[[float], None] | None = None,
    ) -> None:
        self._sender = sender
        self._state = state
        self._bulk = bulk_size
        self._workers = max(1, workers)
        self._progress = progress or (lambda _rows: None)
        self._pause = pause or (lambda _seconds: None)
        self._refused: list[tuple[Update, Skip]] = []

    def apply(self, plan: Plan, applied: Applied | None = None) -> Applied:
        """Write the plan. ``applied`` is filled as rows arrive, so that an interrupted run can report them.

        Raises :class:`NetBoxUnreachable` and :class:`NetBoxRefused` from the client; refused rows do not raise.
        """
        done = applied if applied is not None else Applied()
        spec = plan.object_class.spec
        self._each(spec, plan.retires, lambda part: self._update(spec, part, done, done.retired))
        creates, updates = self._freed(spec, plan, done)
        for wave in self._waves(creates, done):
            self._each(spec, wave, lambda part: self._create(spec, part, done))
        stuck = self._release(plan, done)
        for item in [item for item in updates if item.row_id in stuck]:
            # Once the row is this endpoint's, nobody would look for what was left behind.
            reason = f"NetBox refused it: {stuck[item.row_id]} could not come along"
            done.failed.append(Skip(item.row.label, reason, Outcome.FAILED))
            updates = [other for other in updates if other is not item]
        there = [item for item in updates if item.row_id]
        self._each(spec, there, lambda part: self._update(spec, part, done, done.updated))
        self._second_chance(spec, done)
        for item in plan.updates:
            if not item.row_id:  # its row was expected of another class, and could not be made or taken over
                reason = "the row that it is a part of could not be written"
                done.failed.append(Skip(item.row.label, reason, Outcome.FAILED))
        self._remove(spec, plan, done)
        return done

    def _freed(self, spec: ModelSpec, plan: Plan, done: Applied) -> tuple[list[Create], list[Update]]:
        """What can be written now that rows have let go of their identities. Where one has not, no other takes it."""
        held = {item.frees: skip for item, skip in self._refused if item.frees}
        done.notes += [f"{skip.label} could not let go: {skip.reason}" for _item, skip in self._refused]
        self._refused = []
        if not held:
            return plan.creates, plan.updates
        creates: list[Create] = []
        for item in plan.creates:
            if item.ref in held:
                self._fail(item, f"{held[item.ref].label} could not let go of its number", done)
            else:
                creates.append(item)
        updates: list[Update] = []
        for change in plan.updates:
            skip = held.get(Ref(spec.index_name, key_of(spec, change.row))) if change.adopted else None
            if skip:
                reason = f"NetBox refused it: {skip.label} could not let go of its number"
                done.failed.append(Skip(change.row.label, reason, Outcome.FAILED))
            else:
                updates.append(change)
        return creates, updates

    def _release(self, plan: Plan, done: Applied) -> dict[int, str]:
        """Have other rows let go of those that are about to move; NetBox refuses the move otherwise.

        What was to come along with a row and could not, by that row's id.
        """
        stuck: dict[int, str] = {}
        for spec in {item.spec.name: item.spec for item in plan.releases}.values():
            items = [
                Update(Row({}, item.label), item.row_id, item.changes, item.memory)
                for item in plan.releases
                if item.spec is spec
            ]
            self._each(spec, items, lambda part, spec=spec: self._update(spec, part, done, []))  # type: ignore[misc]
            for change, skip in self._refused:
                done.notes.append(f"{skip.label} could not let go: {skip.reason}")
                along = next(item.along for item in plan.releases if (item.spec, item.row_id) == (spec, change.row_id))
                if along:
                    stuck[along] = skip.label
            self._refused = []
        return stuck

    def _second_chance(self, spec: ModelSpec, done: Applied) -> None:
        """Updates that were refused are sent again one by one, as long as one gets through: until then another row may
        have held the name. Where names go round, one row steps aside.
        """
        refused, self._refused = self._refused, []
        again = bool(done.updated or done.created or done.retired or len(refused) > 1)
        while refused and again:
            for item, _skip in refused:
                self._update(spec, [item], done, done.updated)
            left, self._refused = self._refused, []
            again = len(left) < len(refused)
            names = [item for item, skip in left if any(word in skip.reason.lower() for word in _CLASH)]
            aside = None if again else step_aside(spec, names, self._state)
            if aside:
                self._update(spec, [aside], done, done.retired)
                again = not self._refused
            refused, self._refused = left, []
        done.failed += [skip for _item, skip in refused]

    def _remove(self, spec: ModelSpec, plan: Plan, done: Applied) -> None:
        marks = [Update(Row({}, mark.label), mark.row_id, mark.changes) for mark in plan.removals.marks]
        written: list[Update] = []
        self._each(spec, marks, lambda part: self._update(spec, part, done, written))
        ids = {item.row_id for item in written}
        done.marked += [mark for mark in plan.removals.marks if mark.row_id in ids]
        for _item, skip in self._refused:
            done.kept.append(f"{skip.label} could not be marked: {skip.reason}")
        self._refused = []
        deletes = plan.removals.deletes
        self._each(spec, deletes, lambda part: delete(self._sender, self._state, spec, part, done, self._progress))

    def _each(self, spec: ModelSpec, items: Sequence[Any], send: Callable[[list[Any]], None]) -> None:
        together = (lambda item: self._sum_of(spec, item)) if spec.summed_in else None
        workers = 1 if spec.window else self._workers
        parts = in_lists(items, self._bulk, workers, together)
        each(parts, send, workers, "netbox-write")

    def _sum_of(self, spec: ModelSpec, item: Create | Update | Removal) -> Any:
        """The row whose sum NetBox makes anew when it writes this one."""
        name = str(spec.summed_in)
        if isinstance(item, Create):
            return item.values.get(name)
        row = self._state.row(spec, item.row_id)
        return None if row is None else decode(spec.by_name[name], row)

    # -- creating -----------------------------------------------------------------------------------------------

    def _waves(self, creates: list[Create], done: Applied) -> Iterator[list[Create]]:
        """Rows in an order in which rows of the same class that others refer to come first."""
        waiting = creates
        while waiting:
            ready = [item for item in waiting if not self._waits(item)]
            if not ready:
                for item in waiting:
                    self._fail(item, "refers to a row of its own class that could not be made", done)
                return
            yield ready
            sent = {id(item) for item in ready}
            waiting = [item for item in waiting if id(item) not in sent]

    def _waits(self, item: Create) -> bool:
        refs = [value for value in item.values.values() if isinstance(value, Ref)]
        for value in item.values.values():
            if isinstance(value, frozenset):
                refs += [part for part in value if isinstance(part, Ref)]
        return any(not isinstance(self._state.resolve(ref), int) and self._state.is_expected(ref) for ref in refs)

    def _create(self, spec: ModelSpec, part: list[Create], done: Applied) -> None:
        for attempt in range(UNCERTAIN_TRIES):
            try:
                self._create_or_split(spec, part, done)
                return
            except WriteUncertain as trouble:
                tries = FAULT_TRIES if trouble.fault else UNCERTAIN_TRIES
                last = attempt >= tries - 1
                part = self._settled(spec, part, done, trouble, 0.0 if last else min(0.5 * 2.0**attempt, 15.0))
                if not part:
                    return
                if last:
                    for item in part:
                        self._fail(item, f"{trouble}; looked up and sent again {tries} times", done)
                    return
                if trouble.fault and len(part) > 1:
                    # One row may be what NetBox stumbles over; the others shall not wait for it.
                    middle = len(part) // 2
                    self._create(spec, part[:middle], done)
                    self._create(spec, part[middle:], done)
                    return

    def _settled(
        self, spec: ModelSpec, part: list[Create], done: Applied, trouble: WriteUncertain, pause: float
    ) -> list[Create]:
        """The rows of a list without an answer that NetBox does not have, once it can be at work on it no more."""
        if not (trouble.fault and len(part) > 1):
            self._pause(pause)
        until = time.monotonic() + trouble.settle
        step = 0.5
        while True:
            part = self._still_missing(spec, part, done)
            left = until - time.monotonic()
            if not part or left <= 0:
                return part
            self._pause(min(step, left))
            step = min(step * 2, 5.0)

    def _still_missing(self, spec: ModelSpec, part: list[Create], done: Applied) -> list[Create]:
        """After a list without an answer: what NetBox has of it counts as made, the rest is returned."""
        self._state.reload(spec, [item.row for item in part])
        missing: list[Create] = []
        for item in part:
            found = self._state.find(spec, item.row)
            if found is None:
                missing.append(item)
            else:
                self._made(spec, item, found, done)
                self._progress(1)
        return missing

    def _create_or_split(self, spec: ModelSpec, part: list[Create], done: Applied) -> None:
        if not part:
            return
        payload = [payload_of(spec, item.values, self._state) for item in part]
        try:
            answers = self._sender.create(spec.path, payload)
        except RowsRefused as refusal:
            bad = refusal.by_index or ({0: str(refusal)} if len(part) == 1 else {})
            there = self._made_meanwhile(spec, [part[index] for index in bad if index < len(part)], done)
            left = [(item, bad.get(index)) for index, item in enumerate(part) if id(item) not in there]
            if there and not any(why for _item, why in left):
                self._create(spec, [item for item, _why in left], done)
                return
            bad = {index: why for index, (_item, why) in enumerate(left) if why}
            for rest in self._without_bad(spec, [item for item, _why in left], refusal, bad, done):
                self._create(spec, rest, done)
            return
        for item, answer in zip(part, answers, strict=True):
            self._made(spec, item, answer, done)
        self._progress(len(part))

    def _made_meanwhile(self, spec: ModelSpec, items: list[Create], done: Applied) -> set[int]:
        """Of rows that NetBox refuses, those that it has by now: two runs had both seen that they are missing."""
        self._state.look_again(spec, [item.row for item in items])
        there: set[int] = set()
        for item in items:
            row = self._state.find(spec, item.row)
            if row is not None:
                done.found.append((item, row["id"]))
                there.add(id(item))
        self._progress(len(there))
        return there

    def _made(self, spec: ModelSpec, item: Create, answer: dict[str, Any], done: Applied) -> None:
        self._state.put(spec, answer, made=True)
        done.created.append((item, answer["id"]))

    def _without_bad(
        self, spec: ModelSpec, part: list[Any], refusal: RowsRefused, bad: dict[int, str], done: Applied
    ) -> list[list[Any]]:
        """The lists to send instead of a refused one; the rows that are at fault are recorded as failed."""
        if bad:
            again = [
                part[index]
                for index, reason in bad.items()
                if index < len(part) and self._renamed(spec, part[index], reason, done)
            ]
            for index, reason in bad.items():
                if index < len(part) and part[index] not in again:
                    self._fail(part[index], reason, done)
            return [[item for index, item in enumerate(part) if index not in bad], again]
        if len(part) == 1:
            if self._renamed(spec, part[0], str(refusal), done):
                return [part]
            self._fail(part[0], str(refusal), done)
            return []
        middle = len(part) // 2
        return [part[:middle], part[middle:]]

    def _renamed(self, spec: ModelSpec, item: Create | Update, reason: str, done: Applied) -> bool:
        """True where a row got a value of its own in the field that clashed with another row."""
        name = spec.clash_field
        if name is None or not any(word in reason.lower() for word in _CLASH):
            return False
        mine = f"@{self._state.endpoint}"
        before, value = (None, item.values.get(name)) if isinstance(item, Create) else item.changes.get(name, (None, 0))
        if not isinstance(value, str) or value.endswith(mine):
            return False
        if isinstance(item, Create):
            item.values[name] = value + mine
        else:
            item.changes[name] = (before, value + mine)
        done.notes.append(
            f"{item.row.label}: {name} is written as {value + mine}, because there is a row, of another endpoint or of "
            f"people, that NetBox allows only once ({reason})"
        )
        return True

    def _fail(self, item: Create | Update, reason: str, done: Applied) -> None:
        skip = Skip(item.row.label, f"NetBox refused it: {reason}", Outcome.FAILED)
        if isinstance(item, Create):
            done.failed.append(skip)
            self._state.block(item.ref, f"{item.row.label} could not be made")
        else:
            self._refused.append((item, skip))

    # -- updating -----------------------------------------------------------------------------------------------

    def _update(self, spec: ModelSpec, part: list[Update], done: Applied, into: list[Update]) -> None:
        if not part:
            return
        payload = []
        for item in part:
            changes = dict(item.changes)
            if item.memory is not None:
                changes[MEMORY_FIELD] = (None, item.memory)
            if item.adopted:
                changes.setdefault(ENDPOINT_FIELD, (None, self._state.endpoint))
            payload.append({"id": item.row_id, **changes_of(spec, changes, self._state)})
        try:
            answers = self._sender.update(spec.path, payload)
        except RowsRefused as refusal:
            position = {item.row_id: index for index, item in enumerate(part)}
            bad = {position[row_id]: why for row_id, why in refusal.by_id.items() if row_id in position}
            for rest in self._without_bad(spec, part, refusal, bad or refusal.by_index, done):
                self._update(spec, rest, done, into)
            return
        for answer in answers:
            self._state.put(spec, answer)
        answered = {answer["id"] for answer in answers}
        into.extend(item for item in part if item.row_id in answered)
        for item in [item for item in part if item.row_id not in answered]:  # before NetBox 4.7 it does not say so
            self._fail(item, "NetBox does not have the row any more", done)
        self._progress(len(part))
