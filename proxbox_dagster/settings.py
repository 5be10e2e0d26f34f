"""``proxbox.yaml`` (or the environment) as validated settings.

Two steps, so that the Dagster UI opens before any secret is set: :func:`load_settings` reads and validates the shape
and gives the partition names; :meth:`Settings.netbox_connection` and :meth:`Settings.endpoint` resolve the secrets of
what is about to be contacted, and raise :class:`SettingsError` naming the key when one is missing.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import SecretStr, ValidationError

from proxbox_dagster.hosts import host_and_port
from proxbox_dagster.settings_file import (
    AddressConfig,
    BrakeConfig,
    ConcurrencyConfig,
    EndpointConfig,
    RemovalConfig,
    ScheduleConfig,
    Secret,
    SettingsError,
    SettingsFile,
)

CONFIG_FILE = "proxbox.yaml"
DEFAULT_ENDPOINT = "default"

__all__ = [
    "AddressConfig",
    "BrakeConfig",
    "ConcurrencyConfig",
    "EndpointConfig",
    "EndpointSettings",
    "NetBoxConnection",
    "RemovalConfig",
    "ScheduleConfig",
    "Secret",
    "Settings",
    "SettingsError",
    "SettingsFile",
    "find_config",
    "load_settings",
]


@dataclass(frozen=True)
class NetBoxConnection:
    """NetBox with its secrets resolved. Times in seconds."""

    url: str
    token: SecretStr
    verify_ssl: bool | str
    timeout: float
    retry_budget: float
    bulk_size: int
    max_connections: int


@dataclass(frozen=True)
class EndpointSettings:
    """One Proxmox endpoint with its secrets resolved. Times in seconds."""

    name: str
    hosts: tuple[str, ...]
    port: int
    user: str
    token_name: str | None
    token_value: SecretStr | None
    password: SecretStr | None
    verify_ssl: bool | str
    timeout: float = 30.0
    retry_budget: float = 60.0
    site: str | None = None
    cluster: str | None = None

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """The hosts with their ports."""
        return tuple(host_and_port(host, self.port) for host in self.hosts)


@dataclass(frozen=True)
class Settings:
    """The validated settings, or what is missing of them.

    ``problem`` is set when nothing is configured at all: definitions still load, with one partition ``default``,
    and :meth:`require` raises it when a run starts.
    """

    file: SettingsFile | None
    source: str
    problem: str | None = None

    @property
    def endpoint_names(self) -> list[str]:
        return [e.name for e in self.file.endpoints] if self.file else [DEFAULT_ENDPOINT]

    def require(self) -> SettingsFile:
        """The settings. Raises :class:`SettingsError` when nothing is configured."""
        if self.file is None:
            raise SettingsError(self.problem or "nothing is configured.")
        return self.file

    def netbox_connection(self) -> NetBoxConnection:
        """NetBox's address and token. Raises :class:`SettingsError` when the token is missing."""
        file = self.require()
        netbox = file.netbox
        return NetBoxConnection(
            url=netbox.url.rstrip("/"),
            token=netbox.token.resolve("netbox.token", header=True),
            verify_ssl=_readable_ca(netbox.verify_ssl, "netbox.verify_ssl"),
            timeout=netbox.timeout,
            retry_budget=netbox.retry_budget,
            bulk_size=netbox.bulk_size,
            max_connections=file.concurrency.netbox_max_concurrent,
        )

    def endpoint(self, name: str) -> EndpointSettings:
        """One endpoint's connection. Raises :class:`SettingsError` for an unknown name or a missing secret."""
        found = [e for e in self.require().endpoints if e.name == name]
        if not found:
            known = ", ".join(self.endpoint_names)
            raise SettingsError(f"endpoint {name!r} is not configured in {self.source}; configured are: {known}.")
        config, key = found[0], f"endpoints.{name}"
        return EndpointSettings(
            name=name,
            hosts=config.hosts,
            port=config.port,
            user=config.user,
            token_name=config.token_name,
            token_value=config.token_value.resolve(f"{key}.token_value", header=True) if config.token_value else None,
            password=config.password.resolve(f"{key}.password") if config.password else None,
            verify_ssl=_readable_ca(config.verify_ssl, f"{key}.verify_ssl"),
            timeout=config.timeout,
            retry_budget=config.retry_budget,
            site=config.site,
            cluster=config.cluster,
        )


def _readable_ca(value: bool | str, key: str) -> bool | str:
    """A file that is no CA file would else be told as a server that does not speak TLS."""
    if isinstance(value, bool):
        return value
    path = Path(value).expanduser()
    if not _is_file(path):
        raise SettingsError(f"{key}: the CA file {value} does not exist; give true, false or the path of a CA file.")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        raise SettingsError(f"{key}: the file {value} holds no certificates in PEM form.") from None
    except OSError as error:
        raise SettingsError(f"{key}: the CA file {value} cannot be read ({error.strerror}).") from None
    return str(path)


def _is_file(path: Path) -> bool:
    """Unlike pathlib's own, not an error where a folder above may not be looked into."""
    return os.path.isfile(path.expanduser())


def find_config() -> Path | None:
    """The settings file: ``PROXBOX_CONFIG``, else the working directory's, else ``$DAGSTER_HOME``'s.

    Raises :class:`SettingsError` when ``PROXBOX_CONFIG`` names a file that does not exist.
    """
    named = os.environ.get("PROXBOX_CONFIG")
    if named:
        if not _is_file(Path(named)):
            raise SettingsError(f"PROXBOX_CONFIG names {named}, which is no file, or none that this user can see.")
        return Path(named).expanduser()
    homes = [Path.cwd()] + ([Path(home)] if (home := os.environ.get("DAGSTER_HOME")) else [])
    return next((folder / CONFIG_FILE for folder in homes if _is_file(folder / CONFIG_FILE)), None)


