"""What the token's user must be allowed in NetBox: derived from the specs, and tried without writing anything.

NetBox checks a permission before it looks at the rows, so a list without rows tells it: POST for ``add``, PATCH for
``change``, DELETE for ``delete``, and a read of nothing for ``view``. Nothing is written, and nothing is logged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from proxbox_dagster.netbox.reading import looked_under, taken_along
from proxbox_dagster.netbox.spec import ModelSpec, ObjectClass, Ownership, Policy
from proxbox_dagster.parallel import each

ACTIONS: Final = ("view", "add", "change", "delete")
"""NetBox's own, in the order of its forms."""

_WRITING: Final = frozenset({Policy.ALWAYS, Policy.MANAGED, Policy.FILL_IF_EMPTY})

Policies = Mapping[str, Mapping[str, Policy]]


@dataclass(frozen=True, slots=True)
class Need:
    """Actions on one model. ``path`` is its REST path, ``model`` is ``app.model``."""

    path: str
    model: str
    actions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{', '.join(self.actions)} {self.model}"


class Asker(Protocol):
    """What is needed of :class:`proxbox_dagster.netbox.client.NetBoxClient`."""

    def may(self, action: str, path: str) -> bool: ...


def needs(
    classes: Iterable[ObjectClass], *, policies: Policies | None = None, deletes: Callable[[ObjectClass], bool]
) -> tuple[Need, ...]:
    """The least that a run over these classes may need, by model in the order of first use.

    ``policies`` are the settings' ``fields``; ``deletes`` tells of which classes rows may be deleted.
    """
    wanted: dict[str, set[str]] = {}
    models: dict[str, str] = {}
    classes = tuple(classes)
    makers = {item.spec.path: item.spec for item in classes if not item.spec.update_only}
    for item in classes:
        spec = item.spec
        models[spec.path] = spec.model
        actions = wanted.setdefault(spec.path, {"view"})
        if not spec.update_only:
            actions.add("add")
        if _changes(item, (policies or {}).get(item.name) or (policies or {}).get(spec.name) or {}):
            actions.add("change")
        if deletes(item):
            actions.add("delete")
            for gone in (spec, *taken_along(spec, makers)):
                for path, _ in looked_under(gone):
                    wanted.setdefault(path, {"view"})
    return tuple(
        Need(path, models.get(path) or _model_of(path), tuple(action for action in ACTIONS if action in actions))
        for path, actions in wanted.items()
    )


def _model_of(path: str) -> str:
    """``dcim.consoleport`` of ``dcim/console-ports``: models of which no row is ours, only looked at."""
    app, _, name = path.partition("/")
    one = f"{name.removesuffix('ies')}y" if name.endswith("ies") else name.removesuffix("s")
    return f"{app}.{one.replace('-', '')}"


def owned(item: ObjectClass) -> bool:
    """Whether rows of a class belong to one endpoint, so that ``purge`` removes them."""
    return item.spec.ownership is Ownership.ENDPOINT and not item.spec.update_only


def _changes(item: ObjectClass, overridden: Mapping[str, Policy]) -> bool:
    """Rows of an endpoint are marked and cleared; shared ones change only by a field that may be overwritten."""
    spec: ModelSpec = item.spec
    return spec.ownership is Ownership.ENDPOINT or any(
        overridden.get(field.name, field.policy) in _WRITING and field.name not in spec.identity
        for field in spec.fields
    )


def missing(client: Asker, wanted: Sequence[Need], workers: int = 1) -> list[Need]:
    """What of ``wanted`` the token's user may not do. Raises :class:`NetBoxError` for any other trouble."""
    asked = [(need, action) for need in wanted for action in need.actions]
    answers = each(asked, lambda item: client.may(item[1], item[0].path), workers, "netbox-permissions")
    refused: dict[Need, list[str]] = {}
    for (need, action), allowed in zip(asked, answers, strict=True):
        if not allowed:
            refused.setdefault(need, []).append(action)
    return [replace(need, actions=tuple(actions)) for need, actions in refused.items()]


def refusal(lacking: Sequence[Need], wanted: Sequence[Need], *, read_only: bool | None) -> str:
    """One line that names what is missing and where to get it. ``read_only``: what NetBox says of the token."""
    writing = [need for need in wanted if set(need.actions) - {"view"}]
    reads = [need for need in lacking if "view" in need.actions]
    nothing_written = len(lacking) >= len(writing) and not reads
    if read_only or (read_only is None and nothing_written):
        doubt = "" if read_only else ", or its user may write nothing"
        return f"NetBox's token is read-only{doubt}: switch on 'Write enabled' of the token in NetBox."
    named = "; ".join(map(str, lacking))
    return (
        f"NetBox's token may not do what a run needs: {named}. Give its user an object permission in NetBox with these "
        "actions and object types (docs/operations.md lists all of them)."
    )
