"""Host and port of one server as an operator writes them: read in one way, wherever they are needed."""

from __future__ import annotations

import ipaddress
import re

_WRITTEN = re.compile(
    r"(?:https://)?(?:\[(?P<address>[^\]]*)\]|(?P<name>\w(?:[\w.-]*\w)?\.?))(?::(?P<port>\d{1,5}))?/?"
)
HIGHEST_PORT = 65535


def host_and_port(text: str, port: int) -> tuple[str, int]:
    """Host and port of ``host``, ``host:port``, ``2001:db8::1``, ``[2001:db8::1]:8006`` or an https URL of these.

    ``port`` is the one where none is given. Raises :class:`ValueError`, which does not repeat what may be a password.
    """
    if "@" in text:
        raise ValueError("a host and nothing else: user and secret have keys of their own")
    text = text.strip()
    if is_address(text):
        return text, port
    found = _WRITTEN.fullmatch(text)
    if found is not None and (found["address"] is None or is_address(found["address"])):
        given = int(found["port"] or port)
        if 1 <= given <= HIGHEST_PORT:
            return found["address"] or found["name"], given
    raise ValueError(f"{text!r} is no host such as pve1.example.org, 192.0.2.1 or [2001:db8::1]:8006")


def shown(host: str, port: int) -> str:
    """``host:port`` as it stands in an address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_address(text: str) -> bool:
    """Whether a host is given by its IP address, and not by a name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
