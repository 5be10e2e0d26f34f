"""The jobs: the whole pipeline, the observation of the sources, one stage, some guests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg

from proxbox_dagster.keys import SUMMARY_KEY, class_key, source_key
from proxbox_dagster.proxmox.sources import SOURCES
from proxbox_dagster.stages import STAGES, sources
from proxbox_dagster.stages.stage import Stage
from proxbox_dagster.summary import tell_failed_run

FULL_UPDATE = "full_update"
OBSERVE = "observe_proxmox"
SYNC_GUESTS = "sync_guests"
QUICK_UPDATE = "quick_update"
GUEST_STAGES = ("virtual_machines", "virtual_disks", "backups", "snapshots", "vm_interfaces", "vm_ip_addresses")
"""What 'sync this guest now' runs: the stages whose rows belong to one guest."""

QUICK_STAGES = ("virtual_machines", "vm_interfaces", "vm_ip_addresses")
"""What changes by the hour: guests, their interfaces and addresses."""


def stage_selection(names: Sequence[str], *, plugin: bool) -> dg.AssetSelection:
    """These stages' object classes with the sources they read, and the run's summary."""
    chosen = [stage for stage in STAGES if stage.name in names]
    classes = [class_key(item.name) for stage in chosen for item in stage.classes(plugin=plugin)]
    return dg.AssetSelection.assets(*classes, SUMMARY_KEY)


def _whole_selection(*, plugin: bool) -> dg.AssetSelection:
    """Everything, but for sources that only the plugin's rows are made of where these are left out."""
    whole = dg.AssetSelection.all(include_sources=True)
    unused = [source_key(name) for name in SOURCES if name not in sources(plugin=plugin)]
    return whole - dg.AssetSelection.assets(*unused) if unused else whole


def guest_stages() -> list[Stage]:
    """The stages of :data:`GUEST_STAGES`, in order."""
    return [stage for stage in STAGES if stage.name in GUEST_STAGES]


def _job(name: str, **arguments: Any) -> dg.UnresolvedAssetJobDefinition:
    return dg.define_asset_job(name, hooks={tell_failed_run}, **arguments)


def jobs(*, plugin: bool) -> list[dg.UnresolvedAssetJobDefinition]:
    """Every job; each runs over one endpoint."""
    whole = _job(
        FULL_UPDATE,
        selection=_whole_selection(plugin=plugin),
        description="Observes Proxmox and brings all of NetBox's objects of one endpoint true to it.",
    )
    observe = _job(
        OBSERVE,
        selection=dg.AssetSelection.assets(*(source_key(name) for name in SOURCES if name in sources(plugin=plugin))),
        description="Only reads Proxmox and notes what has changed there.",
    )
    guests = _job(
        SYNC_GUESTS,
        selection=stage_selection([stage.name for stage in guest_stages()], plugin=plugin),
        description="Syncs single guests now, with their disks, interfaces, addresses, snapshots and backups: "
        "give their VMIDs in the launchpad, `resources: {proxbox: {config: {vmids: [100]}}}`.",
    )
    quick = _job(
        QUICK_UPDATE,
        selection=stage_selection(QUICK_STAGES, plugin=plugin),
        description="Guests, their interfaces and addresses; leaves out what changes by the day.",
    )
    single = [
        _job(
            f"sync_{stage.name}",
            selection=stage_selection([stage.name], plugin=plugin),
            description=f"Stage {stage.number} alone: {stage.description}",
        )
        for stage in STAGES
        if stage.classes(plugin=plugin)
    ]
    return [whole, observe, guests, quick, *single]
