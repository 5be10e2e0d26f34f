"""Asset checks: what is asserted of each object class after it is written, and what stops the stages after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from proxbox_dagster.audit import Audit, is_ours
from proxbox_dagster.facts import Fetched, guest_key
from proxbox_dagster.keys import class_key
from proxbox_dagster.metadata import reasons_table, table, whole
from proxbox_dagster.netbox.spec import Desired, Kind, ModelSpec, ObjectClass, Ownership, Skip
from proxbox_dagster.report import ClassReport
from proxbox_dagster.stages.vm_ip_addresses import VM_PRIMARY_ADDRESSES

ACCOUNTED = "accounted"
IDENTITY = "one_row_per_identity"
REFERENCES = "every_reference_resolves"
ADDRESSES = "running_guests_have_an_address"
BLOCKING = frozenset({"clusters", "devices", "virtual_machines"})
"""Classes that others hang on: a doubtful identity here stops what depends on it."""

ADDRESSED = VM_PRIMARY_ADDRESSES.name


def has_references(spec: ModelSpec) -> bool:
    """Whether rows of the class belong to an endpoint and refer to others."""
    refers = any(field.kind in (Kind.REF, Kind.REFS) for field in spec.fields)
    return spec.ownership is Ownership.ENDPOINT and (refers or spec.parent is not None)


def check_specs(item: ObjectClass) -> list[dg.AssetCheckSpec]:
    """The checks of one object class."""
    key = class_key(item.name)
    found = [
        dg.AssetCheckSpec(
            ACCOUNTED,
            asset=key,
            description="Every object seen was created, updated, found unchanged or skipped for a reason; none failed, "
            "and NetBox has no fewer of this endpoint's rows than arrived.",
        )
    ]
    if is_ours(item.spec):
        found.append(
            dg.AssetCheckSpec(
                IDENTITY,
                asset=key,
                blocking=item.name in BLOCKING,
                description=f"NetBox has one row for each {', '.join(item.spec.identity)}.",
            )
        )
    if has_references(item.spec):
        orphans = f"no row of ours is left without its {item.spec.parent}, and " if item.spec.parent else ""
        found.append(
            dg.AssetCheckSpec(
                REFERENCES,
                asset=key,
                description=f"What the rows refer to is in NetBox: {orphans}nothing was skipped or left empty because "
                "the row that it needs is not there.",
            )
        )
    if item.name == ADDRESSED:
        found.append(
            dg.AssetCheckSpec(
                ADDRESSES, asset=key, description="Every running guest has an address in NetBox; if not, the reason."
            )
        )
    return found


def check_results(item: ObjectClass, report: ClassReport, audit: Audit) -> Iterator[dg.AssetCheckResult]:
    """The results of :func:`check_specs`, all but that of the addresses."""
    yield accounted_check(report, audit.held)
    if is_ours(item.spec):
        yield identity_check(item, audit.doubles)
    if has_references(item.spec):
        yield references_check(item, audit.orphans, report.unresolved)


def of_endpoint(result: dg.AssetCheckResult, endpoint: str) -> dg.AssetCheckResult:
    """The result as it is shown: Dagster keeps one for all partitions of an asset, the newest."""
    metadata: dict[str, Any] = {"endpoint": endpoint, **result.metadata}
    return result._replace(description=f"endpoint {endpoint}", metadata=metadata)


def accounted_check(report: ClassReport, held: int | None = None) -> dg.AssetCheckResult:
    """Red where an object failed, is in no outcome, or arrived and is not there; ``held`` are the rows in NetBox."""
    metadata: dict[str, Any] = dict(report.counts())
    arrived = report.created + report.updated + report.unchanged
    if report.failures:
        metadata["failures"] = dg.MetadataValue.md(reasons_table(report.failures))
    if held is not None:
        metadata |= {"arrived": arrived, "rows_in_netbox": held}
    return dg.AssetCheckResult(
        check_name=ACCOUNTED,
        asset_key=class_key(report.object_class),
        passed=report.accounted and not report.failed and (held is None or held >= arrived),
        severity=dg.AssetCheckSeverity.ERROR,
        metadata=metadata,
    )


def identity_check(item: ObjectClass, doubles: Mapping[tuple[Any, ...], list[int]]) -> dg.AssetCheckResult:
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


def references_check(item: ObjectClass, orphans: Sequence[str], unresolved: Sequence[Skip]) -> dg.AssetCheckResult:
    """A warning where NetBox has rows of ours whose parent is gone (it keeps an address whose interface went), and
    where what Proxmox has refers to something that NetBox has not."""
    metadata: dict[str, Any] = {"orphans": len(orphans), "unresolved": len(unresolved)}
    if orphans:
        metadata["rows"] = dg.MetadataValue.md(table(("row in NetBox",), [(name,) for name in sorted(orphans)]))
    if unresolved:
        metadata["references"] = dg.MetadataValue.md(reasons_table(unresolved))
    return dg.AssetCheckResult(
        check_name=REFERENCES,
        asset_key=class_key(item.name),
        passed=not orphans and not unresolved,
        severity=dg.AssetCheckSeverity.WARN,
        metadata=metadata,
    )


def addresses_check(inputs: Mapping[str, Fetched], primaries: Desired) -> dg.AssetCheckResult:
    """A warning where a running guest has no address, with the reason that its reads give."""
    known = {(row.values["cf.proxmox_vm_type"], row.values["cf.proxmox_vm_id"]) for row in primaries.rows}
    without = []
    for row in inputs["guests"].rows:
        key = guest_key(row["type"], row["vmid"])
        if row["status"] != "running" or row["template"] or (row["type"], row["vmid"]) in known:
            continue
        source = "container_interfaces" if row["type"] == "lxc" else "guest_agent"
        gap = inputs[source].gap("guest", key) or inputs[source].gap("node", row["node"])
        without.append((f"{row['name'] or ''} ({key})".strip(), gap.reason if gap else "it reports none"))
    metadata: dict[str, Any] = {"guests_without_address": len(without)}
    if without:
        metadata["guests"] = dg.MetadataValue.md(
            table(("guest", "reason"), [(name, whole(reason)) for name, reason in sorted(without)])
        )
    return dg.AssetCheckResult(
        check_name=ADDRESSES,
        asset_key=class_key(ADDRESSED),
        passed=not without,
        severity=dg.AssetCheckSeverity.WARN,
        metadata=metadata,
    )
