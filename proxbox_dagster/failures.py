"""Errors of the servers and the settings as Dagster failures: one line for the operator, no step retry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg

from proxbox_dagster.lock import EndpointBusy
from proxbox_dagster.netbox.errors import NetBoxError
from proxbox_dagster.proxmox.errors import ProxmoxError
from proxbox_dagster.settings import SettingsError

EXPECTED = (SettingsError, ProxmoxError, NetBoxError, EndpointBusy)
"""What can go wrong outside of this project; anything else is a bug and keeps its traceback."""


@contextmanager
def spoken(metadata: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Turn an expected error into a :class:`dagster.Failure` with its message and this metadata.

    No retry: the clients have already spent their retry budgets, and a step retry would repeat finished writes.
    """
    try:
        yield
    except EXPECTED as error:
        raise dg.Failure(str(error), metadata=dict(metadata or {}), allow_retries=False) from None
