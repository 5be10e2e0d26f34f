"""One run's reading of one Proxmox endpoint: every source at most once, in parallel, with evidence."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from ..facts import Fetched, Gap, GapKind, frame_of
from ..scope import Scope
from ..settings import ConcurrencyConfig, EndpointSettings
from .client import ProxmoxClient, api_path
from .errors import NoAnswer, NodeUnreachable, ProxmoxError, Unreachable
from .fetch import FETCHES
from .grants import grant
from .memo import Memo
from .normalise import ALL, Rows
from .privileges import NEEDS, PROBED, PrivilegeProof, Privileges, hides_bridges
from .sources import SOURCES

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Load = Literal["guests", "configs", "lists"]

_SILENCES: Final = 3
"""Reads in a row that a node leaves without an answer, each for a whole retry budget, before it is taken for lost."""
_OF_OTHERS: Final = frozenset({"node_storage", "storage_content", "guest_agent", "container_interfaces"})
"""Sources that a storage or a guest keeps waiting, whatever the state of the node."""


@dataclass(frozen=True, slots=True)
class Member:
    """A node of the cluster. ``reason`` says why it is not online."""

    name: str
    online: bool
    reason: str = ""


class ProxmoxSession:
    """One run's reads of one endpoint. Thread-safe; close it when the run is over.

    ``concurrency`` bounds the requests under way: ``proxmox_fetch_concurrency`` for reads per guest and node,
    ``fetch_max_concurrency`` for storages, backups and snapshots, ``vm_sync_max_concurrency`` for configurations;
    ``backup_batch_size`` and ``backup_batch_delay_ms`` spare the storages that hold backups (:meth:`in_batches`).
    ``cursor`` (node to epoch seconds) leaves out older tasks of the archive. ``pause`` waits for so many seconds.
    """

    def __init__(
        self,
        endpoint: EndpointSettings,
        concurrency: ConcurrencyConfig,
        scope: Scope = Scope(),  # noqa: B008 - frozen
        *,
        cursor: Mapping[str, int] | None = None,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.scope = scope
        self.cursor = dict(cursor or {})
        self._limits: dict[str, int] = {
            "guests": concurrency.proxmox_fetch_concurrency,
            "lists": concurrency.fetch_max_concurrency,
            "configs": concurrency.vm_sync_max_concurrency,
        }
        self._batch = concurrency.backup_batch_size
        self._batch_delay = concurrency.backup_batch_delay_ms / 1000
        self.client = ProxmoxClient(endpoint, max_connections=max(self._limits.values()))
        self._memo = Memo()
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._closed = threading.Event()
        self._pause = pause or self._closed.wait
        self._lost_nodes: dict[str, NodeUnreachable] = {}
        self._silences: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        """Requests by source (``access`` for the privileges), retries not counted."""

    def __enter__(self) -> ProxmoxSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fetched(self, name: str) -> Fetched:
        """A source as read in this run; read now if it was not yet.

        Raises :class:`ProxmoxError` when the source cannot be read at all, the same one each time.
        """
        if name not in SOURCES:
            raise KeyError(f"there is no source {name!r}; sources are {', '.join(SOURCES)}")
        result: Fetched = self._memo.get(("source", name), lambda: self._fetch(name))
        return result

    def has(self, name: str) -> bool:
        """Whether a source has been read, or could not be: :meth:`fetched` does not wait for it."""
        return self._memo.has(("source", name))

    def prefetch(self, names: Iterable[str]) -> None:
        """Read these sources, and what they need, side by side. A failure is raised by :meth:`fetched`, not here."""
        wanted: dict[str, None] = {}
        for name in names:
            for need in (*SOURCES[name].needs, name):
                wanted[need] = None
        # Threads of their own: a source waits for others, and must not hold a place in the pool while it does.
        threads = [threading.Thread(target=self._quietly, args=(name,), name=f"fetch-{name}") for name in wanted]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def close(self) -> None:
        """End all connections; reads under way fail."""
        self._closed.set()
        self.client.close()
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    # What the fetch functions are made of.

    def get(self, source: str, /, *segments: str | int, expect: type | None = list, **params: Any) -> Any:
        """One GET, counted for ``source``. A node that was found out of reach is not asked again."""
        node = str(segments[1]) if segments[0] == "nodes" and len(segments) > 1 else ""
        if node in self._lost_nodes:
            raise self._lost_nodes[node]
        with self._lock:
            self.requests[source] += 1
        try:
            answer = self.client.get(api_path(*segments), expect=expect, **params)
        except NodeUnreachable as error:
            self._lost_nodes[error.node] = error
            raise
        except NoAnswer as error:
            if node and source not in _OF_OTHERS:
                self._note_silence(node, error)
            raise
        with self._lock:
            self._silences.pop(node, None)
        return answer

    def _note_silence(self, node: str, error: NoAnswer) -> None:
        """A node that hangs lets each of its thousand reads wait for a whole budget: after a few it is lost."""
        with self._lock:
            self._silences[node] += 1
            if self._silences[node] >= _SILENCES and node not in self._lost_nodes:
                message = f"node {node} does not answer any more ({error}); its data is not observed."
                self._lost_nodes[node] = NodeUnreachable(message, node=node, host=error.host, path=error.path)

    def once(self, key: str, compute: Callable[[], Answer]) -> Answer:
        """The result of ``compute``, computed once in this session."""
        result: Answer = self._memo.get(key, compute)
        return result

    def each(
        self, load: Load, items: Sequence[Item], read: Callable[[Item], Answer]
    ) -> Iterator[tuple[Item, Answer | ProxmoxError]]:
        """Read for each item on the pool, at most as many at once as ``load`` allows; in the order of the items.

        An error of one item is handed out beside it; one that concerns the whole endpoint ends the read.
        """
        limit = self._limits[load]
        results: dict[int, Answer | ProxmoxError] = {}
        waiting = iter(enumerate(items))
        running: dict[Future[Answer], int] = {}
        while True:
            for index, item in waiting:
                running[self._executor().submit(read, item)] = index
                if len(running) >= limit:
                    break
            if not running:
                break
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                results[running.pop(future)] = _outcome(future, running)
        return ((item, results[index]) for index, item in enumerate(items))

    def in_batches(
        self, items: Sequence[Item], read: Callable[[Item], Answer]
    ) -> Iterator[tuple[Item, Answer | ProxmoxError]]:
        """:meth:`each` for what is heavy on a storage: so many at once as the settings say, a pause, and so on."""
        for start in range(0, len(items), self._batch):
            if start and self._batch_delay:
                self._pause(self._batch_delay)
            yield from self.each("lists", items[start : start + self._batch], read)

    def members(self) -> list[Member]:
        """The nodes of the cluster by name; a node is online when neither the cluster nor its node list denies it."""
        return self.once("members", self._members)

    def online(self, name: str | None) -> bool:
        """Whether this node can be asked."""
        return any(member.name == name and member.online for member in self.members())

    def proof(self) -> PrivilegeProof:
        """What the token may see, read once."""
        return self.once("proof", self._proof)

    def absence_gap(self, what: str, name: str) -> Gap | None:
        """Why a guest, storage or bridge that is in no list need not be gone; ``None`` when its absence is proved.

        ``what`` is a key of :data:`PROBED`, ``name`` the VMID or the name. The list of all privileges does not name
        paths on which there are none (role NoAccess), so that such an object looks like a deleted one: before it is
        taken for gone, its own path is asked for. One request.
        """
        if what == "bridge" and not hides_bridges(self.release()):
            return None
        need = PROBED[what]
        path = f"{need.base}/{name}"
        answer = self.once(
            f"privileges of {path}", lambda: self.get("access", "access", "permissions", expect=None, path=path)
        )
        if isinstance(answer, Mapping) and Privileges(answer).allows(path, need.any_of):
            return None
        who = self.client.credentials
        wanted = need.any_of[0]
        line = grant(path, wanted, who.user, who.token_name)
        names = " and ".join(wanted)
        reason = f"the {who.who} lacks {names} on {path}: the {what} may be hidden, not gone. Grant it: {line}"
        return Gap(what, name, GapKind.PERMISSION, reason)

    def incomplete(self) -> str | None:
        """Why nothing at all may be taken for gone in this run: no quorum, or a node lost while it was read."""
        for gap in self.fetched("cluster_status").gaps:
            if (gap.level, gap.name) == ALL:
                return gap.reason
        for name in sorted(self._lost_nodes):
            return f"node {name} could not be reached while it was read; nothing that is missing is taken for gone"
        return None

    def release(self) -> str | None:
        """The lowest release of Proxmox VE among the nodes, as ``9.1``; ``None`` in a narrowed run."""
        if not self.scope.is_full:
            return None
        found = [row["release"] for row in self.fetched("nodes").rows if isinstance(row["release"], str)]
        return min(found, key=_release_order, default=None)

    def _fetch(self, name: str) -> Fetched:
        started, before = time.monotonic(), self.requests[name]
        gathered = Rows(name)
        if not self.scope.is_full:
            gathered.gap(("scope", ""), GapKind.OUT_OF_SCOPE, f"the run is narrowed to {self.scope}")
        FETCHES[name](self, gathered)
        if name != "cluster_status":
            self._add_quorum(gathered)
        if name in NEEDS:
            gathered.gaps += self.proof().gaps(name, self._release_for(name))
        return Fetched(
            source=name,
            endpoint=self.endpoint.name,
            frame=frame_of(gathered.rows, SOURCES[name].column_names),
            gaps=tuple(dict.fromkeys(gathered.gaps)),
            requests=self.requests[name] - before,
            seconds=time.monotonic() - started,
        )

    def _release_for(self, name: str) -> str | None:
        """The release where the privileges depend on it, without a source waiting for itself."""
        return self.release() if name in ("guest_agent", "node_networks") else None

    def _add_quorum(self, gathered: Rows) -> None:
        for gap in self.fetched("cluster_status").gaps:
            if (gap.level, gap.name) == ALL:
                gathered.gaps.append(gap)

    def _members(self) -> list[Member]:
        said = {}
        if self.scope.is_full:
            said = {row["node"]: row["status"] for row in self.fetched("nodes").rows}
        members = []
        for row in self.fetched("cluster_status").rows:
            if row["type"] != "node":
                continue
            name = row["name"]
            if row["online"] is not True:
                members.append(Member(name, False, f"node {name} is offline in the cluster"))
            elif said.get(name) == "offline":
                members.append(Member(name, False, f"node {name} is listed as offline"))
            else:
                members.append(Member(name, True))
        return sorted(members, key=lambda member: member.name)

    def _proof(self) -> PrivilegeProof:
        who = self.client.credentials
        try:
            answer = self.get("access", "access", "permissions", expect=None)
        except ProxmoxError as error:
            if error.endpoint_wide:
                raise
            return PrivilegeProof(None, who, str(error))
        # Perl shows an empty hash as {}, but a token without any privilege has been seen to get null.
        if answer is None or isinstance(answer, Mapping):
            return PrivilegeProof(Privileges(answer or {}), who)
        return PrivilegeProof(None, who, f"/access/permissions is a {type(answer).__name__}")

    def _quietly(self, name: str) -> None:
        try:
            self.fetched(name)
        except Exception:  # It is kept, and raised by fetched().
            return

    def _executor(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._closed.is_set():
                raise Unreachable(f"the session of {self.endpoint.name} is closed.")
            if self._pool is None:
                self._pool = ThreadPoolExecutor(max(self._limits.values()), thread_name_prefix="proxmox")
            return self._pool


def _outcome(future: Future[Any], running: Iterable[Future[Any]]) -> Any:
    try:
        return future.result()
    except ProxmoxError as error:
        if not error.endpoint_wide:
            return error
        for other in running:
            other.cancel()
        raise


def _release_order(release: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdecimal() else 0 for part in release.split("."))
