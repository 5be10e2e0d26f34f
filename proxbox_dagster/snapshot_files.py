"""What runs have read of Proxmox, as files: to look up later what a run saw, and to map it once more.

A JSON document, packed with gzip, for each content that a source had:
``<endpoint>/<source>/<data version>.json.gz``. Nothing in a run reads them.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from upath import UPath

from proxbox_dagster.artifacts import Storing, artifact_folder
from proxbox_dagster.facts import UNOBSERVED, Fetched, Gap, GapKind, frame_of
from proxbox_dagster.settings_file import SnapshotsConfig

_PART = ".part"
_OURS = re.compile(r"[0-9a-f]{32}\.json\.gz(\.part)?$")
"""Names of our files, whole or left by a run that was killed; what else lies there is not ours to remove."""

_MARK = "$"
_UNOBSERVED_KEY = "$unobserved"


class Snapshots:
    """Where one run keeps what it reads. A place that fails is told once and then left alone: the run matters more."""

    def __init__(self, settings: SnapshotsConfig, instance: Storing, warn: Callable[[str], None]) -> None:
        self._settings = settings
        self._instance = instance
        self._warn = warn
        self._off = settings.path is None

    def keep(self, fetched: Fetched, version: str) -> str | None:
        """The file that holds this read, written unless it is there; ``None`` where none is kept."""
        if self._off:
            return None
        try:
            base = artifact_folder(self._settings.path, self._instance, "snapshots")
            return str(write_snapshot(fetched, version, base, self._settings.keep))
        except Exception as error:  # whatever the file system of an fsspec URL raises
            self._off = True
            self._warn(f"what was read of {fetched.source} could not be kept ('snapshots'): {error}")
            return None


def write_snapshot(fetched: Fetched, version: str, base: UPath, keep: int) -> UPath:
    """Write a read below ``base`` unless its content is there, and drop the oldest beyond ``keep`` of its source.

    ``version`` is the read's data version. Raises :class:`OSError`, or what the file system of ``base`` raises.
    """
    folder = base / fetched.endpoint / fetched.source
    file = folder / f"{version}.json.gz"
    if file.exists():
        return file
    data = gzip.compress(json.dumps(_document(fetched)).encode("ascii"), compresslevel=6)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{file.name}{_PART}"  # a file that was begun only must never pass for a whole one
    part.write_bytes(data)
    part.fs.mv(part.path, file.path)
    _drop_oldest(folder, file.name, keep)
    return file


def read_snapshot(file: UPath) -> Fetched:
    """The read that a file holds, as it was. Raises :class:`OSError`, and :class:`ValueError` for any other file."""
    data = file.read_bytes()
    try:
        document = json.loads(gzip.decompress(data))
        return Fetched(
            document["source"],
            document["endpoint"],
            frame_of([_said(row) for row in document["rows"]], document["columns"]),
            tuple(Gap(gap["level"], gap["name"], GapKind(gap["kind"]), gap["reason"]) for gap in document["gaps"]),
            document["requests"],
            document["seconds"],
        )
    except (gzip.BadGzipFile, zlib.error, EOFError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is no snapshot of a read: {error!r}") from None


def _document(fetched: Fetched) -> dict[str, Any]:
    return {
        "source": fetched.source,
        "endpoint": fetched.endpoint,
        "read_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "requests": fetched.requests,
        "seconds": fetched.seconds,
        "columns": list(fetched.frame.columns),
        "gaps": [
            {"level": gap.level, "name": gap.name, "kind": str(gap.kind), "reason": gap.reason} for gap in fetched.gaps
        ],
        "rows": [_spelled(row) for row in fetched.rows],
    }


def _spelled(value: Any) -> Any:
    """``value`` as JSON. UNOBSERVED is ``{"$unobserved": true}``, and a key of Proxmox's own that begins so has one
    ``$`` more, so that nothing that Proxmox answers reads like it.
    """
    if value is UNOBSERVED:
        return {_UNOBSERVED_KEY: True}
    if isinstance(value, dict):
        return {f"{_MARK}{key}" if key.startswith(_MARK) else key: _spelled(item) for key, item in value.items()}
    return [_spelled(item) for item in value] if isinstance(value, list) else value


def _said(value: Any) -> Any:
    """What :func:`_spelled` was given."""
    if isinstance(value, dict):
        if _UNOBSERVED_KEY in value:
            return UNOBSERVED
        return {key.removeprefix(_MARK): _said(item) for key, item in value.items()}
    return [_said(item) for item in value] if isinstance(value, list) else value


def _drop_oldest(folder: UPath, written: str, keep: int) -> None:
    """Drop all but the newest ``keep``. ``written`` is the newest; the clock of an object store may be coarse."""
    others = [file for file in folder.iterdir() if _OURS.match(file.name) and file.name != written]
    if len(others) < keep:
        return
    others.sort(key=lambda file: (file.fs.modified(file.path), file.name), reverse=True)
    for file in others[keep - 1 :]:
        file.unlink(missing_ok=True)
