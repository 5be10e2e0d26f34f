"""The log-in with a password."""

from __future__ import annotations

import time
from typing import Any

import requests
from proxmoxer.backends.https import ProxmoxHTTPAuth
from proxmoxer.core import AuthenticationError


class TicketAuth(ProxmoxHTTPAuth):
    """Proxmoxer's, but for redirects: that one would hand the password to wherever they lead."""

    pve_auth_ticket: str

    def _get_new_tokens(self, password: str | None = None, otp: Any = None, otptype: Any = None) -> None:
        """A ticket for the password, or for the ticket there is.

        Raises :class:`AuthenticationError` naming the status, or ``TFA`` where a second factor is asked for, and
        :class:`requests.exceptions.RequestException`.
        """
        response = requests.post(
            f"{self.base_url}/access/ticket",
            data={"username": self.username, "password": self.pve_auth_ticket if password is None else password},
            verify=self.verify_ssl,
            timeout=self.timeout,
            cert=self.cert,
            proxies=self.proxies,
            allow_redirects=False,
        )
        if response.is_redirect:
            raise requests.exceptions.TooManyRedirects("the log-in is redirected")
        if response.status_code != 200:
            raise AuthenticationError(f"the log-in was refused, code: {response.status_code}")
        answer = response.json()["data"]
        if answer.get("NeedTFA") is not None:
            raise AuthenticationError("a second factor (TFA) is asked for")
        self.birth_time = time.monotonic()
        self.pve_auth_ticket = answer["ticket"]
        self.csrf_prevention_token = answer["CSRFPreventionToken"]
