"""Asset checks: what is asserted of each object class after it is written, and what stops the stages after it."""

from __future__ import annotations

from typing import Any

import dagster as dg

from proxbox_dagster.keys import class_key
from proxbox_dagster.metadata import reasons_table, table
from proxbox_dagster.netbox.spec import ObjectClass, Ownership
from proxbox_dagster.report import ClassReport

ACCOUNTED = "accounted"
IDENTITY = "one_row_per_identity"
BLOCKING = frozenset({"clusters", "devices", "virtual_machines"})
"""Classes that others hang on: a doubtful identity here stops what depends on it."""


def has_identity_check(item: ObjectClass) -> bool:
    """Classes whose rows this project alone makes."""
    return item.spec.ownership is Ownership.ENDPOINT and not item.spec.update_only


def check_specs(item: ObjectClass) -> list[dg.AssetCheckSpec]:
    """The checks of one object class."""
    key = class_key(item.name)
    found = [
        dg.AssetCheckSpec(
            ACCOUNTED,
            asset=key,
            description="Every object seen was created, updated, found unchanged or skipped for a reason; none failed.",
        )
    ]
    if has_identity_check(item):
        found.append(
            dg.AssetCheckSpec(
                IDENTITY,
                asset=key,
                blocking=item.name in BLOCKING,
                description=f"NetBox has one row for each {', '.join(item.spec.identity)}.",
            )
        )
    return found


def accounted_check(report: ClassReport) -> dg.AssetCheckResult:
    """Red where an object failed or is in no outcome."""
    metadata: dict[str, Any] = dict(report.counts())
    if report.failures:
        metadata["failures"] = dg.MetadataValue.md(reasons_table(report.failures))
    return dg.AssetCheckResult(
        check_name=ACCOUNTED,
        asset_key=class_key(report.object_class),
        passed=report.accounted and not report.failed,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata=metadata,
    )


def identity_check(item: ObjectClass, doubles: dict[tuple[Any, ...], list[int]]) -> dg.AssetCheckResult:
    """Red where several NetBox rows claim to be one object; ``doubles`` maps identities to row ids."""
    metadata: dict[str, Any] = {"double_identities": len(doubles)}
    if doubles:
        rows = [(" / ".join(map(str, key)), ", ".join(map(str, ids))) for key, ids in sorted(doubles.items(), key=str)]
        metadata["rows"] = dg.MetadataValue.md(table((", ".join(item.spec.identity), "ids in NetBox"), rows))
    return dg.AssetCheckResult(
        check_name=IDENTITY,
        asset_key=class_key(item.name),
        passed=not doubles,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata=metadata,
    )
