"""The table of stages turned into Dagster: source assets that are observed, and one op of assets per stage."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from proxbox_dagster import stages
from proxbox_dagster.automation import changed_at_the_source, observed_version
from proxbox_dagster.checks import ADDRESSED, addresses_check, check_results, check_specs, of_endpoint
from proxbox_dagster.code_version import code_version
from proxbox_dagster.facts import Fetched
from proxbox_dagster.failures import NOT_STARTED, one_endpoint, spoken
from proxbox_dagster.keys import SUMMARY_STEP, class_key, source_key
from proxbox_dagster.metadata import MAX_TEXT, gaps_table, grouped_gaps
from proxbox_dagster.netbox.spec import Desired, ObjectClass
from proxbox_dagster.proxmox.sources import SOURCES, Source
from proxbox_dagster.report import ClassReport
from proxbox_dagster.run import EndpointRun
from proxbox_dagster.snapshot_files import Snapshots
from proxbox_dagster.stages.mapping_doc import anchor, heading
from proxbox_dagster.stages.stage import Stage
from proxbox_dagster.summary import steps_of


@dataclass(frozen=True)
class Look:
    """What the settings say of how assets appear in the UI."""

    owners: list[str] = field(default_factory=list)
    freshness: dg.FreshnessPolicy | None = None
    docs_url: str | None = None

    def docs(self, title: str | None = None) -> dg.MetadataValue[Any]:
        """Where to read on: a link if the settings know where docs/ is served, else file and heading."""
        if self.docs_url is None:
            return dg.MetadataValue.text(f"docs/mapping.md{f', {title}' if title else ''}")
        fragment = f"#{anchor(title)}" if title else ""
        return dg.MetadataValue.url(f"{self.docs_url.rstrip('/')}/mapping.md{fragment}")


# -- sources ----------------------------------------------------------------------------------------------------


def _source_spec(source: Source, partitions: dg.PartitionsDefinition[str], look: Look) -> dg.AssetSpec:
    columns = [dg.TableColumn(column.name, column.type, description=column.description) for column in source.columns]
    readers = [stage for stage in stages.STAGES if source.name in stage.sources]
    spec = dg.AssetSpec(
        source_key(source.name),
        description=f"{source.description}\n\n"
        f"Proxmox: `GET {source.path}`, once per {source.per}. Needs {source.privilege}.\n\n"
        f"Read by {', '.join(f'stage {stage.number} ({stage.title.lower()})' for stage in readers)}.",
        group_name="proxmox",
        kinds={"proxmox"},
        owners=look.owners,
        partitions_def=partitions,
        tags={"proxbox/stage": readers[0].name},
        metadata={
            "dagster/column_schema": dg.TableSchema(columns=columns),
            "path": source.path,
            "privilege": source.privilege,
            "docs": look.docs(readers[0].heading),
        },
    )
    return spec.with_io_manager_key("proxmox_io")


def source_assets(partitions: dg.PartitionsDefinition[str], look: Look) -> dg.AssetsDefinition:
    """All sources in one op: they share a session, and what is shared between them is read once."""

    @dg.multi_observable_source_asset(
        name="read_proxmox",
        specs=[_source_spec(source, partitions, look) for source in SOURCES.values()],
        can_subset=True,
        required_resource_keys={"proxbox"},
    )
    def read_proxmox(context: dg.AssetExecutionContext) -> Iterator[dg.ObserveResult]:
        run = _run_of(context)
        names = [key.path[-1] for key in sorted(context.selected_asset_keys)]
        with spoken(cancel=run.cancel):
            if _has_summary(context):  # it will write, not only look
                run.hold()
                run.look_ahead(_steps(context))
            run.prefetch(names)
        snapshots = Snapshots(run.file.snapshots, context.instance, context.log.warning)
        for name in names:
            if _has_summary(context) and (trouble := _unreadable(run, name)):
                context.log.error(f"{name} could not be read, and the stages that need it fail: {trouble}")
                yield dg.ObserveResult(asset_key=source_key(name), metadata={"attention": trouble[:MAX_TEXT]})
                continue
            with spoken(cancel=run.cancel):
                fetched = run.fetched(name)
                kept = None if run.options.dry_run else snapshots.keep(fetched, run.version(name))
            yield dg.ObserveResult(
                asset_key=source_key(name),
                data_version=dg.DataVersion(_version(context, run, name)),
                metadata=_observed(fetched) | ({"snapshot": dg.MetadataValue.path(kept)} if kept else {}),
            )

    return read_proxmox


def _unreadable(run: EndpointRun, source: str) -> str | None:
    """Why a source cannot be read, where the settings let the stages go on that do not need it.

    Those that do fail by it, so that the run is red all the same. A step of Dagster's that fails takes all with it.
    """
    if run.file.on_stage_failure != "continue":
        return None
    try:
        with spoken(cancel=run.cancel):
            run.fetched(source)
    except dg.Failure as failure:
        if run.cancelled:
            raise
        return failure.description or source
    return None


def _version(context: dg.AssetExecutionContext, run: EndpointRun, source: str) -> str:
    """What the whole source holds: a narrowed run has seen a part only, and keeps what was known of the whole."""
    if run.options.scope.is_full:
        return run.version(source)
    known = observed_version(context.instance, source_key(source), context.partition_key)
    return known[0] if known else "only a part was read"


def _observed(fetched: Fetched) -> dict[str, Any]:
    data: dict[str, Any] = {
        "rows": len(fetched.frame),
        "requests": fetched.requests,
        "seconds": round(fetched.seconds, 3),
        "complete": fetched.complete,
    }
    if fetched.gaps:
        data["not_observed"] = len(fetched.gaps)
        wanting = [gap for gap in fetched.gaps if gap.is_error] or list(fetched.gaps)
        lines = [f"{where}: {reason}" for reason, where in grouped_gaps(wanting)]
        if any(gap.is_error for gap in wanting):
            data["attention"] = "; ".join(lines)[:MAX_TEXT]
        data["gaps"] = dg.MetadataValue.md(gaps_table(wanting))
    return data


# -- stages -----------------------------------------------------------------------------------------------------


def _class_out(stage: Stage, item: ObjectClass, look: Look) -> dg.AssetOut:
    spec = item.spec
    columns = [
        dg.TableColumn(entry.name, str(entry.kind), description=f"{entry.source}; {entry.conversion} ({entry.policy})")
        for entry in spec.fields
    ]
    plugin = " of the plugin netbox-proxbox" if spec.plugin else ""
    return dg.AssetOut(
        key=class_key(item.name),
        description=f"**{item.title}.** {item.description}\n\n"
        f"Stage {stage.number} ({stage.title.lower()}). NetBox model `{spec.model}`{plugin}, `/api/{spec.path}/`. "
        f"One row for each {', '.join(spec.identity)}.",
        group_name=stage.group,
        kinds={"netbox"},
        owners=look.owners,
        io_manager_key="netbox_io",
        code_version=code_version(stage, item),
        is_required=False,
        automation_condition=changed_at_the_source(),
        freshness_policy=look.freshness,
        tags={"proxbox/stage": stage.name},
        metadata={
            "dagster/column_schema": dg.TableSchema(columns=columns),
            "dagster/table_name": spec.model,
            "stage": stage.number,
            "docs": look.docs(heading(item)),
        },
    )


def stage_assets(
    stage: Stage,
    partitions: dg.PartitionsDefinition[str],
    look: Look,
    *,
    plugin: bool,
) -> dg.AssetsDefinition | None:
    """One stage as one op; ``None`` for a stage that has no object class without the plugin."""
    classes = stage.classes(plugin=plugin)
    if not classes:
        return None
    upstream = [class_key(item.name) for name in stage.upstream for item in _referred_to(name, plugin=plugin)]

    @dg.multi_asset(
        name=stage.name,
        description=f"Stage {stage.number}: {stage.description}",
        outs={item.name: _class_out(stage, item, look) for item in classes},
        ins={source: dg.AssetIn(source_key(source)) for source in stage.sources},
        deps=upstream,
        can_subset=True,
        partitions_def=partitions,
        required_resource_keys={"proxbox"},
        op_tags={"dagster/priority": str(100 - stage.number), "proxbox/stage": stage.name},
        check_specs=[spec for item in classes for spec in check_specs(item)],
    )
    def stage_op(context: dg.AssetExecutionContext, **inputs: Fetched) -> Iterator[Any]:
        run = _run_of(context)
        _gate(context, run)
        with spoken(cancel=run.cancel):
            run.hold()
            desired = run.build(stage, inputs)
            run.preflight(stage, desired)
        failed: list[ClassReport] = []
        braked: list[str] = []
        for item in classes:
            if item.name not in context.op_execution_context.selected_output_names:
                continue
            yield dg.Output(desired.get(item.name, Desired(item)), output_name=item.name)
            report = run.reports[item.name]
            failed += [report] if report.failed else []
            braked += [report.braked] if report.braked else []
            results = list(check_results(item, report, run.audit(item)))
            if item.name == ADDRESSED:
                results.append(addresses_check(inputs, desired.get(item.name, Desired(item))))
            yield from (of_endpoint(result, context.partition_key) for result in results)
        if braked:
            raise dg.Failure(" ".join(braked), allow_retries=False)
        if failed and not _has_summary(context):
            raise dg.Failure(_failed_line(failed), allow_retries=False)

    return stage_op


def _referred_to(name: str, *, plugin: bool) -> tuple[ObjectClass, ...]:
    """What the rows of later stages refer to in this one: the class that the stage is named for.

    All classes of a stage are written by one op, so one of them is enough for the order; and for each dependency
    Dagster asks its event log once a step.
    """
    return tuple(item for item in stages.BY_NAME[name].classes(plugin=plugin) if item.name == name)


def _failed_line(reports: list[ClassReport]) -> str:
    parts = []
    for report in reports:
        first = report.failures[0]
        more = f" and {report.failed - 1} more" if report.failed > 1 else ""
        parts.append(f"{report.object_class}: {first.label}: {first.reason}{more}")
    return "; ".join(parts)


def _run_of(context: dg.AssetExecutionContext) -> EndpointRun:
    partitioned = context.has_partition_key or context.has_partition_key_range
    with spoken():
        endpoint = one_endpoint(context.partition_keys if partitioned else ())
        run: EndpointRun = context.resources.proxbox.run_over(endpoint, context.run.run_id, context.log)
    return run


def _gate(context: dg.AssetExecutionContext, run: EndpointRun) -> None:
    """With ``on_stage_failure: abort``, no stage starts once one has failed. Dagster itself has no fail-fast."""
    if run.file.on_stage_failure != "abort":
        return
    failures = context.instance.get_records_for_run(
        context.run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE
    ).records
    names = [
        record.event_log_entry.dagster_event.step_key for record in failures if record.event_log_entry.dagster_event
    ]
    if names:
        raise dg.Failure(
            f"{NOT_STARTED} stage {names[0]} failed (set 'on_stage_failure: continue' to go on with what does not "
            "depend on it)",
            allow_retries=False,
        )


def _has_summary(context: dg.AssetExecutionContext) -> bool:
    """True when this run ends with the summary step, which fails the run for failed objects."""
    return SUMMARY_STEP in _steps(context)


def _steps(context: dg.AssetExecutionContext) -> frozenset[str]:
    """The names of all steps of this run."""
    return steps_of(context.instance, context.run)
