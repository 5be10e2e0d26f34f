"""The least that NetBox must allow, in the form of NetBox's object permissions: one for each set of actions."""

from __future__ import annotations

from collections.abc import Iterable

from proxbox_dagster.netbox.permissions import Need
from proxbox_dagster.rules import needed_permissions, purge_permissions
from proxbox_dagster.settings import SettingsFile

ObjectPermission = tuple[list[str], list[str]]


def grouped(needs: Iterable[Need]) -> list[ObjectPermission]:
    """(actions, models) with the models that share their actions, both in order."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for need in needs:
        groups.setdefault(need.actions, []).append(need.model)
    return [(list(actions), sorted(models)) for actions, models in sorted(groups.items())]


def settings(**keys: object) -> SettingsFile:
    """Settings with nothing but what is required, and ``keys``."""
    endpoint = {"name": "a", "hosts": ["pve1.example.org"], "user": "netbox@pve", "password": {"env": "PASSWORD"}}
    netbox = {"url": "https://netbox.example.org", "token": {"env": "TOKEN"}}
    return SettingsFile.model_validate({"netbox": netbox, "endpoints": [endpoint], **keys})


def for_runs(**keys: object) -> list[ObjectPermission]:
    return grouped(needed_permissions(settings(**keys)))


def for_purge(**keys: object) -> list[ObjectPermission]:
    return grouped(purge_permissions(settings(**keys)))
