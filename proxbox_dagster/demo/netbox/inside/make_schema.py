"""Migrate an empty database and make the tests' admin and tokens; run inside NetBox's virtual environment.

The published secrets come as one JSON object on the first argument: ``user``, ``password``, ``v1`` (40 characters),
``v2_key`` (12 characters), ``v2_token`` (40 characters).
"""

from __future__ import annotations

import json
import os
import sys

import django
from django.contrib.postgres.operations import CollationOperation


def _without_icu() -> None:
    """Let migrations make their collations with the C library: the PostgreSQL from packages has no ICU.

    Only the order of names with numbers in them changes.
    """
    original = CollationOperation.__init__

    def patched(self: CollationOperation, name: str, locale: str, *, provider: str = "libc", **options: object) -> None:
        if provider == "icu":
            provider, locale = "libc", "C.UTF-8"
        original(self, name, locale, provider=provider, **options)

    CollationOperation.__init__ = patched


def main() -> None:
    secrets = json.loads(sys.argv[1])
    os.environ["DJANGO_SETTINGS_MODULE"] = "netbox.settings"
    _without_icu()
    django.setup()
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from users.models import Token

    call_command("migrate", interactive=False)
    admin = get_user_model().objects.create_superuser(secrets["user"], "admin@example.com", secrets["password"])
    Token(user=admin, version=1, token=secrets["v1"]).save()
    Token(user=admin, version=2, key=secrets["v2_key"], token=secrets["v2_token"]).save()


if __name__ == "__main__":
    main()
