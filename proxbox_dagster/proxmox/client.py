"""Reading from one Proxmox endpoint: retries, failover over its hosts, answers that are checked. GET only.

The client writes nothing: besides GET it sends only the POST of ``/access/ticket`` that logs in with a password.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote

from proxmoxer import ProxmoxAPI
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential, wait_random
from tenacity.nap import sleep_using_event
from tenacity.stop import stop_after_attempt, stop_before_delay

from ..connections import Connections
from ..hosts import shown
from ..settings import EndpointSettings
from .answers import Serializer, checked, translated
from .credentials import Credentials
from .errors import (
    AuthenticationFailed,
    BadAnswer,
    CertificateNotTrusted,
    NoAnswer,
    NodeUnreachable,
    NotProxmox,
    ProxmoxError,
    Unreachable,
)
from .ticket import TicketAuth

CONNECT_TIMEOUT: Final = 10.0
"""Seconds to wait for a TCP connection; the endpoint's ``timeout`` is for the answer."""
FIRST_CONTACT_BUDGET: Final = 10.0
"""Seconds of retries while no host has ever answered: a wrong host name should be told soon."""
PAUSE: Final = wait_exponential(multiplier=0.25, max=8.0) + wait_random(0.0, 0.5)
"""Between two attempts: 0.25 s, doubled each time up to 8 s, with jitter so that threads do not return in step."""
_CALM: Final = 30.0
"""Seconds for which a client that has lost its endpoint refuses at once instead of trying again."""
_EXHAUSTED_IN_A_ROW: Final = 3
_OTHER_HOST: Final = (Unreachable, CertificateNotTrusted, NotProxmox)


def api_path(*segments: str | int) -> str:
    """An API path of these segments, with ``#``, ``?``, ``/`` and the like inside an id percent-encoded.

    ``.`` and ``..`` would walk the path and an empty segment would ask for the parent: :class:`ValueError`.
    """
    texts = [str(segment) for segment in segments]
    if any(text in ("", ".", "..") for text in texts):
        raise ValueError(f"no API path: {'/'.join(texts)!r}")
    return "/" + "/".join(quote(text, safe="") for text in texts)


