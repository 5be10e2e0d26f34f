"""Writes an object class to NetBox: read current, plan, apply, and show what changed as metadata."""

from __future__ import annotations

from typing import Any

import dagster as dg

from proxbox_dagster.failures import spoken
from proxbox_dagster.metadata import report_metadata
from proxbox_dagster.netbox.spec import Desired


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

        def counted() -> dict[str, Any]:
            partial = run.reports.get(name)
            return report_metadata(partial, run.connection.url) if partial else {}

        with spoken(counted, run.cancel):
            report = run.write(context.step_context.op_def.name, obj)
        context.add_output_metadata(report_metadata(report, run.connection.url))
        for failure in report.failures:
            context.log.error(f"{report.object_class}: {failure.label}: {failure.reason}")
        for conflict in report.conflicts:
            context.log.warning(
                f"{report.object_class}: {conflict.label}: {conflict.field} was changed by hand and is kept"
            )

    def load_input(self, context: dg.InputContext) -> None:
        """Stages refer to rows by natural keys; nothing is loaded from another stage."""
        return


@dg.io_manager(required_resource_keys={"proxbox"}, description="Plans and writes NetBox objects in lists.")
def netbox_io_manager(_context: dg.InitResourceContext) -> NetBoxIOManager:
    return NetBoxIOManager()
