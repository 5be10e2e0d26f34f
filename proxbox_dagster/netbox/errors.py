"""What can go wrong with NetBox, each as one line that names the remedy."""

from __future__ import annotations


class NetBoxError(Exception):
    """NetBox cannot be used, or refused a request. The message is for the operator."""


class NetBoxUnreachable(NetBoxError):
    """No answer within the retry budget."""


class NetBoxRefused(NetBoxError):
    """Wrong token, missing permission, wrong address, unsupported version: nothing that a retry would change."""


class NotNetBox(NetBoxRefused):
    """What answers is no NetBox, or something in front of it: a web page instead of JSON."""


class NetBoxForbidden(NetBoxRefused):
    """The token may not do this: NetBox's 401 or 403."""


class RowsRefused(NetBoxError):
    """NetBox's 400 (or 409) to a list of rows: nothing of it was written.

    ``by_index`` maps positions in the list that was sent (POST), ``by_id`` the rows' ids (PATCH, DELETE) to NetBox's
    reasons; both are empty when NetBox did not say which.
    """

    def __init__(self, message: str, by_index: dict[int, str], by_id: dict[int, str] | None = None) -> None:
        super().__init__(message)
        self.by_index = by_index
        self.by_id = by_id or {}


class RunEnded(NetBoxError):
    """The run was cancelled, or is over: nothing more is sent."""


class WriteUncertain(NetBoxError):
    """A write got no (or no certain) answer: it may have happened and must be looked up before it is repeated.

    ``settle`` are the seconds for which NetBox may still be at work on it, so that not finding it proves nothing.
    ``fault``: NetBox itself failed at it (HTTP 500 with its own report), perhaps over one row of the list.
    """

    def __init__(self, message: str, *, settle: float = 0.0, fault: bool = False) -> None:
        super().__init__(message)
        self.settle = settle
        self.fault = fault
