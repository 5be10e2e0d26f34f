"""Writes an object class to NetBox: read current, plan, apply, and show what changed as metadata."""

from __future__ import annotations

from typing import Any

import dagster as dg

from proxbox_dagster.artifacts import artifact_folder
from proxbox_dagster.failures import spoken
from proxbox_dagster.metadata import MADE_FROM, Places, report_metadata
from proxbox_dagster.netbox.spec import Desired
from proxbox_dagster.report import ClassReport
from proxbox_dagster.report_files import run_folder, write_report

MAX_LINES = 20
"""Lines of one kind in the run's log for one object class; all of them are in its metadata and file."""


class NetBoxIOManager(dg.IOManager):
    """Stores ``netbox/<object class>`` of the run's partition: the one way to NetBox."""

    def handle_output(self, context: dg.OutputContext, obj: Desired) -> None:
        """Bring NetBox to the desired rows.

        Raises :class:`dagster.Failure`, with the counts of what was written until then, when NetBox cannot be used or
        the run is cancelled.
        """
        with spoken():
            run = context.resources.proxbox.run_over(context.asset_partition_key, context.run_id, context.log)
        name = obj.object_class.name

        def told(report: ClassReport | None) -> dict[str, Any]:
            if report is None:
                return {}
            places = Places(
                netbox=run.connection.url,
                netbox_list=obj.object_class.spec.list_of(run.endpoint.name),
                proxmox=run.context.link("cluster"),
                file=_write_file(context, run, report),
            )
            return report_metadata(report, places)

        with spoken(lambda: told(run.reports.get(name)), run.cancel):
            report = run.write(context.step_context.op_def.name, obj)
        made_from = dg.MetadataValue.json(run.made_from(report.stage))
        context.add_output_metadata({**told(report), MADE_FROM: made_from})
        _log(context, report)

    def load_input(self, context: dg.InputContext) -> None:
        """Stages refer to rows by natural keys; nothing is loaded from another stage."""
        return


def _write_file(context: dg.OutputContext, run: Any, report: ClassReport) -> str | None:
    """The class's full list; a list that cannot be written is no reason to fail what NetBox already has."""
    settings = run.file.reports
    try:
        base = artifact_folder(settings.path, context.step_context.instance, "reports")
        folder = run_folder(base, run.endpoint.name, run.started, context.run_id, context.step_context.job_name)
        file = write_report(report, folder, run.connection.url, settings.keep)
    except Exception as error:  # whatever the file system of an fsspec URL raises
        context.log.warning(f"the full list of {report.object_class} could not be written ('reports'): {error}")
        return None
    return str(file) if file else None


def _log(context: dg.OutputContext, report: ClassReport) -> None:
    failures = [f"{item.label}: {item.reason}" for item in report.failures]
    for say, lines in ((context.log.error, failures), (context.log.warning, report.warnings)):
        for line in lines[:MAX_LINES]:
            say(f"{report.object_class}: {line}")
        if len(lines) > MAX_LINES:
            say(f"{report.object_class}: … and {len(lines) - MAX_LINES} more, see the asset's page")


@dg.io_manager(required_resource_keys={"proxbox"}, description="Plans and writes NetBox objects in lists.")
def netbox_io_manager(_context: dg.InitResourceContext) -> NetBoxIOManager:
    return NetBoxIOManager()
