"""Proxmoxer's and requests' many ways to fail, translated into this project's errors."""

from __future__ import annotations

import json
import re
import ssl
from typing import Any, Final

import requests
from proxmoxer.backends.https import JsonSerializer
from proxmoxer.core import AuthenticationError, ResourceException
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from .credentials import Credentials
from .errors import (
    ApiError,
    AuthenticationFailed,
    BadAnswer,
    CertificateNotTrusted,
    NoAnswer,
    NodeUnreachable,
    NotApplied,
    NotProxmox,
    PermissionDenied,
    ProxmoxError,
    Unreachable,
)
from .grants import grant

_NODE = re.compile(r"/?nodes/([^/?]+)/.+")
_GATEWAY: Final = frozenset({408, 429, 502, 503, 504})
_PEER: Final = frozenset({595, 596, 597, 598, 599})
_LOST: Final = re.compile(r"(?:hostname lookup|no such cluster node) '([^']*)'.*", re.DOTALL)
"""What a 500 says where the node that answers has no address of the one in the path, or does not know it any more."""
_CODE = re.compile(r"code: ([0-9]{3})")


class Serializer(JsonSerializer):
    """Proxmoxer's own drops what stands beside the data, and with it that the data are not those in force."""

    def loads(self, response: requests.Response) -> Any:
        """The ``data`` of an answer. Raises :class:`NotApplied`, and KeyError or TypeError as proxmoxer's does."""
        try:
            document = json.loads(response.content.decode("utf-8"))
        except (UnicodeDecodeError, ValueError):
            return {"errors": response.content}
        if "changes" in document:  # of /nodes/{node}/network, while there is an interfaces.new
            raise NotApplied(
                "has changes of its network that are not applied, and Proxmox shows those instead of what is in force: "
                "its interfaces and addresses stay in NetBox as they are; apply or revert them (System > Network)"
            )
        return document["data"]


def checked(value: Any, expect: type | None, host: str, path: str) -> Any:
    """``value`` if it is an answer of the expected type.

    Proxmoxer hands over a body that is no JSON as ``{"errors": bytes}`` instead of raising. Raises
    :class:`NotProxmox` for an HTML page and :class:`BadAnswer` for everything else that cannot be used.
    """
    if isinstance(value, dict) and list(value) == ["errors"] and isinstance(value["errors"], bytes):
        body = value["errors"]
        if _is_html(body):
            raise NotProxmox(_not_proxmox(host, "an HTML page"), host=host, path=path, status=200)
        what = f"{len(body)} bytes that are no complete JSON" if body else "an empty body"
        raise BadAnswer(f"Proxmox at {host} answered GET {path} with {what}.", host=host, path=path, status=200)
    if expect is not None and not isinstance(value, expect):
        kind = "nothing" if value is None else type(value).__name__
        message = f"Proxmox at {host} answered GET {path} with {kind} instead of a {expect.__name__}."
        raise BadAnswer(message, host=host, path=path, status=200)
    return value


def translated(error: Exception, who: Credentials, host: str, path: str, verify: bool | str) -> ProxmoxError:
    """The project's error for whatever proxmoxer or requests raised."""
    if isinstance(error, ProxmoxError):
        return error
    if isinstance(error, ResourceException):
        return _refused(error, who, host, path)
    if isinstance(error, AuthenticationError):
        return _ticket(error, who, host)
    if isinstance(error, requests.exceptions.TooManyRedirects):
        return NotProxmox(_not_proxmox(host, "a redirect"), host=host, path=path)
    if isinstance(error, requests.exceptions.SSLError):
        return _tls(error, host, path, verify)
    if isinstance(error, requests.exceptions.RequestException):
        return _transport(error, host, path)
    if isinstance(error, KeyError | TypeError | AttributeError | ValueError):
        # No "data" in the answer, a bare list, a number: proxmoxer trips over all of them.
        message = f"Proxmox at {host} answered GET {path} with JSON that is not Proxmox's (no data in it)."
        return BadAnswer(message, host=host, path=path)
    if isinstance(error, OSError) and isinstance(verify, str):
        return CertificateNotTrusted(f"the CA file {verify} for {host} cannot be read: {error}", host=host, path=path)
    return Unreachable(f"Proxmox at {host} cannot be asked ({type(error).__name__}: {error}).", host=host, path=path)


def _refused(error: ResourceException, who: Credentials, host: str, path: str) -> ProxmoxError:
    status = int(error.status_code)
    reason = _reason(error)
    place: dict[str, Any] = {"host": host, "path": path, "status": status}
    body = error.errors.get("errors") if isinstance(error.errors, dict) else None
    if status == 401:
        return AuthenticationFailed(_wrong_credentials(who, host), **place)
    if status == 403:
        return _denied(reason, who, place)
    lost = _LOST.fullmatch(reason) if status == 500 else None
    if (match := _NODE.fullmatch(path)) and (status in _PEER or (lost and lost[1] == match[1])):
        message = f"node {match[1]} is out of reach of {host} ({status} {reason}); its data is not observed."
        return NodeUnreachable(message, node=match[1], **place)
    if status in _GATEWAY or status in _PEER:
        return NoAnswer(f"{host} answered GET {path} with {status} {reason}: a service behind it is down.", **place)
    if status in (404, 405) or (isinstance(body, bytes) and _is_html(body)):
        return NotProxmox(_not_proxmox(host, f"status {status}"), **place)
    details = ""
    if isinstance(error.errors, dict) and not isinstance(body, bytes):
        details = ": " + "; ".join(f"{key}: {str(text).strip()}" for key, text in error.errors.items())
    message = f"Proxmox at {host} refused GET {path}: {status} {reason}{details}"
    return ApiError(message, reason=reason, **place)


