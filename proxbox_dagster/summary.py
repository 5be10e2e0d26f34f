"""The last step of a job: the accounting of the whole run, read back from what Dagster recorded of it."""

from collections.abc import Iterable
from typing import Any

import dagster as dg

from proxbox_dagster.keys import SUMMARY_KEY, SUMMARY_STEP, class_key
from proxbox_dagster.metadata import counts_of, table
from proxbox_dagster.report import COUNTS


def recorded_counts(instance: dg.DagsterInstance, run_id: str) -> dict[str, dict[str, int]]:
    """The counts of every object class that the run has written, by class, in the order of writing."""
    found: dict[str, dict[str, int]] = {}
    cursor = None
    while True:
        page = instance.get_records_for_run(
            run_id, cursor=cursor, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION, limit=1000
        )
        for record in page.records:
            materialization = record.event_log_entry.asset_materialization
            if materialization and materialization.asset_key.path[0] == "netbox":
                found[materialization.asset_key.path[-1]] = counts_of(dict(materialization.metadata))
        if not page.has_more:
            return found
        cursor = page.cursor


def unaccounted(counts: dict[str, dict[str, int]]) -> list[str]:
    """Classes in which an object was seen and is in no outcome."""
    outcomes = ("created", "updated", "unchanged", "skipped", "failed")
    return [name for name, line in counts.items() if line["seen"] != sum(line[item] for item in outcomes)]


def totals(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    lines = list(counts)
    return {name: sum(line[name] for line in lines) for name in COUNTS}


def run_summary_asset(
    classes: list[str], partitions: dg.PartitionsDefinition[str], owners: list[str]
) -> dg.AssetsDefinition:
    """``proxbox/run_summary``: red where an object failed or is unaccounted for."""

    # A multi-asset, so that the step has the design's name and not the key's with its prefix.
    @dg.multi_asset(
        name=SUMMARY_STEP,
        specs=[
            dg.AssetSpec(
                SUMMARY_KEY,
                deps=[class_key(name) for name in classes],
                group_name="summary",
                owners=owners,
                kinds={"dagster"},
                description="What the run changed, by object class. Fails the run when an object failed.",
            )
        ],
        partitions_def=partitions,
        op_tags={"dagster/priority": "0"},
    )
    def run_summary(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        counts = recorded_counts(context.instance, context.run.run_id)
        total = totals(counts.values())
        metadata: dict[str, Any] = {
            **total,
            "classes": dg.MetadataValue.md(
                table(("object class", *COUNTS), [(name, *line.values()) for name, line in counts.items()])
            ),
        }
        wrong = unaccounted(counts)
        if wrong:
            raise dg.Failure(
                f"not every object is accounted for in {', '.join(wrong)}; this is a fault of proxbox_dagster",
                metadata=metadata,
                allow_retries=False,
            )
        if total["failed"]:
            where = ", ".join(f"{name} ({line['failed']})" for name, line in counts.items() if line["failed"])
            raise dg.Failure(
                f"{total['failed']} objects failed: {where}; the reasons are on the assets' pages",
                metadata=metadata,
                allow_retries=False,
            )
        return dg.MaterializeResult(metadata=metadata)

    return run_summary