def load_settings(path: Path | None = None) -> Settings:
    """Read and validate the settings without resolving a secret.

    Raises :class:`SettingsError` for a file that is no YAML, an unknown key, a wrong value or a double name.
    """
    path = path or find_config()
    if path is None:
        return _from_environment()
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_NoDoubleKeys)
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not valid YAML: {_yaml_problem(error)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise SettingsError(f"{path} is empty or no mapping; it needs the keys netbox and endpoints.")
    return Settings(_validated(data, str(path)), str(path))


def _yaml_problem(error: yaml.YAMLError) -> str:
    """Where and what, without the line itself: a secret that has no business there might stand in it."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark and problem else type(error).__name__


class _NoDoubleKeys(yaml.SafeLoader):
    """YAML says that keys are unique, PyYAML keeps the last one: a silently lost endpoint."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _validated(data: Mapping[str, Any], source: str) -> SettingsFile:
    try:
        return SettingsFile.model_validate(data)
    except ValidationError as error:
        raise SettingsError(f"{source}: {problems_of(error, data)}") from None


def problems_of(error: ValidationError, data: Mapping[str, Any]) -> str:
    """What is wrong with ``data``, key by key, in one line without any value of a secret."""
    found = error.errors(include_url=False, include_input=False)
    return "; ".join(_error_line(entry, data) for entry in found if not _follows(entry, found))


def _follows(entry: Any, found: Iterable[Any]) -> bool:
    """Whether an error is the consequence of another: a list whose items are wrong counts as too short."""
    place = entry["loc"]
    below = (other["loc"] for other in found if len(other["loc"]) > len(place))
    return entry["type"] == "too_short" and any(other[: len(place)] == place for other in below)


_SAID = {
    "extra_forbidden": "unknown key; see docs/configuration.md for the keys there are",
    "missing": "missing",
    "tuple_type": "a list is needed, such as [one, two]",
    "too_short": "at least one is needed",
    "model_type": "keys with their values are needed; see docs/configuration.md",
    "dict_type": "keys with their values are needed; see docs/configuration.md",
}
"""pydantic's types of errors in the words of a settings file, where its own are those of Python."""


def _error_line(entry: Any, data: Mapping[str, Any]) -> str:
    location = entry["loc"]
    place = ".".join(_place(location, data))
    message = _SAID.get(entry["type"]) or re.sub(r"^Value error, ", "", entry["msg"])
    value: Any = data
    for step in location:
        value = _step_into(value, step)
    if location[:1] == ("concurrency",) and len(location) > 1 and value is None:
        message += f" (the environment variable PROXBOX_{str(location[1]).upper()})"
    elif value is None and entry["type"] in ("model_type", "dict_type", "tuple_type"):
        message = "no value; leave the key out, or write what belongs to it"
    return f"{place}: {message}" if place else message


def _place(location: Iterable[int | str], data: Any) -> list[str]:
    """The keys to a value, with an endpoint's name in place of its index where it has one."""
    words: list[str] = []
    for step in location:
        data = _step_into(data, step)
        named = isinstance(step, int) and isinstance(data, Mapping) and isinstance(data.get("name"), str)
        words.append(str(data["name"]) if named else str(step))
    return [word for word in words if word not in ("bool", "str", "constrained-str")]


def _step_into(data: Any, step: int | str) -> Any:
    try:
        return data[step]
    except (KeyError, IndexError, TypeError):
        return None


def _from_environment() -> Settings:
    needed = ("PROXMOX_HOST", "PROXMOX_USER", "NETBOX_URL")
    missing = [name for name in needed if not os.environ.get(name)]
    if missing:
        return Settings(
            None,
            "the environment",
            f"no settings: there is no {CONFIG_FILE} (looked in PROXBOX_CONFIG, the working directory and "
            f"$DAGSTER_HOME), and without one the environment must set {', '.join(missing)} "
            "(and PROXMOX_TOKEN_NAME with PROXMOX_TOKEN_VALUE, or PROXMOX_PASSWORD; and NETBOX_TOKEN). "
            "See docs/configuration.md.",
        )
    endpoint: dict[str, Any] = {
        "name": os.environ.get("PROXMOX_ENDPOINT") or DEFAULT_ENDPOINT,
        "hosts": [host.strip() for host in os.environ["PROXMOX_HOST"].split(",") if host.strip()],
        "user": os.environ["PROXMOX_USER"],
        "verify_ssl": os.environ.get("PROXMOX_VERIFY_SSL") or True,
    }
    if os.environ.get("PROXMOX_PORT"):
        endpoint["port"] = os.environ["PROXMOX_PORT"]
    if os.environ.get("PROXMOX_PASSWORD") and not os.environ.get("PROXMOX_TOKEN_NAME"):
        endpoint["password"] = {"env": "PROXMOX_PASSWORD"}
    else:
        endpoint["token_name"] = os.environ.get("PROXMOX_TOKEN_NAME")
        endpoint["token_value"] = {"env": "PROXMOX_TOKEN_VALUE"}
    netbox = {
        "url": os.environ["NETBOX_URL"],
        "token": {"env": "NETBOX_TOKEN"},
        "verify_ssl": os.environ.get("NETBOX_VERIFY_SSL") or True,
    }
    data = {"netbox": netbox, "endpoints": [endpoint]}
    if not endpoint.get("token_name", True):
        raise SettingsError("PROXMOX_TOKEN_NAME is not set (nor PROXMOX_PASSWORD): set one of the two ways to log in.")
    return Settings(_validated(data, "the environment"), "the environment")
