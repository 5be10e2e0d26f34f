"""The bench itself: its floors do what they claim, and it runs to its end. Nothing here is timed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proxbox_dagster.bench.clock import Clock
from proxbox_dagster.bench.plan import Plan, measure
from proxbox_dagster.bench.report import put, store
from proxbox_dagster.bench.script import script_of
from proxbox_dagster.demo.netbox import NetBoxServer

HOST = "http://netbox/api"


def nested(path: str, number: int) -> dict[str, Any]:
    return {"id": number, "url": f"{HOST}/{path}/{number}/"}


def test_a_script_makes_rows_as_they_ended_and_changes_only_what_cannot_be_made_at_once() -> None:
    full = {
        "dcim/devices": {7: {"id": 7, "site": nested("dcim/sites", 5), "primary_ip4": nested("ipam/ip-addresses", 9)}},
        "dcim/sites": {5: {"id": 5}},
        "ipam/ip-addresses": {9: {"id": 9, "assigned_object": nested("dcim/devices", 7)}},
    }
    record = [
        {"method": "POST", "path": "dcim/sites", "ids": [5], "rows": [{"name": "ams", "status": "planned"}]},
        {"method": "PATCH", "path": "dcim/sites", "ids": [], "rows": [{"id": 5, "status": "active"}]},
        {"method": "POST", "path": "dcim/devices", "ids": [7], "rows": [{"name": "pve1", "site": 5}]},
        {"method": "POST", "path": "ipam/ip-addresses", "ids": [9], "rows": [{"assigned_object_id": 7}]},
        {"method": "PATCH", "path": "dcim/devices", "ids": [], "rows": [{"id": 7, "primary_ip4": 9}]},
    ]

    script = script_of(record, lambda path: full[path], size=50)

    assert [(entry["method"], entry["path"], entry["rows"]) for entry in script] == [
        ("POST", "dcim/sites", [{"name": "ams", "status": "active"}]),
        ("POST", "dcim/devices", [{"name": "pve1", "site": {"$row": ["dcim/sites", 5]}}]),
        ("POST", "ipam/ip-addresses", [{"assigned_object_id": {"$row": ["dcim/devices", 7]}}]),
        (
            "PATCH",
            "dcim/devices",
            [{"id": {"$row": ["dcim/devices", 7]}, "primary_ip4": {"$row": ["ipam/ip-addresses", 9]}}],
        ),
    ]
    assert [entry["needs"] for entry in script] == [[], [0], [1], [1, 2]]


def test_a_script_makes_first_what_rows_of_the_same_path_refer_to() -> None:
    full = {"dcim/interfaces": {1: {"id": 1, "lag": nested("dcim/interfaces", 2)}, 2: {"id": 2, "lag": None}}}
    record = [
        {"method": "POST", "path": "dcim/interfaces", "ids": [2], "rows": [{"name": "bond0"}]},
        {"method": "POST", "path": "dcim/interfaces", "ids": [1], "rows": [{"name": "eno1", "lag": 2}]},
    ]

    script = script_of(record, lambda path: full[path], size=50)

    assert [(entry["ids"], entry["needs"]) for entry in script] == [([2], []), ([1], [0])]


def test_the_phases_of_a_clock_exclude_one_another() -> None:
    clock = Clock()
    with clock.phase("Dagster"), clock.phase("plan"):
        pass
    assert set(clock.seconds) == {"Dagster", "plan"}
    assert all(seconds >= 0 for seconds in clock.seconds.values())


def test_scenario_53_the_bench_reports_cold_no_op_changed_and_one_guest(netbox: NetBoxServer, tmp_path: Path) -> None:
    plan = Plan(sizes=(5,), repeat=1)

    text = store(measure(plan, print, netbox), tmp_path)

    figures = json.loads((tmp_path / "latest.json").read_text())["sizes"][0]
    cold, quiet, changed, one = (figures[name] for name in ("cold", "no-op", "changed", "one VM"))
    assert sum(counts["created"] for counts in cold["classes"].values()) > 100
    assert cold["floor_rows"] >= sum(counts["created"] for counts in cold["classes"].values())
    assert quiet["change_log_rows"] == 0
    assert not [name for name in quiet["netbox_requests"] if not name.startswith("GET")]
    assert changed["change_log_rows"] >= changed["guests_changed"] == 1
    assert changed["over"] == changed["walls"][0] - changed["quiet"][0]
    assert sum(one["netbox_requests"].values()) < 20
    assert sum(one["proxmox_requests"].values()) < 12
    assert "| 5 | cold |" in text


def test_figures_are_put_into_their_place_of_a_page_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Top\n<!-- one -->\nbefore\n<!-- /one -->\nend\n")
    run = {"cpu": 2.0, "objects": 1000, "peak_mib": 90.0, "netbox_requests": 40}
    figures = {
        "machine": {"cpus": "2 x some"},
        "plan": {"endpoints": 1, "clients": 1, "workers": 2, "repeat": 3},
        "sizes": [],
        "scale": [{"guests": 1000, "no-op": run, "cold": run}],
    }

    put(figures, page, "one")
    put(figures, page, "one")

    text = page.read_text()
    assert text.startswith("# Top\n<!-- one -->\n")
    assert text.endswith("<!-- /one -->\nend\n")
    assert "before" not in text
    assert text.count("| 1000 | no-op | 1000 | 2.0 | 2000 | 1.00 | 90 | 40 |") == 1
    with pytest.raises(ValueError, match="no part <!-- two -->"):
        put(figures, page, "two")
