"""Hands a Proxmox source to the stage that asks for it, read at most once per run and endpoint."""

from __future__ import annotations

import dagster as dg

from proxbox_dagster.facts import Fetched
from proxbox_dagster.failures import one_endpoint, spoken


class ProxmoxIOManager(dg.IOManager):
    """Loads ``proxmox/<source>`` of the run's partition. Stores nothing: Proxmox is only read."""

    def load_input(self, context: dg.InputContext) -> Fetched:
        """The source as :class:`Fetched`. Raises :class:`dagster.Failure` when it cannot be read at all."""
        with spoken():
            run = context.resources.proxbox.run_over(
                one_endpoint(context.asset_partition_keys), context.step_context.run_id, context.log
            )
        with spoken(cancel=run.cancel):
            # A stage loads what it is about to write: from here on no other run may write this endpoint.
            run.hold()
            fetched: Fetched = run.fetched(context.asset_key.path[-1])
            return fetched

    def handle_output(self, context: dg.OutputContext, obj: object) -> None:
        raise dg.DagsterInvariantViolationError("Proxmox is only read; no asset is stored there.")


@dg.io_manager(required_resource_keys={"proxbox"}, description="Reads Proxmox VE, once per run.")
def proxmox_io_manager(_context: dg.InitResourceContext) -> ProxmoxIOManager:
    return ProxmoxIOManager()