def _denied(reason: str, who: Credentials, place: dict[str, Any]) -> PermissionDenied:
    error = PermissionDenied("", reason=reason, **place)
    missing = f"{error.privilege} on {error.object_path}" if error.privilege else "a privilege"
    message = f"{who.who} lacks {missing} for GET {place['path']} at {place['host']} ({reason})."
    if error.privilege and error.object_path:
        wanted = error.privilege.split("|")[:1]
        message += f" Grant it: {grant(error.object_path, wanted, who.user, who.token_name)}"
    error.message = message
    error.args = (message,)
    return error


def _ticket(error: AuthenticationError, who: Credentials, host: str) -> ProxmoxError:
    """The log-in with a password failed: only the status in the text tells a refusal from a host out of order."""
    match = _CODE.search(str(error))
    status = int(match[1]) if match else None
    place: dict[str, Any] = {"host": host, "path": "/access/ticket", "status": status}
    if status in _GATEWAY or status in _PEER:
        return NoAnswer(f"{host} answered the log-in of {who.who} with {status}.", **place)
    if status in (404, 405):
        return NotProxmox(_not_proxmox(host, f"status {status}"), **place)
    if "TFA" in str(error):
        message = f"{who.who} at {host} needs a second factor: use an API token (token_name, token_value) instead."
        return AuthenticationFailed(message, **place)
    if status is not None and status >= 500:
        return ApiError(f"{host} answered the log-in of {who.who} with {status}.", **place)
    return AuthenticationFailed(_wrong_credentials(who, host), **place)


def _wrong_credentials(who: Credentials, host: str) -> str:
    if who.token_name:
        return (
            f"Proxmox at {host} refused the {who.who}: there is no such token, it has expired, or its value is wrong. "
            f"Check token_name and token_value; `pveum user token list {who.user}` lists the tokens there are."
        )
    return f"Proxmox at {host} refused the {who.who}: check user (with its realm, as netbox@pve) and password."


def _tls(error: requests.exceptions.SSLError, host: str, path: str, verify: bool | str) -> ProxmoxError:
    cause = _innermost(error)
    text = str(cause)
    if "CERTIFICATE_VERIFY_FAILED" in text or isinstance(cause, ssl.CertificateError) or "doesn't match" in text:
        why = getattr(cause, "verify_message", "") or text
        against = f"the CA file {verify}" if isinstance(verify, str) else "the system's CAs"
        message = (
            f"the certificate of {host} is not trusted ({why}; checked against {against}). Set verify_ssl to a copy of "
            "the cluster's CA, /etc/pve/pve-root-ca.pem, and use a host name that is in the certificate."
        )
        return CertificateNotTrusted(message, host=host, path=path)
    return Unreachable(f"{host} does not speak TLS as Proxmox does ({text}); check the port.", host=host, path=path)


def _transport(error: requests.exceptions.RequestException, host: str, path: str) -> ProxmoxError:
    if isinstance(error, requests.exceptions.ReadTimeout):
        message = f"Proxmox at {host} gave no answer to GET {path} in time; the endpoint's 'timeout' may be raised."
        return NoAnswer(message, host=host, path=path)
    cause = _innermost(error)
    refused = isinstance(error, requests.exceptions.ConnectTimeout | requests.exceptions.ProxyError) or any(
        isinstance(item, NewConnectionError | NameResolutionError | ConnectTimeoutError) for item in _chain(error)
    )
    if refused or not isinstance(error, requests.exceptions.ConnectionError | requests.exceptions.ChunkedEncodingError):
        text = re.sub(r"^.*?>:?\s*", "", str(cause)) or type(cause).__name__
        message = f"Proxmox at {host} cannot be reached: {text}. Check the host, the port and the network."
        return Unreachable(message, host=host, path=path)
    return NoAnswer(f"Proxmox at {host} dropped the connection during GET {path}.", host=host, path=path)


def _chain(error: BaseException) -> list[BaseException]:
    """The error with everything that it wraps: requests and urllib3 nest by cause, context, args and ``reason``."""
    found: list[BaseException] = []
    waiting: list[Any] = [error]
    while waiting:
        item = waiting.pop()
        if isinstance(item, BaseException) and item not in found:
            found.append(item)
            waiting += [item.__cause__, item.__context__, getattr(item, "reason", None), *item.args]
    return found


def _innermost(error: BaseException) -> BaseException:
    chain = _chain(error)
    tls = [item for item in chain if isinstance(item, ssl.SSLError)]
    return tls[0] if tls else chain[-1]


def _reason(error: ResourceException) -> str:
    """Proxmox's text: the HTTP reason phrase, which http.client reads as Latin-1 though it is UTF-8."""
    text = str(error.content or "").strip()
    try:
        return text.encode("latin-1").decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return text


def _is_html(body: bytes) -> bool:
    return body.lstrip()[:1] == b"<"


def _not_proxmox(host: str, what: str) -> str:
    return (
        f"{host} is no Proxmox VE API: it answered with {what}. Check the host and the port (8006), and that no "
        "login page or web server stands in front of it."
    )
