"""THE table: the twelve stages in order. Assets, jobs, the command line and docs/mapping.md derive from it."""

from __future__ import annotations

from proxbox_dagster.netbox.spec import ModelSpec, ObjectClass, Ownership
from proxbox_dagster.stages import (
    backup_routines,
    backups,
    devices,
    node_interfaces,
    replications,
    snapshots,
    storage,
    task_history,
    virtual_disks,
    virtual_machines,
    vm_interfaces,
    vm_ip_addresses,
)
from proxbox_dagster.stages.stage import Inputs, Stage, StageContext

STAGES: tuple[Stage, ...] = (
    devices.STAGE,
    storage.STAGE,
    virtual_machines.STAGE,
    virtual_disks.STAGE,
    task_history.STAGE,
    backups.STAGE,
    snapshots.STAGE,
    node_interfaces.STAGE,
    vm_interfaces.STAGE,
    vm_ip_addresses.STAGE,
    replications.STAGE,
    backup_routines.STAGE,
)
"""The stages by number."""

BY_NAME: dict[str, Stage] = {stage.name: stage for stage in STAGES}


def object_classes(*, plugin: bool = True) -> tuple[ObjectClass, ...]:
    """Every object class in the order in which it is written."""
    return tuple(item for stage in STAGES for item in stage.classes(plugin=plugin))


def specs(*, plugin: bool = True) -> tuple[ModelSpec, ...]:
    """Every :class:`ModelSpec` once, in the order of first use."""
    return tuple({item.spec.name: item.spec for item in object_classes(plugin=plugin)}.values())


def sources(*, plugin: bool = True) -> frozenset[str]:
    """The sources that some stage needs."""
    return frozenset(name for stage in STAGES if stage.classes(plugin=plugin) for name in stage.sources)


def left_out(*, plugin: bool) -> str | None:
    """What an operator should know who has the plugin switched off; ``None`` when nothing is left out."""
    if plugin:
        return None
    names = [item.name for item in object_classes() if item.spec.plugin]
    return (
        f"'plugin: off' in the settings: NetBox's own models are written; the {len(names)} object classes of "
        f"netbox-proxbox are left out: {', '.join(names)}."
    )


def owned_models(*, plugin: bool = True) -> tuple[str, ...]:
    """The NetBox models whose rows carry an endpoint's name."""
    return tuple(sorted({spec.model for spec in specs(plugin=plugin) if spec.ownership is Ownership.ENDPOINT}))


__all__ = [
    "BY_NAME",
    "STAGES",
    "Inputs",
    "Stage",
    "StageContext",
    "left_out",
    "object_classes",
    "owned_models",
    "sources",
    "specs",
]
