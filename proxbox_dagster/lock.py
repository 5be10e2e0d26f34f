"""One writing run per endpoint and NetBox on this machine: a lock that the kernel drops with the process.

Dagster's run queue keeps launched runs apart (see deploy/dagster.yaml); this also covers the command line beside a
running UI, and runs that are started past the queue.
"""

from __future__ import annotations

import fcntl
import hashlib
from typing import IO

from proxbox_dagster.own_folder import own_folder


class EndpointBusy(Exception):
    """Another run writes this endpoint's objects now."""


class EndpointLock:
    """Held from :meth:`acquire` to :meth:`release`, or to the end of the process, however it ends.

    Raises :class:`FolderNotOurs`.
    """

    def __init__(self, netbox_url: str, endpoint: str) -> None:
        self.endpoint = endpoint
        digest = hashlib.sha256(f"{netbox_url}\n{endpoint}".encode()).hexdigest()[:24]
        self._path = own_folder() / f"{digest}.lock"
        self._file: IO[str] | None = None

    def acquire(self, run_id: str) -> None:
        """Raises :class:`EndpointBusy` naming the run that holds the lock."""
        if self._file is not None:
            return
        handle = self._path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read().strip() or "another run"
            handle.close()
            raise EndpointBusy(
                f"endpoint {self.endpoint} is being synced by run {holder} at this moment; "
                "wait for its end, or cancel it in Dagster's UI, then start again"
            ) from None
        handle.seek(0)
        handle.truncate()
        handle.write(run_id)
        handle.flush()
        self._file = handle

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
