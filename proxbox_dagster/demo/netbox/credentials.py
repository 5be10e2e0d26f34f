"""NetBox's secrets: the ones that the dump holds, for tests, or new ones for a NetBox that outlives a test."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import string
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg

_ALPHABET = string.ascii_letters + string.digits
# Django re-hashes with its own, higher count when the user logs in.
_ITERATIONS = 300_000

Permissions = Sequence[tuple[Sequence[str], Sequence[str]]]


def _word(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


@dataclass(frozen=True)
class Credentials:
    """What NetBox's configuration and its first user are made of. ``repr`` shows none of it."""

    admin_user: str = "admin"
    admin_password: str = field(default="Admin-Admin-123", repr=False)
    token: str = field(default="nbt_testkey00001.testplaintext0123456789abcdef0123456789a", repr=False)
    secret_key: str = field(default="test-only-secret-" + "x" * 60, repr=False)
    pepper: str = field(default="test-only-pepper-" + "x" * 60, repr=False)

    @classmethod
    def fresh(cls) -> Credentials:
        """New ones; :meth:`apply` puts them into a database."""
        return cls("admin", _word(20), f"nbt_{_word(12)}.{_word(40)}", _word(64), _word(64))

    @classmethod
    def kept(cls, path: Path) -> Credentials | None:
        """Those that :meth:`keep` wrote, None if there are none."""
        return cls(**json.loads(path.read_text())) if path.exists() else None

    def keep(self, path: Path) -> None:
        """Write them to a file that only its owner may read."""
        path.touch(mode=0o600)
        path.write_text(json.dumps(asdict(self)))

    def apply(self, connection: psycopg.Connection[Any]) -> None:
        """Make them the only way into a NetBox database: the admin's password and one token."""
        user = connection.execute(
            "update users_user set password = %s where username = %s returning id",
            (_password_hash(self.admin_password), self.admin_user),
        ).fetchone()
        assert user is not None, f"the dump has the user {self.admin_user}"
        connection.execute("delete from users_token")
        self._store(connection, self.token, user[0], write_enabled=True)

    def make_token(
        self,
        connection: psycopg.Connection[Any],
        username: str,
        *,
        superuser: bool,
        permissions: Permissions,
        write_enabled: bool,
    ) -> str:
        """A token of a user, who is made if missing, as NetBox's ORM would write them: some 5 ms. Returns the token.

        ``permissions`` are added to the user's: each ``(actions, ["app.model", ...])`` becomes one object permission.
        Raises ``ValueError`` for a model that NetBox does not have.
        """
        row = connection.execute("select id from users_user where username = %s", (username,)).fetchone()
        if row is None:
            row = connection.execute(
                "insert into users_user (password, is_superuser, username, first_name, last_name, email, is_active,"
                " date_joined) values ('!', %s, %s, '', '', '', true, now()) returning id",
                (superuser, username),
            ).fetchone()
        assert row is not None
        for number, (actions, models) in enumerate(permissions, start=1):
            _permit(connection, row[0], f"{username} {number}", actions, models)
        token = f"nbt_{_word(12)}.{_word(40)}"
        self._store(connection, token, row[0], write_enabled=write_enabled)
        return token

    def _store(self, connection: psycopg.Connection[Any], token: str, user: int, *, write_enabled: bool) -> None:
        key, _, plaintext = token.removeprefix("nbt_").partition(".")
        # NetBox keeps HMAC-SHA256 of the part behind the point, under the pepper (users/models/tokens.py).
        digest = hmac.new(self.pepper.encode(), plaintext.encode(), hashlib.sha256).hexdigest()
        connection.execute(
            "insert into users_token (created, write_enabled, description, user_id, enabled, version, key, pepper_id,"
            " hmac_digest) values (now(), %s, '', %s, true, 2, %s, 1, %s)",
            (write_enabled, user, key, digest),
        )


def _permit(
    connection: psycopg.Connection[Any], user: int, name: str, actions: Sequence[str], models: Sequence[str]
) -> None:
    row = connection.execute(
        "insert into users_objectpermission (name, description, enabled, actions) values (%s, '', true, %s)"
        " returning id",
        (name, list(actions)),
    ).fetchone()
    assert row is not None
    connection.execute(
        "insert into users_user_object_permissions (objectpermission_id, user_id) values (%s, %s)", (row[0], user)
    )
    for model in models:
        app, _, label = model.partition(".")
        added = connection.execute(
            "insert into users_objectpermission_object_types (objectpermission_id, contenttype_id)"
            " select %s, id from django_content_type where app_label = %s and model = %s",
            (row[0], app, label.lower()),
        )
        if added.rowcount != 1:
            raise ValueError(f"NetBox has no model {model!r}; name it as app.model, for example dcim.device.")


def _password_hash(password: str) -> str:
    """Django's ``pbkdf2_sha256`` form of a password."""
    salt = _word(22)
    digest = hashlib.pbkdf2_hmac("sha256", password.encode(), salt.encode(), _ITERATIONS)
    return f"pbkdf2_sha256${_ITERATIONS}${salt}${base64.b64encode(digest).decode()}"
