"""Before a row is deleted, all is looked for that NetBox would delete along: held against NetBox's own models."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from proxbox_dagster import stages
from proxbox_dagster.demo.netbox.processes import clean_environment
from proxbox_dagster.netbox.reading import looked_under
from proxbox_dagster.netbox.spec import Ownership

SCRIPT = Path(__file__).parent / "support" / "netbox_cascades.py"

NOBODYS = {
    "extras.bookmark": "a person's pointer, not data",
    "extras.subscription": "the same",
    "extras.taggeditem": "the row's own tags",
    "dcim.portmapping": "of front and rear ports, which are looked for",
    "dcim.cabletermination": "of cables, which are looked for",
    "dcim.coolingintake": "NetBox 4.7 only",
    "dcim.coolingoutflow": "NetBox 4.7 only",
    "wireless.wirelesslink": "NetBox protects the interface",
}


def test_nothing_that_people_made_is_taken_along_unseen(netbox_server: Any) -> None:
    # What a run never removes, purge does.
    specs = [
        spec for spec in stages.specs(plugin=True) if spec.ownership is Ownership.ENDPOINT and not spec.update_only
    ]
    told = subprocess.run(
        [netbox_server._web.installation.python, "-P", SCRIPT, *{spec.model for spec in specs}],
        env=clean_environment({"NETBOX_ROOT": str(netbox_server._run.path)}),
        cwd=netbox_server._run.path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert set(found["virtualization.virtualmachine"]) >= {"virtualization.virtualdisk", "ipam.service"}
    ours = {spec.model for spec in stages.specs(plugin=True)}
    for spec in specs:
        looked = [path for path, _ in looked_under(spec)]
        for model in found[spec.model]:
            through = "_" in model.split(".")[1] and not model.startswith("netbox_proxbox.")
            if through or model in NOBODYS or model in ours or model.startswith("netbox_proxbox."):
                continue
            assert any(_is_of(path, model) for path in looked), f"{spec.name}: {model}"


def _is_of(path: str, model: str) -> bool:
    """``ipam/fhrp-group-assignments`` is where ``ipam.fhrpgroupassignment`` is."""
    app, name = path.split("/")
    singular = re.sub(r"ies$", "y", name.replace("-", ""))
    return app == model.split(".")[0] and singular.startswith(model.split(".")[1])
