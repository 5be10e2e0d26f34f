"""How answers are put on the wire: JSON with keys in no order, Proxmox's headers, reason phrases and empty bodies."""

from __future__ import annotations

import gzip
import json
import random
from email.utils import formatdate
from typing import Any

from aiohttp import web

from .call import Rows
from .errors import ProxyError, PveError
from .flavours import Flavour

JSON_TYPE = "application/json;charset=UTF-8"
GZIP_OVER = 1024


def scrambled(value: Any, rng: random.Random) -> Any:
    """The same value with the keys of every object in another order, as hashes come out in Perl."""
    if isinstance(value, dict):
        items = list(value.items())
        if len(items) > 1:
            cut = int(rng.random() * len(items))
            items = items[cut:] + items[:cut]
            items[0], items[-1] = items[-1], items[0]
        return {key: scrambled(item, rng) if isinstance(item, dict | list) else item for key, item in items}
    if isinstance(value, list):
        return [scrambled(item, rng) if isinstance(item, dict | list) else item for item in value]
    return value


def body(value: Any, rng: random.Random) -> bytes:
    """The body of a 200."""
    document: dict[str, Any] = {"data": value.data, **value.beside} if isinstance(value, Rows) else {"data": value}
    return json.dumps(scrambled(document, rng), ensure_ascii=False, separators=(",", ":")).encode()


def error_body(error: PveError, flavour: Flavour, rng: random.Random) -> bytes:
    """The body of an error; releases before 8.3 repeat the text only in the reason phrase."""
    document: dict[str, Any] = {"data": None}
    if flavour.error_message:
        document["message"] = error.text
    if error.errors:
        document["errors"] = error.errors
    return json.dumps(scrambled(document, rng), ensure_ascii=False, separators=(",", ":")).encode()


def respond(content: bytes, *, accepts_gzip: bool, status: int = 200, reason: str = "OK") -> web.Response:
    """A JSON answer; every error closes the connection."""
    headers = base_headers()
    headers["Content-Type"] = JSON_TYPE
    if accepts_gzip and len(content) > GZIP_OVER:
        content = gzip.compress(content, compresslevel=1)
        headers["Content-Encoding"] = "gzip"
    return _finish(web.Response(body=content, status=status, reason=reason, headers=headers))


def respond_error(error: PveError, flavour: Flavour, rng: random.Random, *, accepts_gzip: bool) -> web.Response:
    """An error answer: the first line of its text is the reason phrase."""
    reason = reason_phrase(error.text)
    if isinstance(error, ProxyError):
        return respond_empty(error.status, reason)
    return respond(error_body(error, flavour, rng), accepts_gzip=accepts_gzip, status=error.status, reason=reason)


def respond_empty(status: int, reason: str) -> web.Response:
    """An answer with no body and no content type."""
    response = web.Response(status=status, reason=reason, headers=base_headers())
    response.headers.pop("Content-Type", None)
    return _finish(response)


def respond_text(status: int, text: str) -> web.Response:
    """An answer whose body is its reason phrase."""
    return _finish(web.Response(body=text.encode(), status=status, reason=text, headers=base_headers()))


def reason_phrase(text: str) -> str:
    """The first line of an error's text."""
    return text.split("\n", 1)[0]


def base_headers() -> dict[str, str]:
    now = formatdate(usegmt=True)
    return {
        "Server": "pve-api-daemon/3.0",
        "Cache-Control": "max-age=0",
        "Pragma": "no-cache",
        "Date": now,
        "Expires": now,
        "Connection": "Keep-Alive",
    }


def _finish(response: web.Response) -> web.Response:
    if response.status >= 400:
        response.headers["Connection"] = "close"
        response.force_close()
    return response
