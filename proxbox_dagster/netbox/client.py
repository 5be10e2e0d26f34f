"""NetBox over REST, on pynetbox: paged narrowed reads, list writes, retries within a budget.

One HTTP session per thread; never more requests under way than ``max_connections``. Reads, PATCH and DELETE are
repeated on trouble; a POST never is: it raises :class:`WriteUncertain`, and the writer looks before it repeats.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pynetbox
import requests
import tenacity
from packaging.version import InvalidVersion, Version
from pynetbox.core.query import AllocationError, ContentError, Request, RequestError

from proxbox_dagster.netbox.errors import (
    NetBoxError,
    NetBoxRefused,
    NetBoxUnreachable,
    RowsRefused,
    WriteUncertain,
)
from proxbox_dagster.netbox.limit import AdaptiveLimit
from proxbox_dagster.settings import NetBoxConnection

PAGE = 1000
"""Rows of one page: NetBox's own maximum by default."""

PAUSE = tenacity.wait_exponential(multiplier=0.5, max=15) + tenacity.wait_random(0, 1)
"""Between two tries: 0.5 s, doubled each time up to 15 s, with jitter so that threads do not return in step."""

SUPPORTED = (Version("4.6.0"), Version("5.0.0"))
PLUGIN = "netbox_proxbox"
PLUGIN_SUPPORTED = (Version("0.0.29"), Version("0.1.0"))
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


class _Session(requests.Session):
    """Never follows a redirect (a POST would silently become a GET), always has a time-out."""

    def __init__(self, connection: NetBoxConnection) -> None:
        super().__init__()
        self.verify = connection.verify_ssl
        self.headers["Accept-Encoding"] = "gzip, deflate"
        self._timeout = (min(10.0, connection.timeout), connection.timeout)

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs.setdefault("timeout", self._timeout)
        kwargs["allow_redirects"] = False
        # Without it, REQUESTS_CA_BUNDLE would override the settings' verify_ssl.
        kwargs["verify"] = self.verify
        return super().request(*args, **kwargs)


class _Passing(Exception):
    """Trouble that may be over at the next try. ``wait`` is NetBox's own Retry-After in seconds."""

    def __init__(self, message: str, *, sent: bool, wait: float = 0.0, tries: int | None = None) -> None:
        super().__init__(message)
        self.sent = sent
        self.wait = wait
        self.tries = tries
        """How often it is worth trying; ``None``: as long as the budget lasts."""


