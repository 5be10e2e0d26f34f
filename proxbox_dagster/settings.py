"""``proxbox.yaml`` (or the environment) as validated settings.

Two steps, so that the Dagster UI opens before any secret is set: :func:`load_settings` reads and validates the shape
and gives the partition names; :meth:`Settings.netbox_connection` and :meth:`Settings.endpoint` resolve the secrets of
what is about to be contacted, and raise :class:`SettingsError` naming the key when one is missing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, model_validator

CONFIG_FILE = "proxbox.yaml"
DEFAULT_ENDPOINT = "default"


class SettingsError(Exception):
    """The settings cannot be used; the message names the key, what is wrong and what to write instead."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Secret(_Strict):
    """Where a secret is found: ``{env: NAME}`` or ``{file: PATH}``; never the secret itself."""

    env: str | None = None
    file: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_plain_text(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError("a secret is never written into the file: use {env: NAME} or {file: PATH}")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Secret:
        if (self.env is None) == (self.file is None):
            raise ValueError("give exactly one of {env: NAME} and {file: PATH}")
        return self

    def resolve(self, key: str) -> SecretStr:
        """The secret's value. Raises :class:`SettingsError` when it is not set, not readable or empty."""
        if self.env is not None:
            text, place = os.environ.get(self.env, ""), f"the environment variable {self.env}"
        else:
            place = f"the file {self.file}"
            try:
                text = Path(str(self.file)).expanduser().read_text(encoding="utf-8")
            except OSError as error:
                raise SettingsError(f"{key}: {place} cannot be read ({error.strerror}).") from None
        if not text.strip():
            raise SettingsError(f"{key}: {place} is not set or empty; set it to the secret's value.")
        return SecretStr(text.strip())


def _verify(value: Any) -> Any:
    if isinstance(value, str) and value.strip().lower() in ("true", "false", "1", "0", "yes", "no"):
        return value.strip().lower() in ("true", "1", "yes")
    return value


def _switch(value: Any) -> Any:
    if isinstance(value, str) and value.lower() in ("on", "off"):
        return value.lower() == "on"
    return value


Verify = Annotated[bool | str, BeforeValidator(_verify)]
"""TLS verification: ``true``, ``false`` or the path of a CA file."""

Switch = Annotated[bool, BeforeValidator(_switch)]


class NetBoxConfig(_Strict):
    url: str = Field(pattern=r"^https?://", description="NetBox's address, with https:// and a path if it has one")
    token: Secret
    verify_ssl: Verify = True
    timeout: float = Field(60.0, gt=0, description="seconds to wait for one answer")
    retry_budget: float = Field(180.0, ge=0, description="seconds that one request may spend on retries")
    bulk_size: int = Field(75, ge=1, le=500, description="rows in one write request")


class EndpointConfig(_Strict):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    hosts: tuple[str, ...] = Field(min_length=1)
    port: int = Field(8006, ge=1, le=65535)
    user: str = Field(pattern=r"^[^@\s]+@[^@\s!]+$", description="with its realm: netbox@pve")
    token_name: str | None = None
    token_value: Secret | None = None
    password: Secret | None = None
    verify_ssl: Verify = True
    timeout: float = Field(30.0, gt=3.0, description="seconds; more than the 3 that Proxmox delays a refusal")
    retry_budget: float = Field(60.0, ge=0)
    site: str | None = Field(None, description="slug of the NetBox site of the nodes; made from the name if missing")
    cluster: str | None = Field(None, description="the NetBox cluster's name, when it is not Proxmox's own")

    @model_validator(mode="after")
    def _one_way_in(self) -> EndpointConfig:
        token = self.token_name is not None or self.token_value is not None
        if token and (self.token_name is None or self.token_value is None):
            raise ValueError("a token needs both token_name and token_value")
        if token == (self.password is not None):
            raise ValueError("give either token_name and token_value, or password")
        return self


RemovalMode = Literal["ignore", "mark", "delete"]


class RemovalConfig(_Strict):
    """What happens to objects of ours whose source is proved gone."""

    default: RemovalMode = "mark"
    classes: dict[str, RemovalMode] = Field(default_factory=dict, description="object class to mode")
    grace_days: float = Field(7.0, ge=0, description="days between the first proof of absence and the deletion")
    confirmations: int = Field(3, ge=1, description="complete reads that must agree before the deletion")


class BrakeConfig(_Strict):
    """A run that would mark or delete more than this of one class stops its removals."""

    percent: float = Field(10.0, ge=0, le=100)
    objects: int = Field(25, ge=0)
    minimum: int = Field(3, ge=0, description="up to this many, the percentage does not count")


class AddressConfig(_Strict):
    """Which addresses that a guest reports are taken into NetBox."""

    ignore_interfaces: tuple[str, ...] = Field(
        (
            "lo",
            "docker*",
            "br-*",
            "veth*",
            "cali*",
            "cni*",
            "flannel*",
            "virbr*",
            "tunl*",
            "kube-*",
            "lxdbr*",
            "podman*",
        ),
        description="guest interface names (shell patterns) whose addresses are container noise",
    )
    ignore_networks: tuple[str, ...] = Field(
        ("127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10"), description="networks left out"
    )
    primary_preference: tuple[str, ...] = Field(
        (), description="networks whose addresses are preferred as primary, best first"
    )
    interface_names: Literal["config", "agent"] = Field(
        "config", description="config: net0 or the container's name; agent: the name inside the guest"
    )


class ConcurrencyConfig(_Strict):
    """The sync pipeline's seven limits; each is also an environment variable of the name given."""

    vm_sync_max_concurrency: int = Field(8, ge=1, le=64, description="PROXBOX_VM_SYNC_MAX_CONCURRENCY")
    fetch_max_concurrency: int = Field(8, ge=1, le=64, description="PROXBOX_FETCH_MAX_CONCURRENCY")
    netbox_write_concurrency: int = Field(8, ge=1, le=64, description="PROXBOX_NETBOX_WRITE_CONCURRENCY")
    proxmox_fetch_concurrency: int = Field(8, ge=1, le=64, description="PROXBOX_PROXMOX_FETCH_CONCURRENCY")
    backup_batch_size: int = Field(5, ge=1, description="PROXBOX_BACKUP_BATCH_SIZE")
    backup_batch_delay_ms: int = Field(200, ge=0, description="PROXBOX_BACKUP_BATCH_DELAY_MS")
    netbox_max_concurrent: int = Field(1, ge=1, le=32, description="PROXBOX_NETBOX_MAX_CONCURRENT")

    @model_validator(mode="before")
    @classmethod
    def _from_environment(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        filled = dict(value)
        for name in cls.model_fields:
            text = os.environ.get(f"PROXBOX_{name.upper()}")
            if text and name not in filled:
                filled[name] = text
        return filled


class ScheduleConfig(_Strict):
    """When Dagster runs by itself, once its schedules and sensors are switched on in the UI."""

    full_update: str = Field("0 3 * * *", description="cron, UTC: the whole pipeline")
    quick: str = Field("*/15 * * * *", description="cron, UTC: guests, interfaces and addresses")
    fresh_hours: float = Field(26.0, gt=0, description="an object class not synced for this long is shown as overdue")
    observe_seconds: int = Field(300, ge=30, description="pause between two looks at the sources")


class SettingsFile(_Strict):
    """The keys of ``proxbox.yaml``."""

    netbox: NetBoxConfig
    endpoints: tuple[EndpointConfig, ...] = Field(min_length=1)
    plugin: Switch = Field(True, description="off: only NetBox's own models are written, none of netbox-proxbox")
    on_stage_failure: Literal["abort", "continue"] = "abort"
    adopt: Literal["never", "tagged", "by_name"] = "never"
    removal: RemovalConfig = RemovalConfig()
    brake: BrakeConfig = BrakeConfig()
    fields: dict[str, dict[str, Literal["always", "managed", "fill_if_empty", "create_only", "never"]]] = Field(
        default_factory=dict, description="object class to field to policy"
    )
    addresses: AddressConfig = AddressConfig()
    concurrency: ConcurrencyConfig = Field(default_factory=lambda: ConcurrencyConfig.model_validate({}))
    schedules: ScheduleConfig = ScheduleConfig()
    owners: tuple[str, ...] = Field((), description="Dagster owners of the assets: mail addresses or team:NAME")
    failure_webhook: str | None = None

    @model_validator(mode="after")
    def _unique(self) -> SettingsFile:
        for key, values in (
            ("name", [e.name for e in self.endpoints]),
            ("cluster", [e.cluster for e in self.endpoints if e.cluster]),
        ):
            double = sorted({value for value in values if values.count(value) > 1})
            if double:
                raise ValueError(f"endpoints: {key} {double[0]!r} is used twice; each endpoint needs its own")
        return self


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
            token=netbox.token.resolve("netbox.token"),
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
            token_value=config.token_value.resolve(f"{key}.token_value") if config.token_value else None,
            password=config.password.resolve(f"{key}.password") if config.password else None,
            verify_ssl=_readable_ca(config.verify_ssl, f"{key}.verify_ssl"),
            timeout=config.timeout,
            retry_budget=config.retry_budget,
            site=config.site,
            cluster=config.cluster,
        )


def _readable_ca(value: bool | str, key: str) -> bool | str:
    if isinstance(value, str) and not Path(value).expanduser().is_file():
        raise SettingsError(f"{key}: the CA file {value} does not exist; give true, false or the path of a CA file.")
    return str(Path(value).expanduser()) if isinstance(value, str) else value


def find_config() -> Path | None:
    """The settings file: ``PROXBOX_CONFIG``, else the working directory's, else ``$DAGSTER_HOME``'s.

    Raises :class:`SettingsError` when ``PROXBOX_CONFIG`` names a file that does not exist.
    """
    named = os.environ.get("PROXBOX_CONFIG")
    if named:
        if not Path(named).expanduser().is_file():
            raise SettingsError(f"PROXBOX_CONFIG names {named}, which is no file.")
        return Path(named).expanduser()
    homes = [Path.cwd()] + ([Path(home)] if (home := os.environ.get("DAGSTER_HOME")) else [])
    return next((folder / CONFIG_FILE for folder in homes if (folder / CONFIG_FILE).is_file()), None)


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
        raise SettingsError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise SettingsError(f"{path} is empty or no mapping; it needs the keys netbox and endpoints.")
    return Settings(_validated(data, str(path)), str(path))


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
        lines = "; ".join(_error_line(entry, data) for entry in error.errors(include_url=False, include_input=False))
        raise SettingsError(f"{source}: {lines}") from None


def _error_line(entry: Any, data: Mapping[str, Any]) -> str:
    place = ".".join(_place(entry["loc"], data))
    if entry["type"] == "extra_forbidden":
        return f"{place}: unknown key; see docs/configuration.md for the keys there are"
    if entry["type"] == "missing":
        return f"{place}: missing"
    message = re.sub(r"^Value error, ", "", entry["msg"])
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
