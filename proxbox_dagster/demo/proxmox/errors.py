"""Errors as Proxmox raises them; the server turns them into its status lines and bodies."""

from __future__ import annotations


class PveError(Exception):
    """An error answer: HTTP status, the text (its first line becomes the reason phrase), and errors by parameter."""

    def __init__(self, status: int, text: str, errors: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.errors = errors


class ProxyError(PveError):
    """The answering node could not hand the request on: 595 or 596 with an empty body."""


def bad_parameters(**errors: str) -> PveError:
    """400, as parameter verification fails."""
    return PveError(400, "Parameter verification failed.\n", {key: f"{text}\n" for key, text in errors.items()})


def died(text: str) -> PveError:
    """500 with the text that the code died with."""
    return PveError(500, f"{text}\n")


def forbidden(path: str, privileges: str) -> PveError:
    """403 for a missing privilege."""
    return PveError(403, f"Permission check failed ({path}, {privileges})\n")


def not_implemented(method: str, path: str) -> PveError:
    """501 for a path or method that the API does not have. Its text has no line end."""
    return PveError(501, f"Method '{method} {path}' not implemented")