class NetBoxClient:
    """All requests of one run to one NetBox. Thread-safe."""

    def __init__(
        self, connection: NetBoxConnection, run_id: str = "", warn: Callable[[str], None] | None = None
    ) -> None:
        self.connection = connection
        self.run_id = run_id
        self.requests: Counter[str] = Counter()
        """Requests sent, by method and path: ``GET dcim/devices``."""
        self.rows: Counter[str] = Counter()
        """Rows read or written, by the same keys."""
        self._warn = warn or (lambda _message: None)
        self._local = threading.local()
        self.limit = AdaptiveLimit(connection.max_connections)
        self._lock = threading.Lock()
        self._sessions: list[_Session] = []
        self._closed = threading.Event()

    # -- reading ------------------------------------------------------------------------------------------------

    def read(
        self, path: str, filters: dict[str, Any] | None = None, fields: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """All rows of a list that match ``filters``, paged by 1000, with only ``fields`` where given.

        Raises :class:`NetBoxUnreachable` or :class:`NetBoxRefused`.
        """
        rows: list[dict[str, Any]] = []
        wanted: dict[str, Any] = dict(filters or {})
        if fields:
            wanted["fields"] = ",".join(fields)
        while True:
            page = self._page(path, {**wanted, "limit": PAGE, "offset": len(rows), "ordering": "id"})
            rows.extend(page["results"])
            if not page.get("next") or not page["results"]:
                return rows

    def newest(self, path: str, field: str, filters: dict[str, Any]) -> Any:
        """The greatest value of a field among the rows that match, or ``None``. One request, one row."""
        params = {**filters, "ordering": f"-{field}", "limit": 1, "fields": f"id,{field}"}
        rows = self._page(path, params)["results"]
        return rows[0].get(field) if rows else None

    def _page(self, path: str, params: dict[str, Any]) -> dict[str, Any]:
        def call() -> dict[str, Any]:
            answer = self._request(path)._make_call("get", add_params=params)
            if not isinstance(answer, dict) or not isinstance(answer.get("results"), list):
                raise NetBoxRefused(f"NetBox answered GET {path} with something that is no list of objects.")
            return answer

        page = self._try("GET", path, call, repeat=True)
        self._count("GET", path, len(page["results"]), requests_too=False)
        return page

    # -- writing ------------------------------------------------------------------------------------------------

    def create(self, path: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Make rows in one request; the answers stand in the same order.

        Raises :class:`RowsRefused` (nothing was written), :class:`WriteUncertain` (look before repeating),
        :class:`NetBoxRefused`.
        """
        payload = [self._with_message(row) for row in rows]
        answer = self._try("POST", path, lambda: self._request(path).post(payload), repeat=False)
        if not isinstance(answer, list) or len(answer) != len(rows):
            raise WriteUncertain(f"NetBox answered POST {path} with {type(answer).__name__}, not {len(rows)} rows")
        self._count("POST", path, len(rows), requests_too=False)
        return answer

    def update(self, path: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Change rows (each with its ``id``) in one request. Raises as :meth:`create`, but repeats by itself."""
        payload = [self._with_message(row) for row in rows]
        answer = self._try("PATCH", path, lambda: self._request(path).patch(payload), repeat=True)
        self._count("PATCH", path, len(rows), requests_too=False)
        return answer if isinstance(answer, list) else [answer]

    def delete(self, path: str, ids: Sequence[int]) -> None:
        """Delete rows in one request. Raises :class:`RowsRefused` where one is protected or gone already."""
        payload = [self._with_message({"id": row_id}) for row_id in ids]
        self._try("DELETE", path, lambda: self._request(path).delete(payload), repeat=True)
        self._count("DELETE", path, len(ids), requests_too=False)

    def may_write(self, path: str) -> None:
        """Ask NetBox, by an empty list, whether the token may add rows here. Writes nothing.

        Raises :class:`NetBoxRefused` naming the model and the permission.
        """
        self._try("POST", path, lambda: self._request(path).post([]), repeat=True)

    def _with_message(self, row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "changelog_message": f"proxbox run {self.run_id}"} if self.run_id else row

    # -- before the first write ---------------------------------------------------------------------------------

    def check(self, *, plugin: bool) -> dict[str, Any]:
        """NetBox's ``/api/status/``, once versions and the plugin are found fit.

        Raises :class:`NetBoxRefused` for what is no NetBox, a wrong token, an unsupported version, a missing plugin.
        """
        api = pynetbox.api(self.connection.url, token=self.connection.token.get_secret_value())
        api.http_session = self._session()
        status = self._try("GET", "status", api.status, repeat=True)
        text = status.get("netbox-version") if isinstance(status, dict) else None
        if not text:
            raise NetBoxRefused(f"{self.connection.url} is no NetBox (no version in /api/status/); check netbox.url.")
        self._supported("NetBox", str(text), SUPPORTED)
        if plugin:
            found = (status.get("plugins") or {}).get(PLUGIN)
            if not found:
                raise NetBoxRefused(
                    f"{self.connection.url} has no plugin netbox-proxbox; install it, "
                    "or set 'plugin: off' to write NetBox's own models only."
                )
            self._supported("the plugin netbox-proxbox", str(found), PLUGIN_SUPPORTED)
        return status

    @staticmethod
    def _supported(what: str, text: str, supported: tuple[Version, Version]) -> None:
        low, high = supported
        try:
            version = Version(text.split("-")[0])
        except InvalidVersion:
            raise NetBoxRefused(
                f"{what} says version {text!r}, which is none; {low} to below {high} is needed."
            ) from None
        if not low <= version < high:
            raise NetBoxRefused(f"{what} is version {text}; {low} or newer and below {high} is supported.")

    # -- the wire -----------------------------------------------------------------------------------------------

    def _session(self) -> _Session:
        session = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = _Session(self.connection)
            with self._lock:
                self._sessions.append(session)
        return session

    def _request(self, path: str) -> Request:
        return Request(
            base=f"{self.connection.url}/api/{path}/",
            http_session=self._session(),
            token=self.connection.token.get_secret_value(),
        )

    def _count(self, method: str, path: str, rows: int, *, requests_too: bool = True) -> None:
        with self._lock:
            if requests_too:
                self.requests[f"{method} {path}"] += 1
            self.rows[f"{method} {path}"] += rows

    def _try(self, method: str, path: str, call: Callable[[], Any], *, repeat: bool) -> Any:
        """Send, and send again while the trouble may pass and the budget lasts (``repeat``)."""
        deadline = time.monotonic() + self.connection.retry_budget
        attempt = 0
        while True:
            attempt += 1
            try:
                with self.limit.place():
                    self._count(method, path, 0)
                    started = time.monotonic()
                    answer = self._once(method, path, call)
                    self.limit.answered(f"{method} {path}", time.monotonic() - started)
                    return answer
            except _Passing as trouble:
                self.limit.trouble()
                if not repeat and trouble.sent:
                    raise WriteUncertain(str(trouble)) from None
                state = tenacity.RetryCallState(None, None, (), {})  # type: ignore[arg-type]
                state.attempt_number = attempt
                wait = max(trouble.wait, PAUSE(state))
                spent = trouble.tries is not None and attempt >= trouble.tries
                if spent or time.monotonic() + wait > deadline:
                    raise NetBoxUnreachable(
                        f"{trouble} (tried {attempt} times within {self.connection.retry_budget:.0f} s); "
                        f"check that NetBox at {self.connection.url} is up, and start the run again: it resumes."
                    ) from None
                self._warn(f"{trouble}; trying again in {wait:.1f} s")
                if self._closed.wait(wait):
                    raise NetBoxError("the run ended while waiting for NetBox") from None

    def _once(self, method: str, path: str, call: Callable[[], Any]) -> Any:
        where = f"NetBox {method} {path}"
        try:
            return call()
        except requests.exceptions.SSLError as error:
            raise NetBoxRefused(
                f"NetBox's certificate at {self.connection.url} is not trusted ({_tail(error)}); "
                "set netbox.verify_ssl to the CA file that signed it."
            ) from None
        except (requests.exceptions.ConnectTimeout, requests.exceptions.ProxyError) as error:
            raise _Passing(f"{where}: no connection ({_tail(error)})", sent=False) from None
        except requests.exceptions.ConnectionError as error:
            refused = "NewConnectionError" in repr(error) or "refused" in str(error)
            raise _Passing(f"{where}: {_tail(error)}", sent=not refused) from None
        except (requests.exceptions.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            raise _Passing(f"{where}: no answer ({_tail(error)})", sent=True) from None
        except requests.exceptions.InvalidURL:
            raise NetBoxRefused(f"{self.connection.url} is no address; check netbox.url.") from None
        except (RequestError, AllocationError, ContentError) as error:
            raise self._refusal(where, path, error.req) from None
        except requests.exceptions.JSONDecodeError:
            raise _Passing(f"{where}: an answer that is cut off", sent=True) from None

    def _refusal(self, where: str, path: str, answer: requests.Response) -> Exception:
        code = answer.status_code
        if 300 <= code < 400:
            target = answer.headers.get("Location", "elsewhere")
            return NetBoxRefused(
                f"NetBox at {self.connection.url} redirects to {target}; set netbox.url to where it really answers."
            )
        if code == 500 and _is_json(answer):
            # NetBox's own report of an exception: a lost Redis or database connection passes, a fault does not.
            return _Passing(f"{where}: HTTP 500: {_reasons(answer)[:300]}", sent=True, tries=4)
        if code in _PASSING:
            return _Passing(f"{where}: HTTP {code} {answer.reason}", sent=code not in (429,), wait=_retry_after(answer))
        if code in (401, 403):
            return NetBoxRefused(self._forbidden(where, path, answer))
        if code in (400, 409):
            return _rows_refused(where, answer)
        if code == 413:
            return RowsRefused(f"{where}: the request is too large for NetBox's front end", {})
        if code == 404:
            return NetBoxRefused(
                f"NetBox at {self.connection.url} does not know /api/{path}/; check netbox.url, "
                "and that the plugin netbox-proxbox is installed (or set 'plugin: off')."
            )
        if answer.ok:
            return NetBoxRefused(f"{self.connection.url} answers, but not with NetBox's JSON; check netbox.url.")
        return NetBoxRefused(f"{where}: HTTP {code} {answer.reason}: {_reasons(answer)}")

    def _forbidden(self, where: str, path: str, answer: requests.Response) -> str:
        detail = _reasons(answer)
        if "token" in detail.lower() and "invalid" in detail.lower():
            return f"NetBox at {self.connection.url} does not accept the token; set netbox.token to a valid one."
        if "write" in detail.lower() and "token" in detail.lower():
            return f"NetBox's token is read-only ({detail}); enable write for it in NetBox."
        return f"{where} is not permitted ({detail}); grant the token's user view, add, change and delete on {path}."

    def close(self) -> None:
        """End waiting retries and drop the connections."""
        self._closed.set()
        for session in self._sessions:
            session.close()


def chunks(rows: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """``rows`` in slices of at most ``size``."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


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


def _retry_after(answer: requests.Response) -> float:
    text = answer.headers.get("Retry-After", "")
    return min(float(text), 60.0) if text.isdigit() else 0.0


def _tail(error: Exception) -> str:
    """The last, telling part of requests' nested error texts."""
    return str(error).rsplit(": ", 1)[-1].strip("()'\" ")[:200]
