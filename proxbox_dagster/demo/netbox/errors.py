"""What can keep the embedded NetBox from starting, in words for the person who started it."""

from __future__ import annotations

from pathlib import Path

TAIL_LINES = 25


class NetBoxError(RuntimeError):
    """NetBox, or a server that it needs, could not be installed or started; the message holds the end of the log."""


class NetBoxUnavailable(NetBoxError):
    """This machine has no Python that NetBox runs on; nothing is broken. Tests that need NetBox are skipped."""


def with_log(problem: str, log: Path) -> str:
    """``problem``, the place of ``log`` and its last lines, as one message."""
    try:
        lines = log.read_text(errors="replace").rstrip().splitlines()[-TAIL_LINES:]
    except OSError as error:
        lines = [f"(not readable: {error})"]
    return "\n".join([problem, f"The end of {log}:", *(f"  {line}" for line in lines or ["(empty)"])])
