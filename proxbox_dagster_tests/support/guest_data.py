"""A small cluster as its sources show it, for the pure tests of the guest data and job stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxbox_dagster.facts import UNOBSERVED, Fetched, Gap
from proxbox_dagster.netbox.spec import Desired, Ref, Row, Skip
from proxbox_dagster.stages.stage import Stage, StageContext
from proxbox_dagster_tests.support.sources import ENDPOINT, fetched

CONTEXT = StageContext(ENDPOINT, host="192.0.2.1")


def guest(vmid: int, kind: str = "qemu", node: str = "pve1", **row: Any) -> dict[str, Any]:
    """A row of ``guests``."""
    name = row.pop("name", f"g{vmid}")
    return {"id": f"{kind}/{vmid}", "node": node, "type": kind, "vmid": vmid, "name": name, "status": "running", **row}


def config(vmid: int, kind: str = "qemu", node: str = "pve1", **entries: Any) -> dict[str, Any]:
    """A row of ``guest_configs``."""
    return {"node": node, "type": kind, "vmid": vmid, "config": entries}


def vm(vmid: int, kind: str = "qemu") -> Ref:
    return Ref("virtual_machines", (ENDPOINT, kind, vmid))


def storage(name: str) -> Ref:
    return Ref("storage", (ENDPOINT, name))


def built(stage: Stage, context: StageContext = CONTEXT, **sources: Fetched) -> dict[str, Desired]:
    """What a stage wants, by object class. Sources that are not given are read to the end and empty."""
    inputs: Mapping[str, Fetched] = {name: sources.get(name, fetched(name)) for name in stage.sources}
    return {desired.object_class.name: desired for desired in stage.build(inputs, context)}


def one(desired: Desired, **values: Any) -> dict[str, Any]:
    """The values of the one row that has these."""
    found = [row.values for row in desired.rows if all(row.values.get(key) == value for key, value in values.items())]
    assert len(found) == 1, f"{values}: {[row.label for row in desired.rows]}"
    return found[0]


def skip_of(desired: Desired, text: str) -> Skip:
    """The one skip or failure whose label or reason has this text."""
    found = [skip for skip in desired.skips if text in f"{skip.label}: {skip.reason}"]
    assert len(found) == 1, f"{text!r}: {desired.skips}"
    return found[0]


def told(rows: list[Row]) -> list[tuple[str, dict[str, Any]]]:
    """Rows in comparable form and one order."""
    return sorted(((row.label, row.values) for row in rows), key=lambda item: (item[0], str(item[1])))


def gap(level: str, name: str, kind: Any, reason: str = "it did not answer") -> Gap:
    return Gap(level, name, kind, reason)


__all__ = ["CONTEXT", "ENDPOINT", "UNOBSERVED", "built", "config", "fetched", "gap", "guest", "one", "skip_of"]
