"""Assembly only: assets, checks, jobs, resources, for the settings given. Importing it reads no settings."""

from __future__ import annotations

import warnings

import dagster as dg

# multi_observable_source_asset is marked beta; the warning at each import tells an operator nothing.
warnings.filterwarnings("ignore", category=dg.BetaWarning)

from proxbox_dagster.assets import Look, source_assets, stage_assets  # noqa: E402
from proxbox_dagster.jobs import jobs  # noqa: E402
from proxbox_dagster.netbox.io_manager import netbox_io_manager  # noqa: E402
from proxbox_dagster.notify import failure_sensor  # noqa: E402
from proxbox_dagster.proxmox.io_manager import proxmox_io_manager  # noqa: E402
from proxbox_dagster.resources import ProxboxResource  # noqa: E402
from proxbox_dagster.schedules import freshness_of, schedules  # noqa: E402
from proxbox_dagster.sensors import automation_sensor, observation_sensor  # noqa: E402
from proxbox_dagster.settings import ScheduleConfig, Settings  # noqa: E402
from proxbox_dagster.stages import STAGES, object_classes  # noqa: E402
from proxbox_dagster.summary import run_summary_asset  # noqa: E402


def build_definitions(settings: Settings) -> dg.Definitions:
    """The whole code location for these settings; no server is contacted and no secret read."""
    partitions = dg.StaticPartitionsDefinition(settings.endpoint_names)
    plugin = settings.file.plugin if settings.file else True
    owners = list(settings.file.owners) if settings.file else []
    clock = settings.file.schedules if settings.file else ScheduleConfig.model_validate({})
    look = Look(owners, freshness_of(clock), settings.file.docs_url if settings.file else None)
    stages = [stage_assets(stage, partitions, look, plugin=plugin) for stage in STAGES]
    names = [item.name for item in object_classes(plugin=plugin)]
    return dg.Definitions(
        assets=[
            source_assets(partitions, look),
            *(stage for stage in stages if stage is not None),
            run_summary_asset(names, partitions, owners),
        ],
        jobs=jobs(plugin=plugin),
        schedules=schedules(clock, settings.endpoint_names),
        sensors=[
            observation_sensor(clock),
            automation_sensor(),
            failure_sensor(settings.file.failure_webhook if settings.file else None),
        ],
        resources={
            "proxbox": ProxboxResource.configure_at_launch(),
            "proxmox_io": proxmox_io_manager,
            "netbox_io": netbox_io_manager,
        },
        # A step in a process of its own costs seconds here, and each would fetch again; work is parallel inside.
        executor=dg.in_process_executor,
    )
