"""Finding a Python that NetBox runs on: 3.12 or newer, working, able to make virtual environments."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from proxbox_dagster.demo.netbox.errors import NetBoxUnavailable

PYTHON_VARIABLE = "NETBOX_PYTHON"
# NetBox 4.7 supports these (its metadata: Requires-Python >=3.12); the oldest first, for it has the most wheels.
VERSIONS = ("3.12", "3.13", "3.14")
_VERSION_MANAGERS = (
    "{PYENV_ROOT}/versions/*/bin",
    "~/.pyenv/versions/*/bin",
    "~/.asdf/installs/python/*/bin",
    "~/.local/share/mise/installs/python/*/bin",
    "~/.local/share/uv/python/*/bin",
    "/opt/homebrew/bin",
    "/usr/local/bin",
)
_PROBE = "import ctypes, ensurepip, ssl, sys, venv; print('%d.%d' % sys.version_info[:2], sys.implementation.name)"


def find_python() -> Path:
    """The interpreter for NetBox: ``$NETBOX_PYTHON``, PATH, this one, version managers' folders, ``uv python find``.

    Each candidate must really run (a version manager's shim on PATH may name a version that it will not start) and
    have what a virtual environment needs. Raises :class:`NetBoxUnavailable` with the ways out if there is none.
    """
    named = os.environ.get(PYTHON_VARIABLE)
    if named:
        path = Path(shutil.which(named) or named)
        if _works(path):
            return path
        raise NetBoxUnavailable(
            f"{PYTHON_VARIABLE}={named} is not a Python {VERSIONS[0]} to {VERSIONS[-1]} that runs and can make virtual "
            "environments (on Debian that part is the package python3-venv). Correct it, or unset it to search."
        )
    seen: set[Path] = set()
    for candidate in _candidates():
        if candidate not in seen and candidate.exists():
            seen.add(candidate)
            if _works(candidate):
                return candidate
    raise NetBoxUnavailable(
        f"NetBox needs Python {VERSIONS[0]} or newer (to {VERSIONS[-1]}), with its venv module; none was found on this "
        "machine. One of these helps:\n"
        "  1. install one with the system's packages or a version manager (pyenv install 3.12)\n"
        "  2. install one with uv: uv python install 3.12\n"
        f"  3. name one that lies elsewhere: export {PYTHON_VARIABLE}=/path/to/python3.12\n"
        'Everything that needs no NetBox works without: pytest -m "not real".'
    )


def _candidates() -> Iterator[Path]:
    names = [f"python{version}" for version in VERSIONS]
    folders = [Path(folder) for folder in os.get_exec_path() if folder]
    for name in names:
        yield from (folder / name for folder in folders)
    # In a virtual environment this is the interpreter below it: the environment may be deleted, the other stays.
    yield Path(getattr(sys, "_base_executable", sys.executable))
    for pattern in _VERSION_MANAGERS:
        if "{PYENV_ROOT}" in pattern:
            root = os.environ.get("PYENV_ROOT")
            if not root:
                continue
            pattern = pattern.format(PYENV_ROOT=root)
        base, _, rest = str(Path(pattern).expanduser()).partition("/*")
        matches = sorted(Path(base).glob(f"*{rest}")) if rest else [Path(base)]
        for name in names:
            yield from (folder / name for folder in matches)
    uv = shutil.which("uv")
    for version in VERSIONS if uv else ():
        answer = _output([str(uv), "python", "find", version])
        if answer:
            yield Path(answer)


def _works(path: Path) -> bool:
    words = _output([str(path), "-I", "-c", _PROBE]).split()
    return len(words) == 2 and words[0] in VERSIONS and words[1] == "cpython"


def _output(command: list[str]) -> str:
    """Standard output of a command, empty if it fails in any way."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
