"""When Dagster materializes by itself: only what has changed in Proxmox since NetBox was last brought true to it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import dagster as dg

from proxbox_dagster.keys import SOURCE_PREFIX
from proxbox_dagster.metadata import MADE_FROM

AGAIN = "0 * * * *"
"""When a run that failed is tried again, as long as the source is still ahead of NetBox."""

LOOK_BACK = 25
"""Materializations among which the last one of a whole run is looked for: narrowed and dry runs bring nothing true."""


CODE_VERSION = "dagster/code_version"
"""The tag by which Dagster notes of a materialization which code version it was made by."""


@dataclass(frozen=True)
class _Made:
    versions: Mapping[str, str]
    read_from: float
    code_version: str | None

    @staticmethod
    def of(event: dg.AssetMaterialization) -> _Made | None:
        """``None`` for a run that was narrowed or dry."""
        value = getattr(event.metadata.get(MADE_FROM), "value", None)
        data = json.loads(value) if isinstance(value, str) else value or {}
        if data.get("narrowed"):
            return None
        tags = event.tags or {}
        return _Made(data.get("versions", {}), data.get("read_from", 0.0), tags.get(CODE_VERSION))


class NetBoxIsBehind(dg.AutomationCondition[dg.AssetKey]):
    """True where a source was observed with another data version than the one that the asset was last made from, and
    where it was made by another mapping, before an upgrade.

    An observation from before the run that made it does not count: the run has read newer data. An asset that was
    never made is behind as soon as any of its sources has been observed.
    """

    @property
    def name(self) -> str:
        return "NetBox is behind"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        subset = context.candidate_subset
        if subset.is_empty:
            return dg.AutomationResult(context, subset)
        view = context.asset_graph_view
        node = view.asset_graph.get(context.key)
        sources = [key for key in node.parent_keys if key.path[0] == SOURCE_PREFIX]
        behind = {
            partition
            for partition in subset.expensively_compute_partition_keys()
            if _is_behind(view, context.key, partition, sources, node.code_version)
        }
        return dg.AutomationResult(context, subset.compute_intersection_with_partition_keys(behind))


_observations: WeakKeyDictionary[Any, dict[tuple[dg.AssetKey, str], tuple[str, float] | None]] = WeakKeyDictionary()
"""By the view of the graph, of which there is one per tick: what was observed, asked for once and not per asset."""


def _is_behind(
    view: Any, key: dg.AssetKey, partition: str, sources: list[dg.AssetKey], code_version: str | None
) -> bool:
    made = next(_whole(view.instance, key, partition), None)
    if made is not None and made.code_version != code_version:
        return True
    observed = _observations.setdefault(view, {})
    for source in sources:
        place = (source, partition)
        if place not in observed:
            observed[place] = observed_version(view.instance, source, partition)
        found = observed[place]
        if found is None:
            continue
        version, moment = found
        if made is None or (version != made.versions.get(source.path[-1]) and moment > made.read_from):
            return True
    return False


def _whole(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str) -> Iterator[_Made]:
    records = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition])
    for limit in (1, LOOK_BACK):  # the newest one nearly always does
        for record in instance.fetch_materializations(records, limit=limit).records:
            made = _Made.of(record.asset_materialization) if record.asset_materialization else None
            if made is not None:
                yield made


def observed_version(instance: dg.DagsterInstance, source: dg.AssetKey, partition: str) -> tuple[str, float] | None:
    """The newest observed data version and when it was noted (epoch seconds)."""
    records = dg.AssetRecordsFilter(asset_key=source, asset_partitions=[partition])
    for record in instance.fetch_observations(records, limit=1).records:
        tags = record.asset_observation.tags if record.asset_observation else {}
        if version := tags.get("dagster/data_version"):
            return version, record.timestamp
    return None


def changed_at_the_source() -> dg.AutomationCondition[dg.AssetKey]:
    """Requested once NetBox is behind; after a failed run again at the next change, or at the next full hour.

    Armed by being switched on and by a change, disarmed by the request (``since``), so that a run that fails for a
    lasting reason is not requested for ever; what arrives while a run is under way stays armed until it has ended.
    """
    condition = dg.AutomationCondition
    sources = dg.AssetSelection.key_prefixes([SOURCE_PREFIX], include_sources=True)
    changed = condition.any_deps_match(condition.data_version_changed()).allow(sources)
    arming = changed | condition.cron_tick_passed(AGAIN) | condition.initial_evaluation()
    # Dagster notes a request one evaluation later: what has changed by then is not what was requested.
    armed = arming.since(condition.newly_requested() & ~arming)
    quiet = ~condition.in_progress() & ~condition.any_deps_in_progress()
    return (quiet & armed & NetBoxIsBehind()).with_label("changed at the source")
