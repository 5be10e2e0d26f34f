"""The shape of the code location as plain data, and the command that stores it anew.

``python -m proxbox_dagster_tests.support.graph`` writes fixtures/graph.json, which test_definitions.py compares with;
look at the difference before it is committed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dagster as dg

from proxbox_dagster.assembly import build_definitions
from proxbox_dagster.settings import Settings, SettingsFile

STORED = Path(__file__).parent.parent / "fixtures" / "graph.json"


def two_endpoints(**keys: Any) -> Settings:
    """Settings with the endpoints ams1 and lab, whose secrets are set nowhere."""
    endpoints = [
        {
            "name": name,
            "hosts": [f"{name}.example.org"],
            "user": "netbox@pve",
            "token_name": "sync",
            "token_value": {"env": f"TEST_{name.upper()}_TOKEN"},
        }
        for name in ("ams1", "lab")
    ]
    netbox = {"url": "https://netbox.example.org", "token": {"env": "TEST_NETBOX_TOKEN"}}
    return Settings(SettingsFile.model_validate({"netbox": netbox, "endpoints": endpoints, **keys}), "the test")


def shape(definitions: dg.Definitions) -> dict[str, Any]:
    """Assets with group, kinds, dependencies, partitions and checks; jobs, schedules, sensors and resources."""
    graph = definitions.resolve_asset_graph()
    repository = definitions.get_repository_def()
    assets = {}
    for key in sorted(graph.get_all_asset_keys()):
        node = graph.get(key)
        assets[key.to_user_string()] = {
            "group": node.group_name,
            "kinds": sorted(node.kinds),
            "deps": sorted(parent.to_user_string() for parent in node.parent_keys),
            "partitions": node.partitions_def.get_partition_keys() if node.partitions_def else None,
            "executable": "observation" if node.is_observable else "materialization",
            "checks": sorted(
                check.name + (" (blocking)" if graph.get_check_spec(check).blocking else "")
                for check in graph.get_check_keys_for_assets({key})
            ),
        }
    jobs = {
        job.name: sorted(key.to_user_string() for key in job.asset_layer.selected_asset_keys)
        for job in repository.get_all_jobs()
        if not job.name.startswith("__")
    }
    return {
        "assets": assets,
        "jobs": jobs,
        "schedules": {item.name: item.job_name for item in repository.schedule_defs},
        "sensors": sorted(item.name for item in repository.sensor_defs),
        "resources": sorted(repository.get_top_level_resources()),
    }


def text(found: dict[str, Any]) -> str:
    return json.dumps(found, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    STORED.write_text(text(shape(build_definitions(two_endpoints()))))
    print(f"{STORED} written")
