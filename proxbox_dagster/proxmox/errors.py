"""What can go wrong with Proxmox, as one line for the operator each: what, where, why, and what to do."""

from __future__ import annotations

import re

_PERMISSION = re.compile(r"\((?P<path>/[^,()\s]*)\s*,\s*(?P<privilege>[A-Za-z.|]+)\)")


class ProxmoxError(Exception):
    """A read from Proxmox failed. ``host`` is ``name:port``, ``path`` the API path, ``status`` the HTTP status.

    ``endpoint_wide`` says that every other read of this endpoint will fail in the same way.
    """

    endpoint_wide = False

    def __init__(self, message: str, *, host: str = "", path: str = "", status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.host = host
        self.path = path
        self.status = status

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.message, dict(self.__dict__)))


def _rebuild(kind: type[ProxmoxError], message: str, state: dict[str, object]) -> ProxmoxError:
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


class Unreachable(ProxmoxError):
    """No connection: refused, no route, name unknown, TLS not spoken."""

    endpoint_wide = True


class CertificateNotTrusted(ProxmoxError):
    """The certificate is not signed by a trusted CA, or is of another name."""

    endpoint_wide = True


class AuthenticationFailed(ProxmoxError):
    """Token, user or password refused."""

    endpoint_wide = True


class NotProxmox(ProxmoxError):
    """Something answers, but it is no Proxmox VE API: an HTML page, a redirect."""

    endpoint_wide = True


class NoAnswer(ProxmoxError):
    """Connected, but no answer: timed out, connection dropped, or a gateway in front that gave up."""


class BadAnswer(ProxmoxError):
    """An answer with status 200 that cannot be used: cut off, no ``data``, or of the wrong type."""


class NotApplied(ProxmoxError):
    """What Proxmox shows is not in force: somebody has edited a node's network, and neither applied nor reverted it."""


class NodeUnreachable(ProxmoxError):
    """The node that answers cannot reach the one that was asked for (595, 596), or does not know it, or where it is."""

    def __init__(self, message: str, *, node: str = "", host: str = "", path: str = "", status: int | None = None):
        super().__init__(message, host=host, path=path, status=status)
        self.node = node


class ApiError(ProxmoxError):
    """Proxmox's own refusal; ``reason`` is its text."""

    def __init__(self, message: str, *, reason: str = "", host: str = "", path: str = "", status: int | None = None):
        super().__init__(message, host=host, path=path, status=status)
        self.reason = reason


class PermissionDenied(ApiError):
    """A privilege is missing: ``privilege`` on ``object_path``, as far as Proxmox says which."""

    @property
    def privilege(self) -> str | None:
        match = _PERMISSION.search(self.reason)
        return match["privilege"] if match else None

    @property
    def object_path(self) -> str | None:
        match = _PERMISSION.search(self.reason)
        return match["path"] if match else None
