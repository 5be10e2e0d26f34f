"""The floors: what the same rows cost a bare client, which reads, compares and remembers nothing. Own process.

Reads one JSON object from the file that its first argument names: ``kind`` (``write``, ``read``, ``proxmox``),
``clients``, ``result`` and what the kind needs. Only :mod:`requests` is used, one session per client.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests

PAGE = 1000


class _Bare:
    """A session per thread, with fixed headers."""

    def __init__(self, headers: dict[str, str], verify: bool | str = True) -> None:
        self._local = threading.local()
        self._headers, self._verify = headers, verify

    def __call__(self, method: str, url: str, **keys: Any) -> requests.Response:
        session = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.headers.update(self._headers)
            session.trust_env = False
        return session.request(method, url, verify=self._verify, timeout=300, **keys)


def main(job: dict[str, Any]) -> None:
    """Do it, and write the seconds it took."""
    kind: Callable[[dict[str, Any]], int] = {"write": _write, "read": _read, "proxmox": _proxmox}[job["kind"]]
    started, cpu = time.perf_counter(), time.process_time()
    count = kind(job)
    result = {"wall": time.perf_counter() - started, "cpu": time.process_time() - cpu, "count": count}
    Path(job["result"]).write_text(json.dumps(result))


def _netbox(job: dict[str, Any]) -> _Bare:
    token = job["token"]
    word = "Bearer" if token.startswith("nbt_") else "Token"
    return _Bare({"Authorization": f"{word} {token}", "Accept": "application/json"})


def _read(job: dict[str, Any]) -> int:
    """Every list page by page; the number of rows."""
    bare = _netbox(job)

    def one(entry: dict[str, Any]) -> int:
        count = start = 0
        while True:
            query = {**entry["filters"], "limit": PAGE, "start": start}
            answer = bare("GET", f"{job['url']}/api/{entry['path']}/", params=query)
            answer.raise_for_status()
            page = answer.json()
            count += len(page["results"])
            if not page["next"]:
                return count
            start = page["results"][-1]["id"] + 1

    with ThreadPoolExecutor(job["clients"]) as pool:
        return sum(pool.map(one, job["lists"]))


def _proxmox(job: dict[str, Any]) -> int:
    """Every URL once, whatever it answers; the number of URLs."""
    with ThreadPoolExecutor(job["clients"]) as pool:
        for server in job["servers"]:
            bare = _Bare({"Authorization": server["authorization"]}, server["ca_file"])
            list(pool.map(lambda url, bare=bare: bare("GET", url).content, server["urls"]))
    return sum(len(server["urls"]) for server in job["servers"])


def _write(job: dict[str, Any]) -> int:
    """Every list of the script as soon as those are written that its rows refer to; the number of rows."""
    script = json.loads(Path(job["script"]).read_text())
    bare = _netbox(job)
    ids: dict[tuple[str, int], int] = {}
    done: set[int] = set()
    waiting = list(range(len(script)))
    turn = threading.Condition()
    failures: list[str] = []

    def send(entry: dict[str, Any]) -> None:
        rows = [_with_ids(row, ids) for row in entry["rows"]]
        answer = bare(entry["method"], f"{job['url']}/api/{entry['path']}/", json=rows)
        if not answer.ok:
            first = str(entry["rows"][0])[:300]
            before = ", ".join(f"{script[number]['path']} {script[number]['ids'][:3]}" for number in sorted(done))
            raise RuntimeError(
                f"{entry['method']} {entry['path']}: HTTP {answer.status_code} {answer.text[:1000]}\n"
                f"the first of its rows: {first}\nwritten before: {before}"
            )
        if entry["method"] == "POST":
            made = {(entry["path"], old): row["id"] for old, row in zip(entry["ids"], answer.json(), strict=True)}
            with turn:
                ids.update(made)

    def client() -> None:
        while True:
            with turn:
                ready = next((number for number in waiting if done.issuperset(script[number]["needs"])), None)
                if failures or not waiting:
                    return
                if ready is None:
                    turn.wait()
                    continue
                waiting.remove(ready)
            try:
                send(script[ready])
            except Exception as error:
                failures.append(str(error))
            with turn:
                done.add(ready)
                turn.notify_all()

    threads = [threading.Thread(target=client) for _ in range(job["clients"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(failures[0])
    return sum(len(entry["rows"]) for entry in script)


def _with_ids(value: Any, ids: dict[tuple[str, int], int]) -> Any:
    """References to rows of the script (``{"$row": [path, id then]}``) as the ids of now."""
    if isinstance(value, dict):
        if "$row" in value:
            path, number = value["$row"]
            return ids[path, number]
        return {key: _with_ids(part, ids) for key, part in value.items()}
    if isinstance(value, list):
        return [_with_ids(part, ids) for part in value]
    return value


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
