"""What NetBox was found to permit, remembered for a day, so that a small run need not ask for all of it again."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence

from proxbox_dagster.netbox.client import NetBoxClient
from proxbox_dagster.netbox.errors import NetBoxRefused
from proxbox_dagster.netbox.permissions import Need, missing, refusal
from proxbox_dagster.own_folder import own_folder
from proxbox_dagster.settings import NetBoxConnection

VALID = 24 * 3600.0
"""Seconds for which an answer holds. A permission that is taken away meanwhile is told by the write that misses it."""


class Permitted:
    """That a token may do all of ``wanted``, noted in a folder that only this user can read; the token is not in it."""

    def __init__(self, connection: NetBoxConnection, wanted: Sequence[Need]) -> None:
        secret = connection.token.get_secret_value()
        what = "\n".join([connection.url, secret, *map(str, wanted)])
        # Slow on purpose: from the file's name nobody shall guess a token.
        digest = hashlib.pbkdf2_hmac("sha256", what.encode(), b"proxbox-dagster permitted", 50_000)
        self._wanted = wanted
        self._path = own_folder() / f"{digest.hex()[:24]}.permitted"

    def ask(self, client: NetBoxClient, workers: int) -> None:
        """Where it is not known, ask NetBox: a request per action, ``workers`` at once.

        Raises :class:`NetBoxRefused` naming everything that is missing.
        """
        if self.known():
            return
        lacking = missing(client, self._wanted, workers)
        if lacking:
            token = client.own_token()
            read_only = None if token is None else not token["write_enabled"]
            raise NetBoxRefused(refusal(lacking, self._wanted, read_only=read_only))
        self.note()

    def known(self) -> bool:
        """True when it was found less than a day ago."""
        try:
            return 0 <= time.time() - self._path.stat().st_mtime < VALID
        except OSError:
            return False

    def note(self) -> None:
        """It was found just now."""
        self._path.touch(mode=0o600)
        os.utime(self._path)

    def forget(self) -> None:
        """NetBox has refused something since."""
        self._path.unlink(missing_ok=True)
