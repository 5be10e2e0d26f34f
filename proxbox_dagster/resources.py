"""The one resource: what a run is asked to do, and the runs over its endpoints while it lasts."""

from __future__ import annotations

from typing import Any

import dagster as dg
from pydantic import Field, PrivateAttr, ValidationError

from proxbox_dagster import early
from proxbox_dagster.jobs import QUICK_UPDATE, SYNC_GUESTS
from proxbox_dagster.rules import checked
from proxbox_dagster.run import EndpointRun, RunOptions
from proxbox_dagster.scope import Scope
from proxbox_dagster.settings import ConcurrencyConfig, load_settings, problems_of


class ProxboxResource(dg.ConfigurableResource):
    """Narrows a run and sets its limits; in the launchpad under ``resources: proxbox: config``.

    All fields are optional; without any the run covers its endpoint whole. The seven limits override the settings'
    ``concurrency`` for this run.
    """

    vmids: list[int] = Field(default=[], description="Only these guests (VMIDs).")
    nodes: list[str] = Field(default=[], description="Only these nodes and the guests on them.")
    storages: list[str] = Field(default=[], description="Only these storages and the backups on them.")
    dry_run: bool = Field(default=False, description="Plan and show every change, write nothing.")
    override_brake: bool = Field(
        default=False, description="Let this run remove more than the brake allows. For one run, after looking."
    )
    vm_sync_max_concurrency: int | None = Field(
        default=None, description="Guest configurations read at once (stage 3). PROXBOX_VM_SYNC_MAX_CONCURRENCY"
    )
    fetch_max_concurrency: int | None = Field(
        default=None, description="Storage, backup and snapshot reads at once. PROXBOX_FETCH_MAX_CONCURRENCY"
    )
    netbox_write_concurrency: int | None = Field(
        default=None, description="Lists prepared for writing at once. PROXBOX_NETBOX_WRITE_CONCURRENCY"
    )
    proxmox_fetch_concurrency: int | None = Field(
        default=None, description="Other reads of Proxmox at once. PROXBOX_PROXMOX_FETCH_CONCURRENCY"
    )
    backup_batch_size: int | None = Field(
        default=None, description="Storages whose backups are listed at once. PROXBOX_BACKUP_BATCH_SIZE"
    )
    backup_batch_delay_ms: int | None = Field(
        default=None, description="Milliseconds between two such batches. PROXBOX_BACKUP_BATCH_DELAY_MS"
    )
    netbox_max_concurrent: int | None = Field(
        default=None, description="Requests to NetBox at once: the real ceiling. PROXBOX_NETBOX_MAX_CONCURRENT"
    )

    _job: str = PrivateAttr(default="")
    _runs: dict[str, EndpointRun] = PrivateAttr(default_factory=dict)

    def options(self) -> RunOptions:
        """The run's options. Raises :class:`dagster.Failure` for a limit that is out of range."""
        limits = {name: getattr(self, name) for name in ConcurrencyConfig.model_fields}
        given = {name: value for name, value in limits.items() if value is not None}
        concurrency = None
        if given:
            base = load_settings().require().concurrency.model_dump()
            try:
                concurrency = ConcurrencyConfig.model_validate({**base, **given})
            except ValidationError as error:
                raise dg.Failure(
                    f"run config of resource proxbox: {problems_of(error, given)}", allow_retries=False
                ) from None
        scope = Scope(frozenset(self.vmids), frozenset(self.nodes), frozenset(self.storages))
        return RunOptions(scope, self.dry_run, self.override_brake, concurrency)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Note which job this is."""
        self._job = context.run.job_name if context.run else ""

    def run_over(self, endpoint: str, run_id: str, log: Any) -> EndpointRun:
        """The run over one endpoint, made at the first call.

        Raises :class:`SettingsError`, and :class:`dagster.Failure` for a run config that makes no sense.
        """
        if endpoint not in self._runs:
            options = self.options()
            self._runs[endpoint] = early.claim(endpoint, run_id, options, log.warning) or EndpointRun(
                checked(load_settings()), endpoint, run_id, options, log.warning
            )
        if self._job == SYNC_GUESTS and not self.vmids:
            raise dg.Failure(
                f"{SYNC_GUESTS} syncs single guests: give their VMIDs in the launchpad, as in "
                f"'resources: {{proxbox: {{config: {{vmids: [100]}}}}}}'. For all guests run {QUICK_UPDATE}.",
                allow_retries=False,
            )
        return self._runs[endpoint]

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Close every connection of the run."""
        for run in self._runs.values():
            run.close()
        self._runs.clear()
