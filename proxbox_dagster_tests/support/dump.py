"""All of NetBox as plain lines, without ids and times: two NetBoxes that show the same have the same lines.

A reference to a row stands as that row's own label, with the labels of what it lies under.
"""

from __future__ import annotations

import json
from typing import Any

# Sessions, users, jobs, NetBox's own change log and search index: not what is kept of the world.
_LEFT_OUT = ("account_", "auth_", "core_", "django_", "social_", "taggit_", "thumbnail_", "users_")
_LEFT_OUT_TABLES = frozenset({"extras_cachedvalue", "extras_notification", "extras_subscription"})
_MOVING = frozenset({"id", "created", "last_updated", "lft", "rght", "tree_id", "level", "path"})
_PARENTS = ("virtual_machine_id", "device_id", "cluster_id", "endpoint_id", "storage_id")
_NAMES = ("name", "address", "mac_address", "upid", "volid", "volume_id", "job_id", "vid", "model", "slug", "key")


class Dump:
    """One look at NetBox's tables."""

    def __init__(self, netbox: Any) -> None:
        columns = netbox.sql(
            "select table_name from information_schema.tables where table_schema = 'public'"
            " and table_type = 'BASE TABLE' order by 1"
        )
        names = [name for (name,) in columns if not name.startswith(_LEFT_OUT) and name not in _LEFT_OUT_TABLES]
        parts = [f"select '{name}', to_jsonb(t) from \"{name}\" t" for name in names]
        self._rows: dict[str, list[dict[str, Any]]] = {}
        for name, row in netbox.sql(" union all ".join(parts)):
            self._rows.setdefault(name, []).append(row)
        self._by_id = {(table, row["id"]): row for table, rows in self._rows.items() for row in rows if "id" in row}
        self._types = {
            number: f"{app}_{model}" for number, app, model in netbox.sql("select * from django_content_type")
        }
        self._targets: dict[tuple[str, str], str] = {
            (table, column): target
            for table, column, target in netbox.sql(
                "select c.conrelid::regclass::text, a.attname, c.confrelid::regclass::text from pg_constraint c"
                " join pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1] where c.contype = 'f'"
            )
        }

    def lines(self, *without: str) -> list[str]:
        """One line a row, sorted. ``without``: names of columns that do not matter."""
        return sorted(
            f"{table} {json.dumps(self._plain(table, row, without), sort_keys=True)}"
            for table, rows in self._rows.items()
            for row in rows
        )

    def table(self, name: str) -> list[dict[str, Any]]:
        """The rows of one table as they are."""
        return self._rows.get(name, [])

    def _plain(self, table: str, row: dict[str, Any], without: tuple[str, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for column, value in row.items():
            # An id as a plain number, beside the reference that says the same.
            raw = column.endswith("_raw_id") and column.replace("_raw_id", "_id") in row
            if column in _MOVING or column in without or value is None or raw:
                continue
            if column == "custom_field_data":
                found[column] = self._custom(table, value)
            elif (table, column) in self._targets:
                found[column] = self._label(self._targets[table, column], value)
            elif column.endswith("_type_id") and value in self._types:
                found[column] = self._types[value]
            elif (generic := row.get(column.removesuffix("_id") + "_type_id")) in self._types:
                found[column] = self._label(self._types[generic], value)
            elif column == "object_id" and row.get("content_type_id") in self._types:
                found[column] = self._label(self._types[row["content_type_id"]], value)
            else:
                found[column] = value
        return found

    def _custom(self, table: str, values: dict[str, Any]) -> dict[str, Any]:
        found = {name: value for name, value in values.items() if value is not None}
        memory = found.get("proxbox_last_written")
        if isinstance(memory, dict):
            found["proxbox_last_written"] = {
                name: self._label(self._targets[table, f"{name}_id"], value)
                if isinstance(value, int) and (table, f"{name}_id") in self._targets
                else value
                for name, value in memory.items()
            }
        missing = found.get("proxbox_missing")
        if isinstance(missing, dict):
            found["proxbox_missing"] = {name: value for name, value in missing.items() if name != "since"}
        return found

    def _label(self, table: str, number: Any) -> str:
        if number is None:
            return "nothing"
        if table == "django_content_type":
            return self._types.get(number, "an unknown type")
        row = self._by_id.get((table, number))
        if row is None:
            return f"a lost row of {table}"
        own = next((str(row[name]) for name in _NAMES if row.get(name) not in (None, "")), "")
        custom = row.get("custom_field_data") or {}
        own += "".join(f"@{custom[name]}" for name in ("proxmox_endpoint", "proxmox_vm_id") if custom.get(name))
        above = [
            self._label(self._targets[table, name], row[name])
            for name in _PARENTS
            if row.get(name) is not None and (table, name) in self._targets
        ]
        return "/".join([*above, own or table])


def difference(before: list[str], after: list[str]) -> str:
    """What two dumps do not have in common, for people; empty when they are equal."""
    from collections import Counter

    one, other = Counter(before), Counter(after)
    gone, come = list((one - other).elements()), list((other - one).elements())
    return "\n".join([*(f"- {line}" for line in gone[:20]), *(f"+ {line}" for line in come[:20])])