class ProxmoxClient:
    """A client of one endpoint for any number of threads; each has a proxmoxer client of its own per host.

    ``retry_budget`` of the endpoint (seconds) is how long one request may go on being tried; 10 seconds at most while
    no host has ever answered. No attempt begins after it, so a call ends within the budget plus one timeout.
    ``max_connections`` bounds the requests that are under way at once.
    """

    def __init__(self, endpoint: EndpointSettings, *, max_connections: int = 8) -> None:
        self.endpoint = endpoint
        self.credentials = Credentials.of(endpoint)
        self.hosts = endpoint.addresses
        self._local = threading.local()
        self._lock = threading.Lock()
        self._login = threading.Lock()
        self._slots = threading.BoundedSemaphore(max_connections)
        self._closed = threading.Event()
        self._connections = Connections()
        self._sessions: list[Any] = []
        self._preferred = 0
        self._connected = False
        self._exhausted = 0
        self._lost: tuple[float, ProxmoxError] | None = None
        self._refused: AuthenticationFailed | None = None
        self.requests = 0

    @property
    def host(self) -> str:
        """The host that is asked first, as ``name:port``."""
        return shown(*self.hosts[self._preferred])

    def get(self, path: str, /, *, expect: type | None = None, **params: Any) -> Any:
        """The ``data`` of one GET of ``path`` (see :func:`api_path`), which must be of type ``expect``.

        Raises a subclass of :class:`ProxmoxError`. Retried, on the next host where it is the host's fault: no
        connection, dropped connections, timeouts, 502-504, 595 and 596, cut-off answers. Not retried: what Proxmox
        answers (400, 401, 403, 500, 501).
        """
        self._raise_if_lost()
        retrying = Retrying(
            retry=retry_if_exception(_is_transient),
            stop=self._stop,
            wait=PAUSE,
            sleep=sleep_using_event(self._closed),
            reraise=True,
        )
        try:
            value = retrying(self._sweep, path, expect, params)
        except ProxmoxError as error:
            self._note_failure(error, path)
            raise
        with self._lock:
            self._connected, self._exhausted, self._lost = True, 0, None
        return value

    def close(self) -> None:
        """End all requests, those under way too, and wake up what waits for its next attempt."""
        self._closed.set()
        self._connections.cut()
        with self._lock:
            sessions, self._sessions = self._sessions, []
        for session in sessions:
            session.close()

    def _stop(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        if self._closed.is_set():
            return True
        if isinstance(error, NodeUnreachable | BadAnswer):
            # A blip is worth a second look; a node that is down stays down, and so does a broken answer.
            return stop_after_attempt(2)(state) or stop_before_delay(self.endpoint.retry_budget)(state)
        budget = (
            self.endpoint.retry_budget if self._connected else min(self.endpoint.retry_budget, FIRST_CONTACT_BUDGET)
        )
        return stop_before_delay(budget)(state)

    def _sweep(self, path: str, expect: type | None, params: dict[str, Any]) -> Any:
        """Ask the hosts in turn, from the one that worked last, until one of them answers."""
        first, count = self._preferred, len(self.hosts)
        failures: list[ProxmoxError] = []
        for index in [(first + step) % count for step in range(count)]:
            try:
                value = self._ask(index, path, expect, params)
            except ProxmoxError as error:
                if not self._is_hosts_fault(error, path):
                    self._stick_to(index)
                    raise
                failures.append(error)
            else:
                self._stick_to(index)
                return value
        raise _worst(failures)

    def _is_hosts_fault(self, error: ProxmoxError, path: str) -> bool:
        """Whether another host may answer better."""
        return isinstance(error, _OTHER_HOST) or (isinstance(error, NoAnswer) and not _is_nodes_fault(error, path))

    def _ask(self, index: int, path: str, expect: type | None, params: dict[str, Any]) -> Any:
        asked, verify = shown(*self.hosts[index]), self.endpoint.verify_ssl
        with self._slots:
            if self._closed.is_set():
                raise Unreachable(f"the client of {asked} is closed.", host=asked, path=path)
            with self._lock:
                self.requests += 1
            try:
                return checked(self._api(index)(path.strip("/")).get(**params), expect, asked, path)
            except AuthenticationFailed:
                raise
            except Exception as error:
                failure = translated(error, self.credentials, asked, path, verify)
                if isinstance(failure, AuthenticationFailed):
                    self._refused = failure
                raise failure from None

    def _api(self, index: int) -> ProxmoxAPI:
        """This thread's proxmoxer client of a host."""
        if self._refused is not None:
            # Proxmox delays each refusal by 3 seconds, and others count them: one is enough.
            raise self._refused
        apis: dict[int, ProxmoxAPI] = self._local.__dict__.setdefault("apis", {})
        if index not in apis:
            with self._logging_in():
                apis[index] = self._connect(index)
        return apis[index]

    @contextmanager
    def _logging_in(self) -> Iterator[None]:
        """With a password, one thread after the other logs in, so that a wrong one is tried once."""
        if self.credentials.password is None:
            yield
            return
        with self._login:
            if self._refused is not None:
                raise self._refused
            yield

    def _connect(self, index: int) -> ProxmoxAPI:
        host, port = self.hosts[index]
        who = self.credentials
        how: dict[str, Any] = {
            "verify_ssl": self.endpoint.verify_ssl,
            "timeout": (min(CONNECT_TIMEOUT, self.endpoint.timeout), self.endpoint.timeout),
            # Loopback is never asked through a proxy: "" overrides the environment's for the log-in (None would not),
            # trust_env below for everything else.
            "proxies": {"https": "", "http": ""} if _is_loopback(host) else None,
        }
        api = ProxmoxAPI(
            f"[{host}]" if ":" in host else host,
            port=port,
            user=who.user,
            # Given a password, proxmoxer would log in by itself at once: see TicketAuth.
            token_name=who.token_name or "",
            token_value=who.token_value or "",
            **how,
        )
        api._store["serializer"] = Serializer()
        session = api._store["session"]
        if who.password is not None:
            session.auth = TicketAuth(who.user, who.password, base_url=api._store["base_url"], **how)
        if _is_loopback(host):
            session.trust_env = False
        session.mount("https://", self._connections.adapter())
        # A redirect leads to a login page or to another server; neither is to be given the token.
        session.max_redirects = 0
        with self._lock:
            self._sessions.append(session)
        return api

    def _stick_to(self, index: int) -> None:
        with self._lock:
            self._preferred = index

    def _raise_if_lost(self) -> None:
        with self._lock:
            if self._lost is not None and time.monotonic() < self._lost[0]:
                raise self._lost[1]

    def _note_failure(self, error: ProxmoxError, path: str) -> None:
        """Give up for a while once the endpoint is lost, so that a thousand reads do not spend a budget each."""
        with self._lock:
            if isinstance(error, AuthenticationFailed) or not _is_transient(error):
                self._exhausted = 0
                return
            if isinstance(error, NodeUnreachable | BadAnswer) or _is_nodes_fault(error, path):
                return
            self._exhausted += 1
            if isinstance(error, Unreachable) or self._exhausted >= _EXHAUSTED_IN_A_ROW:
                self._lost = (time.monotonic() + _CALM, error)


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, Unreachable | NoAnswer | NodeUnreachable | BadAnswer)


def _is_nodes_fault(error: BaseException, path: str) -> bool:
    """A slow answer about one node, or what is on it, says nothing about the host that hands it on, and the others."""
    return isinstance(error, NoAnswer) and path.startswith("/nodes/")


def _worst(failures: list[ProxmoxError]) -> ProxmoxError:
    """Of all hosts' failures the one to tell: the first that waiting may cure, for then it is worth another round."""
    chosen = next((error for error in failures if _is_transient(error)), failures[0])
    if len(failures) > 1:
        others = " | ".join(str(error) for error in failures if error is not chosen)
        chosen.message = f"{chosen.message} The other hosts: {others}"
        chosen.args = (chosen.message,)
    return chosen


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")
