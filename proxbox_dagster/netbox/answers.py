"""What an answer of NetBox, or none, means: trouble that may pass, rows that are refused, or the end of the run.

Each failure becomes one line that names the remedy.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import requests
from pynetbox.core.query import AllocationError, ContentError, RequestError

from proxbox_dagster.netbox.errors import NetBoxForbidden, NetBoxRefused, NotNetBox, RowsRefused
from proxbox_dagster.settings import NetBoxConnection

DROPPED = 2.0
"""Seconds for which NetBox may still be at work on a request whose connection was lost."""

_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_LATE = frozenset({408, 504})
_OUTAGES = frozenset({"OperationalError", "InterfaceError", "ConnectionError", "TimeoutError", "BusyLoadingError"})
"""Exceptions that NetBox names in its HTTP 500 when it has lost its database or Redis, or met a deadlock."""


class Passing(Exception):
    """Trouble that may be over at the next try.

    ``sent``: NetBox may have done what it was asked, and for ``settle`` seconds may still be doing it. ``wait`` is its
    own Retry-After in seconds. ``fault``: it failed at this request, and it is not worth trying for long. ``nobody``:
    its name is not known, or nobody listens on its port.
    """

    def __init__(
        self,
        message: str,
        *,
        sent: bool,
        wait: float = 0.0,
        settle: float = 0.0,
        fault: bool = False,
        nobody: bool = False,
    ) -> None:
        super().__init__(message)
        self.sent = sent
        self.wait = wait
        self.settle = settle
        self.fault = fault
        self.nobody = nobody


def asked(connection: NetBoxConnection, where: str, path: str, call: Callable[[], Any]) -> Any:
    """The result of ``call``, which sends one request.

    Raises :class:`Passing`, or a :class:`NetBoxError` that no repetition would change; ``where`` names the request.
    """
    try:
        return call()
    except requests.exceptions.SSLError as error:
        raise NetBoxRefused(
            f"NetBox's certificate at {connection.url} is not trusted ({_tail(error)}); "
            "set netbox.verify_ssl to the CA file that signed it."
        ) from None
    except (requests.exceptions.ConnectTimeout, requests.exceptions.ProxyError) as error:
        raise Passing(f"{where}: no connection ({_tail(error)})", sent=False) from None
    except requests.exceptions.ConnectionError as error:
        nobody = "NameResolutionError" in repr(error) or "refused" in str(error)
        unsent = nobody or "NewConnectionError" in repr(error)
        raise Passing(f"{where}: {_tail(error)}", sent=not unsent, settle=DROPPED, nobody=nobody) from None
    except requests.exceptions.Timeout as error:
        late = connection.timeout
        raise Passing(f"{where}: no answer ({_tail(error)})", sent=True, settle=late) from None
    except requests.exceptions.ChunkedEncodingError as error:
        raise Passing(f"{where}: an answer that is cut off ({_tail(error)})", sent=True) from None
    except requests.exceptions.InvalidURL:
        raise NetBoxRefused(f"{connection.url} is no address; check netbox.url.") from None
    except (RequestError, AllocationError, ContentError) as error:
        raise _refusal(connection, where, path, error.req) from None
    except requests.exceptions.JSONDecodeError:
        raise Passing(f"{where}: an answer that is cut off", sent=True) from None


def _refusal(connection: NetBoxConnection, where: str, path: str, answer: requests.Response) -> Exception:
    code = answer.status_code
    if 300 <= code < 400:
        target = answer.headers.get("Location", "elsewhere")
        return NetBoxRefused(
            f"NetBox at {connection.url} redirects to {target}; set netbox.url to where it really answers."
        )
    if code == 500 and _is_json(answer):
        # NetBox's own report of an exception: a lost Redis or database connection passes, a fault does not.
        fault = _exception_of(answer) not in _OUTAGES
        return Passing(f"{where}: HTTP 500: {_reasons(answer)[:300]}", sent=True, fault=fault)
    if code in _PASSING:
        settle = connection.timeout if code in _LATE else DROPPED
        return Passing(
            f"{where}: HTTP {code} {answer.reason}", sent=code != 429, wait=_retry_after(answer), settle=settle
        )
    if code in (401, 403):
        return NetBoxForbidden(_forbidden(connection, where, path, answer))
    if code in (400, 409):
        return _rows_refused(where, answer)
    if code == 413:
        return RowsRefused(f"{where}: the request is too large for NetBox's front end", {})
    if code == 404:
        return NetBoxRefused(
            f"NetBox at {connection.url} does not know /api/{path}/; check netbox.url, "
            "and that the plugin netbox-proxbox is installed (or set 'plugin: off')."
        )
    if answer.ok and answer.content.lstrip()[:1] in (b"{", b"["):
        return Passing(f"{where}: an answer that is cut off", sent=True)
    if answer.ok:
        return NotNetBox(f"{connection.url} answers, but not with NetBox's JSON; check netbox.url.")
    if path == "status":
        return NotNetBox(f"{connection.url} is no NetBox (HTTP {code} {answer.reason}); check netbox.url.")
    return NetBoxRefused(f"{where}: HTTP {code} {answer.reason}: {_reasons(answer)}")


def _forbidden(connection: NetBoxConnection, where: str, path: str, answer: requests.Response) -> str:
    detail = _reasons(answer).rstrip(".")
    if path == "status" or "token" in detail.lower() or "authenticat" in detail.lower():
        # Whoever is known may read the status. The detail says why not: invalid, expired, not from this address, ...
        return f"NetBox at {connection.url} does not accept the token ({detail}); set netbox.token to a valid one."
    return f"{where} is not permitted ({detail}); grant it to the token's user (docs/operations.md lists all)."


def _rows_refused(where: str, answer: requests.Response) -> RowsRefused:
    body = _json(answer)
    by_index: dict[int, str] = {}
    by_id: dict[int, str] = {}
    if isinstance(body, dict) and isinstance(body.get("errors"), list):
        for entry in body["errors"]:
            for key, found in (("index", by_index), ("id", by_id)):
                if isinstance(entry, dict) and isinstance(entry.get(key), int):
                    found[entry[key]] = _flat(entry.get("errors"))
    return RowsRefused(f"{where}: {_flat(body) if body is not None else answer.reason}", by_index, by_id)


def _flat(body: Any) -> str:
    """NetBox's error body as one line: ``field: reason; field: reason``."""
    if isinstance(body, dict):
        if set(body) == {"detail"}:
            return str(body["detail"])
        parts = [f"{key}: {_flat(value)}" for key, value in body.items() if key not in ("detail", "id")]
        return "; ".join(parts) or str(body.get("detail", body))
    if isinstance(body, list):
        return ", ".join(_flat(item) for item in body if item not in ({}, []))
    return str(body)


def _reasons(answer: requests.Response) -> str:
    body = _json(answer)
    return _flat(body) if body is not None else answer.reason


def _json(answer: requests.Response) -> Any:
    try:
        return json.loads(answer.content)
    except ValueError:
        return None


def _is_json(answer: requests.Response) -> bool:
    return _json(answer) is not None


def _exception_of(answer: requests.Response) -> str:
    """The name of the exception that NetBox's report of an HTTP 500 gives."""
    body = _json(answer)
    return str(body.get("exception", "")) if isinstance(body, dict) else ""


def _retry_after(answer: requests.Response) -> float:
    """Seconds that NetBox, or what stands before it, asks to wait: a number or a date (RFC 9110, 10.2.3)."""
    text = answer.headers.get("Retry-After", "").strip()
    if text.isdigit():
        return min(float(text), 60.0)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max((moment - datetime.now(UTC)).total_seconds(), 0.0), 60.0)


def _tail(error: Exception) -> str:
    """The last, telling part of requests' nested error texts."""
    return str(error).rsplit(": ", 1)[-1].strip("()'\" ")[:200]
