"""What Proxmox is asked before an object is taken for gone, by object class.

A token without any privilege on an object does not see it in a list, and its list of privileges does not name it
either: hidden and deleted look alike, until the object's own path is asked for.
"""

from __future__ import annotations

from typing import Any

from proxbox_dagster.netbox.spec import ModelSpec


def probe_of(spec: ModelSpec, row: dict[str, Any]) -> tuple[str, str] | None:
    """(what, name) as :meth:`ProxmoxSession.absence_gap` takes them; ``None`` for what no privilege hides."""
    custom = row.get("custom_fields") or {}
    match spec.name:
        case "virtual_machines":
            name = custom.get("proxmox_vm_id")
            what = "guest"
        case "replications":
            name = row.get("guest")
            what = "guest"
        case "storage":
            name = row.get("name")
            what = "storage"
        case "interfaces":
            kind = row.get("type")
            bridge = (kind.get("value") if isinstance(kind, dict) else kind) == "bridge"
            name = row.get("name") if bridge else None
            what = "bridge"
        case _:
            return None
    return (what, str(name)) if name else None
