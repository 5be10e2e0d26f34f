"""A person who is logged in to NetBox, without a browser: pages by HTTP, as the login form's session sees them."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import requests

_TABS = re.compile(r'<ul class="nav nav-tabs[^"]*".*?</ul>', re.DOTALL)
_LINK = re.compile(r'href="([^"#]+)"')
_TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')
_BROKEN = ("Server Error", "Traceback (most recent call last)")


class Person:
    """Logs in through Django's form, with its CSRF token."""

    def __init__(self, netbox: Any) -> None:
        self.url = netbox.url.rstrip("/")
        self.session = requests.Session()
        form = self.session.get(f"{self.url}/login/", timeout=60)
        token = _TOKEN.search(form.text)
        assert token, form.text[:500]
        answer = self.session.post(
            f"{self.url}/login/",
            {
                "username": netbox.admin_user,
                "password": netbox.admin_password,
                "csrfmiddlewaretoken": token[1],
                "next": "/",
            },
            headers={"Referer": f"{self.url}/login/"},
            timeout=60,
        )
        assert answer.ok
        assert "/login/" not in answer.url, "the login was refused"

    def __enter__(self) -> Person:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def problem(self, path: str) -> str | None:
        """What is wrong with a page; ``None`` for one that opens."""
        self.page = self.session.get(f"{self.url}{path}", timeout=120)
        if self.page.status_code != 200:
            return f"{path}: status {self.page.status_code}"
        if "/login/" in self.page.url:
            return f"{path}: asks for a login"
        broken = [text for text in _BROKEN if text in self.page.text]
        return f"{path}: shows {broken[0]!r}" if broken else None

    def tabs(self, path: str) -> list[str]:
        """The tabs of the page that was opened last, other than itself."""
        found = _TABS.search(self.page.text)
        links = [unescape(link).split("?")[0] for link in _LINK.findall(found[0])] if found else []
        return [link for link in dict.fromkeys(links) if link.startswith(path) and link != path]
