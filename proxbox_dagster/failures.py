"""Errors of the servers and the settings as Dagster failures: one line for the operator, no step retry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg

from proxbox_dagster.lock import EndpointBusy
from proxbox_dagster.netbox.errors import NetBoxError
from proxbox_dagster.own_folder import FolderNotOurs
from proxbox_dagster.proxmox.errors import ProxmoxError
from proxbox_dagster.run import CANCELLED, RunCancelled
from proxbox_dagster.settings import SettingsError, load_settings

EXPECTED = (SettingsError, ProxmoxError, NetBoxError, EndpointBusy, FolderNotOurs)
"""What can go wrong outside of this project; anything else is a bug and keeps its traceback."""


INTERRUPTS = (KeyboardInterrupt, dg.DagsterExecutionInterruptedError)
"""How Dagster, or Ctrl-C outside of it, ends what a step does at this moment."""

NOT_STARTED = "not started:"
"""How the failure of a step begins that only failed because another one had."""


@contextmanager
def spoken(
    metadata: Callable[[], Mapping[str, Any]] = dict, cancel: Callable[[], None] | None = None
) -> Iterator[None]:
    """Turn an expected error into a :class:`dagster.Failure` with its message and this metadata.

    No retry: the clients have already spent their retry budgets, and a step retry would repeat finished writes.
    With ``cancel`` an interruption is turned too, once ``cancel`` was called: an error of Dagster's own could not carry
    the metadata. Dagster does not end a run for a failure but starts what does not depend on it. So the next step, at
    its :class:`RunCancelled`, hands it the interruption after all; it then ends at once, and no other step starts.
    """
    try:
        yield
    except RunCancelled as error:
        raise dg.DagsterExecutionInterruptedError(str(error)) from None
    except EXPECTED as error:
        raise dg.Failure(str(error), metadata=dict(metadata()), allow_retries=False) from None
    except INTERRUPTS:
        if cancel is None:
            raise
        cancel()
        text = f"{CANCELLED}; start it again and it goes on where it was"
        raise dg.Failure(text, metadata=dict(metadata()), allow_retries=False) from None


def words_of(data: Any) -> str:
    """What a step's failure data say: the line for the operator where there is one, else the innermost cause's."""
    failure, error = data.user_failure_data, data.error
    if failure and failure.description:
        return str(failure.description)
    while error is not None and error.cause is not None:
        error = error.cause
    return " ".join(error.message.split()) if error else "the step failed"


def one_endpoint(partitions: Sequence[str]) -> str:
    """The run's endpoint.

    Raises :class:`dagster.Failure` for a run over several, which would share one fate, and for one without a partition;
    :class:`SettingsError` for the latter when nothing is configured, for that is to be done first.
    """
    if not partitions:
        names = ", ".join(endpoint.name for endpoint in load_settings().require().endpoints)
        raise dg.Failure(
            f"this run has no partition, and so no endpoint: start it for one of {names} (the tag dagster/partition), "
            "or run proxbox-dagster sync, which starts a run for each",
            allow_retries=False,
        )
    if len(partitions) > 1:
        raise dg.Failure(
            f"this run covers the endpoints {', '.join(sorted(partitions))}: start a run for each, "
            "with the backfill's option 'multiple runs'",
            allow_retries=False,
        )
    return partitions[0]
