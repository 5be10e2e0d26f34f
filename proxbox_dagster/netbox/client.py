"""NetBox over REST, on pynetbox: paged narrowed reads, list writes, retries within a budget.

Never more connections than ``max_connections``: who sends takes one of that many HTTP sessions for the request. Reads,
PATCH and DELETE are repeated on trouble; a POST never is: it raises :class:`WriteUncertain`, and the writer looks
before it repeats.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import requests
from packaging.version import InvalidVersion, Version
from pynetbox.core.query import Request
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential, wait_random
from tenacity.nap import sleep_using_event
from tenacity.stop import stop_before_delay

from proxbox_dagster.connections import Connections
from proxbox_dagster.netbox.answers import DROPPED, Passing, asked
from proxbox_dagster.netbox.errors import (
    NetBoxForbidden,
    NetBoxRefused,
    NetBoxUnreachable,
    NotNetBox,
    RowsRefused,
    RunEnded,
    WriteUncertain,
)
from proxbox_dagster.netbox.limit import AdaptiveLimit
from proxbox_dagster.settings import NetBoxConnection

PAGE = 1000
"""Rows of one page: NetBox's own maximum by default."""

PAUSE = wait_exponential(multiplier=0.5, max=15) + wait_random(0, 1)
"""Between two tries: 0.5 s, doubled each time up to 15 s, with jitter so that threads do not return in step."""

FAULT_TRIES = 3
"""How often a request is sent at which NetBox itself fails; of a list, one row may be the cause."""

FIRST_CONTACT = 10.0
"""Seconds of retries while nobody answers to NetBox's name or port, and never has: a wrong one should be told soon."""

CALM = 30.0
"""Seconds for which a client that has lost NetBox refuses at once, so that each request need not spend a budget."""

SUPPORTED = (Version("4.6.0"), Version("5.0.0"))
PLUGIN = "netbox_proxbox"
PLUGIN_SUPPORTED = (Version("0.0.29"), Version("0.1.0"))


