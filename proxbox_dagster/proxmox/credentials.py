"""How a client logs in, in whatever form the operator pasted it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..settings import EndpointSettings

_PREFIX = "PVEAPIToken="


@dataclass(frozen=True, slots=True)
class Credentials:
    """User with realm, and either the token's name and value or the password. Secrets do not show in ``repr``."""

    user: str
    token_name: str | None
    token_value: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, endpoint: EndpointSettings) -> Credentials:
        """The credentials of an endpoint. A token name may be given as ``name``, ``user@realm!name`` or with the
        whole ``PVEAPIToken=user@realm!name=value`` around it; so may the value."""
        user, name = endpoint.user, endpoint.token_name
        value = endpoint.token_value.get_secret_value() if endpoint.token_value else None
        if name is not None and value is not None:
            owner, separator, rest = name.removeprefix(_PREFIX).rpartition("!")
            name = rest.partition("=")[0]
            user = owner if separator and owner else user
            # A token's value is a UUID: nothing of it is lost at the last "=".
            value = value.rpartition("=")[2] if "!" in value else value
            return cls(user, name, value)
        return cls(user, None, None, endpoint.password.get_secret_value() if endpoint.password else None)

    @property
    def who(self) -> str:
        """Who logs in, for messages: the token's id or the user; never a secret."""
        return f"API token {self.user}!{self.token_name}" if self.token_name else f"user {self.user}"
