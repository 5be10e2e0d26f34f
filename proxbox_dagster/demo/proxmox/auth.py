"""Who asks: API tokens and tickets, as Proxmox's HTTP server takes them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from .errors import PveError

_TOKEN = re.compile(r"^PVEAPIToken[= ](?P<user>[^!\s]+)!(?P<token>[^=\s:]+)[=:](?P<value>\S+)$")
_COOKIE = re.compile(r"(?:^|;\s*)PVEAuthCookie=([^;]*)")
TICKET_LIFETIME = 2 * 3600


class Unauthenticated(Exception):
    """401 with an empty body; the text is the reason phrase."""


@dataclass
class Credentials:
    """One user with a password and one token. Tickets are valid for ``lifetime`` seconds."""

    user: str = "sync@pve"
    token_name: str = "netbox"
    token_value: str = field(default_factory=lambda: str(uuid.uuid4()))
    password: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    lifetime: float = TICKET_LIFETIME
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def authenticate(self, method: str, headers: Mapping[str, str]) -> str:
        """The user who asks. Raises Unauthenticated with Proxmox's reason phrase."""
        header = headers.get("Authorization", "")
        if header.startswith("PVEAPIToken"):
            found = _TOKEN.match(header)
            wanted = (self.user, self.token_name, self.token_value)
            if found and secrets.compare_digest("|".join(found.groups()).encode(), "|".join(wanted).encode()):
                return self.user
            raise Unauthenticated("Authentication failed!")
        cookie = _COOKIE.search(headers.get("Cookie", ""))
        if not cookie:
            raise Unauthenticated("No ticket")
        if not self._ticket_holds(unquote(cookie.group(1))):
            raise Unauthenticated("Authentication failed!")
        if method != "GET" and not self._csrf_holds(headers.get("CSRFPreventionToken", "")):
            raise Unauthenticated("Permission denied - invalid csrf token")
        return self.user

    def ticket(self, parameters: Mapping[str, str], cluster: str | None) -> dict[str, Any]:
        """The answer of POST /access/ticket. Raises PveError 401 for a wrong user or password, 400 without them."""
        absent = [name for name in ("username", "password") if not parameters.get(name)]
        missing = dict.fromkeys(absent, "property is missing and it is not optional\n")
        if missing:
            raise PveError(400, "Parameter verification failed.\n", missing)
        user = parameters["username"]
        if "@" not in user and parameters.get("realm"):
            user = f"{user}@{parameters['realm']}"
        password = parameters["password"]
        good = password == self.password or (password.startswith("PVE:") and self._ticket_holds(password))
        if user != self.user or not good:
            raise PveError(401, "authentication failure\n")
        stamp = f"{int(time.time()):08X}"
        answer = {
            "username": user,
            "ticket": f"PVE:{user}:{stamp}::{self._sign(f'PVE:{user}:{stamp}')}",
            "CSRFPreventionToken": f"{stamp}:{self._sign(f'CSRF:{stamp}')}",
            "cap": {"vms": {}, "storage": {}, "nodes": {}, "access": {}, "dc": {}, "sdn": {}, "mapping": {}},
        }
        return answer | ({"clustername": cluster} if cluster else {})

    def expire_tickets(self) -> None:
        """Every ticket that was given out is void from now on."""
        self._key = secrets.token_bytes(32)

    def _sign(self, text: str) -> str:
        return base64.b64encode(hmac.new(self._key, text.encode(), hashlib.sha256).digest()).decode().rstrip("=")

    def _ticket_holds(self, ticket: str) -> bool:
        found = re.match(r"^(PVE:(.+):([0-9A-F]{8}))::(.+)$", ticket)
        if not found or found.group(2) != self.user or not self._fresh(found.group(3)):
            return False
        return hmac.compare_digest(found.group(4).rstrip("="), self._sign(found.group(1)))

    def _csrf_holds(self, token: str) -> bool:
        stamp, _, signature = token.partition(":")
        return hmac.compare_digest(signature, self._sign(f"CSRF:{stamp}")) and self._fresh(stamp)

    def _fresh(self, stamp: str) -> bool:
        return -300 < time.time() - int(stamp, 16) < self.lifetime
