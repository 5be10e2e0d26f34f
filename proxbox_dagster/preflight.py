"""Before a stage writes anything: does NetBox have what its rows refer to, and is the cluster this endpoint's?"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from proxbox_dagster import stages
from proxbox_dagster.facts import Fetched
from proxbox_dagster.netbox.spec import Desired, ModelSpec, Ownership, Ref
from proxbox_dagster.netbox.state import NetBoxState
from proxbox_dagster.scope import Scope
from proxbox_dagster.stages.devices_specs import CLUSTER
from proxbox_dagster.stages.stage import Stage


def missing_upstream(
    stage: Stage, desired: Mapping[str, Desired], state: NetBoxState, written: Collection[str], *, plugin: bool
) -> str | None:
    """Why the stage can do nothing: NetBox has not one row of an upstream stage that this one's rows refer to.

    ``written`` are the object classes that this run has already brought true; an upstream stage among them has had
    its say. Single rows without a parent are no matter of this: each is skipped with its own reason.
    """
    wanted = {ref.index for item in desired.values() for row in item.rows for ref in _refs(row.values.values())}
    for upstream in _above(stage):
        referred = [spec for spec in _own_specs(upstream, plugin) if spec.index_name in wanted]
        if referred and not _any_row(upstream, referred, state, written, plugin):
            first = next(
                item
                for item in [*_above(upstream), upstream]
                if item is upstream or not _any_row(item, _own_specs(item, plugin), state, written, plugin)
            )
            what = _own_specs(first, plugin)[0].name.replace("_", " ")
            return (
                f"stage {stage.name} needs stage {first.name} first: NetBox has no {what} of endpoint "
                f"{state.endpoint} yet. Run full_update, or {first.name} together with {stage.name}."
            )
    return None


def foreign_cluster(desired: Mapping[str, Desired], state: NetBoxState) -> str | None:
    """Why the stage may do nothing: another endpoint keeps the NetBox cluster that this one leads to.

    Costs a request only where this endpoint has no cluster in NetBox yet.
    """
    clusters = desired.get("clusters")
    for row in clusters.rows if clusters else ():
        state.load(CLUSTER)
        if state.find(CLUSTER, row) is not None:
            continue
        for found in state.look_up(CLUSTER, CLUSTER.unique[0], [row]):
            owner = state.owner_of(found)
            if owner and owner != state.endpoint:
                return (
                    f"endpoints {owner} and {state.endpoint} both lead to the NetBox cluster '{row.label}'. "
                    "If they are one Proxmox cluster, make them one endpoint with both hosts; "
                    f"if not, give {state.endpoint} a name of its own with its key 'cluster'."
                )
    return None


def unknown_scope(
    scope: Scope, endpoint: str, stage: Stage, fetched: Callable[[str], Fetched], written: Collection[str]
) -> str | None:
    """Why a narrowed run would do nothing, or less than it was asked for: what it is narrowed to is not there.

    Stage ``virtual_machines`` tells of guests itself, and what else it was asked for arrives; ``written`` are the
    object classes that this run has brought true. Raises :class:`ProxmoxError`.
    """
    known: dict[str, tuple[Iterable[Any], Iterable[Any]]] = {}
    if scope.nodes:
        members = {row["name"] for row in fetched("cluster_status").rows if row["type"] == "node"}
        known["node"] = scope.nodes, members
    if scope.storages:
        known["storage"] = scope.storages, {row["storage"] for row in fetched("storage").rows}
    told = stage.name == "virtual_machines" or "virtual_machines" in written
    if scope.vmids and not scope.nodes and "guests" in stage.sources and not told:
        known["guest"] = scope.vmids, {row["vmid"] for row in fetched("guests").rows}
    for what, (asked, there) in known.items():
        if unknown := sorted(set(asked) - set(there)):
            names = ", ".join(map(str, unknown))
            return (
                f"the run is narrowed to {what} {names}, which endpoint {endpoint} has not, or which its token may not "
                "see: correct the run's configuration"
            )
    return None


def _own_specs(stage: Stage, plugin: bool) -> list[ModelSpec]:
    """What the stage makes itself for its endpoint; classes that it shares or only completes are left out."""
    specs = (item.spec for item in stage.classes(plugin=plugin))
    return [spec for spec in specs if spec.ownership is Ownership.ENDPOINT and not spec.update_only]


def _any_row(stage: Stage, specs: list[ModelSpec], state: NetBoxState, written: Collection[str], plugin: bool) -> bool:
    if any(item.name in written for item in stage.classes(plugin=plugin)):
        return True
    for spec in specs:
        state.load(spec)
        if state.rows(spec):
            return True
    return False


def _above(stage: Stage) -> list[Stage]:
    """All stages that this one hangs on, the first of the pipeline first."""
    names: set[str] = set()
    waiting = list(stage.upstream)
    while waiting:
        name = waiting.pop()
        if name not in names:
            names.add(name)
            waiting += stages.BY_NAME[name].upstream
    return [item for item in stages.STAGES if item.name in names]


def _refs(values: Iterable[Any]) -> Iterator[Ref]:
    """References in these values, with those that they are reached by."""
    for value in values:
        if isinstance(value, Ref):
            yield value
            yield from _refs(value.key)
        elif isinstance(value, tuple | list):
            yield from _refs(value)