class _Session(requests.Session):
    """Never follows a redirect (a POST would silently become a GET), always has a time-out."""

    def __init__(self, connection: NetBoxConnection, connections: Connections) -> None:
        super().__init__()
        for scheme in ("https://", "http://"):
            self.mount(scheme, connections.adapter())
        self.verify = connection.verify_ssl
        self.headers["Accept-Encoding"] = "gzip, deflate"
        self._timeout = (min(10.0, connection.timeout), connection.timeout)

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs.setdefault("timeout", self._timeout)
        kwargs["allow_redirects"] = False
        # Without it, REQUESTS_CA_BUNDLE would override the settings' verify_ssl.
        kwargs["verify"] = self.verify
        return super().request(*args, **kwargs)


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
        self._connections = Connections()
        self._idle: list[_Session] = []
        self._closed = threading.Event()
        self._known = False
        """Set once NetBox has answered as NetBox does."""
        self._lost: tuple[float, NetBoxUnreachable] | None = None

    # -- reading ------------------------------------------------------------------------------------------------

    def read(
        self, path: str, filters: dict[str, Any] | None = None, fields: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        """All rows of a list that match ``filters``, by id, paged by 1000, with only ``fields`` (and ``id``) if given.

        Raises :class:`NetBoxUnreachable` or :class:`NetBoxRefused`.
        """
        rows: list[dict[str, Any]] = []
        wanted: dict[str, Any] = dict(filters or {})
        if fields:
            wanted["fields"] = ",".join(fields)
        # Each page begins behind the last row's id: counted from the start, a row that somebody deletes meanwhile would
        # move another one out of sight, which would then be made a second time.
        start = 0
        while True:
            page = self._page(path, {**wanted, "limit": PAGE, "start": start})
            rows.extend(page["results"])
            if not page.get("next") or not page["results"]:
                return rows
            start = page["results"][-1]["id"] + 1

    def newest(self, path: str, field: str, filters: dict[str, Any]) -> Any:
        """The greatest value of a field among the rows that match, or ``None``. One request, one row."""
        params = {**filters, "ordering": f"-{field}", "limit": 1, "fields": f"id,{field}"}
        rows = self._page(path, params)["results"]
        return rows[0].get(field) if rows else None

    def count(self, path: str, filters: dict[str, Any] | None = None) -> int:
        """How many rows match."""
        return int(self._page(path, {**(filters or {}), "limit": 1, "fields": "id"})["count"])

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
        answer = self._try("PATCH", path, lambda: self._request(path).patch(payload), repeat=True, rows=len(rows))
        self._count("PATCH", path, len(rows), requests_too=False)
        return answer if isinstance(answer, list) else [answer]

    def delete(self, path: str, ids: Sequence[int]) -> None:
        """Delete rows in one request. Raises :class:`RowsRefused` where one is protected or gone already."""
        payload = [self._with_message({"id": row_id}) for row_id in ids]
        self._try("DELETE", path, lambda: self._request(path).delete(payload), repeat=True, rows=len(ids))
        self._count("DELETE", path, len(ids), requests_too=False)

    def may(self, action: str, path: str) -> bool:
        """Ask NetBox, by a request without rows, whether the token may do this here. Writes nothing.

        ``action``: view, add, change or delete. Raises :class:`NetBoxError` for any other trouble.
        """
        calls: dict[str, tuple[str, Callable[[], Any]]] = {
            "view": ("GET", lambda: self._request(path)._make_call("get", add_params={"id": 0, "fields": "id"})),
            "add": ("POST", lambda: self._request(path).post([])),
            "change": ("PATCH", lambda: self._request(path).patch([])),
            "delete": ("DELETE", lambda: self._request(path).delete([])),
        }
        method, call = calls[action]
        try:
            self._try(method, path, call, repeat=True)
        except NetBoxForbidden:
            return False
        except RowsRefused:
            return True  # it looked at the (missing) rows, which it does only when it may
        return True

    def own_token(self) -> dict[str, Any] | None:
        """NetBox's row of the token in use (``write_enabled``, ``expires``, ...); ``None`` where it cannot be told.

        Users see their own tokens by default. A token of version 1 shows nothing by which to find it.
        """
        token = self.connection.token.get_secret_value()
        if not token.startswith("nbt_"):
            return None
        try:
            rows = self.read("users/tokens", {"key": token.removeprefix("nbt_").partition(".")[0]})
        except NetBoxForbidden:
            return None
        return rows[0] if len(rows) == 1 else None

    def _with_message(self, row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "changelog_message": f"proxbox run {self.run_id}"} if self.run_id else row

    # -- before the first write ---------------------------------------------------------------------------------

    def check(self, *, plugin: bool) -> dict[str, Any]:
        """NetBox's ``/api/status/``, once versions and the plugin are found fit.

        Raises :class:`NetBoxRefused` for what is no NetBox, a wrong token, an unsupported version, a missing plugin.
        """
        # Not pynetbox's status(): it takes a redirect or a web page for an answer that is cut off.
        status = self._try("GET", "status", lambda: self._request("status")._make_call("get"), repeat=True)
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

    @property
    def _session(self) -> _Session:
        """The session that this thread sends with; inside of :meth:`_sending` only."""
        session: _Session = self._local.session
        return session

    @contextmanager
    def _sending(self, method: str) -> Iterator[None]:
        """Wait for a place among the requests under way, and hold one of the sessions."""
        with self.limit.place(awaited=method != "GET"):
            if self._closed.is_set():
                raise RunEnded("the run has ended, nothing more is sent to NetBox")
            with self._lock:
                self._local.session = self._idle.pop() if self._idle else _Session(self.connection, self._connections)
            try:
                yield
            finally:
                with self._lock:
                    self._idle.append(self._local.session)
                del self._local.session

    def _request(self, path: str) -> Request:
        return Request(
            base=f"{self.connection.url}/api/{path}/",
            http_session=self._session,
            token=self.connection.token.get_secret_value(),
        )

    def _count(self, method: str, path: str, rows: int, *, requests_too: bool = True) -> None:
        with self._lock:
            if requests_too:
                self.requests[f"{method} {path}"] += 1
            self.rows[f"{method} {path}"] += rows

    def _try(self, method: str, path: str, call: Callable[[], Any], *, repeat: bool, rows: int = 1) -> Any:
        """Send, and send again while the trouble may pass and the budget lasts (``repeat``).

        A list of several ``rows`` at which NetBox fails is not sent again: the writer parts it.
        """
        if self._lost is not None and time.monotonic() < self._lost[0]:
            raise self._lost[1]
        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, Passing) and (repeat or not error.sent)),
            stop=lambda state: self._stop(state, FAULT_TRIES if rows == 1 else 1),
            wait=_pause,
            before_sleep=self._tell,
            sleep=sleep_using_event(self._closed),
            reraise=True,
        )
        try:
            return retrying(self._send, method, path, call)
        except Passing as trouble:
            raise self._given_up(method, trouble, retrying, repeat=repeat) from None

    def _send(self, method: str, path: str, call: Callable[[], Any]) -> Any:
        with self._sending(method):
            self._count(method, path, 0)
            started = time.monotonic()
            try:
                answer = self._asked(method, path, call)
            except Passing as trouble:
                if self._closed.is_set():
                    raise RunEnded(f"the run ended before NetBox answered {method} {path}") from None
                self.limit.trouble()
                raise trouble from None
            rows = len(answer) if isinstance(answer, list) else 0
            # Lists are compared with lists of about their length.
            self.limit.answered(f"{method} {path} {rows.bit_length()}", time.monotonic() - started)
            return answer

    def _asked(self, method: str, path: str, call: Callable[[], Any]) -> Any:
        where = f"NetBox {method} {path}"
        try:
            answer = asked(self.connection, where, path, call)
        except NotNetBox as error:
            if not self._known:
                raise
            # It was NetBox before: a front end stands in for it, and says so in HTML.
            raise Passing(f"{where}: {error}", sent=True, settle=DROPPED) from None
        self._known = True
        return answer

    def _stop(self, state: RetryCallState, fault_tries: int) -> bool:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, Passing) and error.fault and state.attempt_number >= fault_tries:
            return True
        return stop_before_delay(self._budget(error))(state)

    def _budget(self, error: BaseException | None) -> float:
        """Seconds that a request may spend on retries after this trouble."""
        nobody = isinstance(error, Passing) and error.nobody and not self._known
        return min(self.connection.retry_budget, FIRST_CONTACT) if nobody else self.connection.retry_budget

    def _tell(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        left = max(0.0, self._budget(error) - (state.seconds_since_start or 0.0))
        self._warn(f"{error}; trying again in {state.upcoming_sleep:.1f} s, for {left:.0f} s at most")

    def _given_up(self, method: str, trouble: Passing, retrying: Retrying, *, repeat: bool) -> Exception:
        """What a request that will not be sent again has come to."""
        if not repeat and trouble.sent:
            return WriteUncertain(str(trouble), settle=trouble.settle, fault=trouble.fault)
        tries = retrying.statistics.get("attempt_number", 1)
        if trouble.fault and method != "GET":
            return RowsRefused(f"{trouble} (tried {tries} times)", {})
        lost = NetBoxUnreachable(
            f"{trouble} (tried {tries} times within {self._budget(trouble):.0f} s); "
            f"check that NetBox at {self.connection.url} is up, and start the run again: it resumes."
        )
        if not trouble.fault:
            self._lost = (time.monotonic() + CALM, lost)
        return lost

    def pause(self, seconds: float) -> None:
        """Wait between two looks. Raises :class:`RunEnded` as soon as the run has."""
        if self._closed.wait(seconds):
            raise RunEnded("the run ended while it waited for NetBox")

    def close(self, grace: float = 0.0) -> None:
        """Send nothing more: waiting retries and reads end, and after ``grace`` seconds so do writes under way."""
        self._closed.set()
        self.limit.drained(grace)
        self._connections.cut()
        with self._lock:
            sessions, self._idle = self._idle, []
        for session in sessions:
            session.close()


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return max(error.wait if isinstance(error, Passing) else 0.0, PAUSE(state))
