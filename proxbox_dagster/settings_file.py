"""The keys of ``proxbox.yaml``, as pydantic models: types, defaults, and what is refused."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)

from proxbox_dagster.hosts import HIGHEST_PORT, host_and_port


class SettingsError(Exception):
    """The settings cannot be used; the message names the key, what is wrong and what to write instead."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _like(pattern: str, problem: str) -> AfterValidator:
    """Text of this pattern; ``problem`` is what the operator is told of any other."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(problem)
        return value

    return AfterValidator(check)


class Secret(_Strict):
    """Where a secret is found: ``{env: NAME}`` or ``{file: PATH}``; never the secret itself."""

    env: Annotated[str, _like(r"[A-Za-z_]\w*", "the name of a variable, not what it holds")] | None = None
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

    def resolve(self, key: str, *, header: bool = False) -> SecretStr:
        """The secret's value. Raises :class:`SettingsError` when it is not set, not readable, empty or no secret.

        ``header``: it is sent as an HTTP header, which takes no letters beyond ASCII.
        """
        if self.env is not None:
            text, place = os.environ.get(self.env, ""), f"the environment variable {self.env}"
        else:
            place = f"the file {self.file}"
            try:
                text = Path(str(self.file)).expanduser().read_text(encoding="utf-8")
            except OSError as error:
                raise SettingsError(f"{key}: {place} cannot be read ({error.strerror}).") from None
            except UnicodeDecodeError:
                raise SettingsError(f"{key}: {place} is no text; it must hold the secret alone.") from None
        if not text.strip():
            raise SettingsError(f"{key}: {place} is not set or empty; set it to the secret's value.")
        if not text.strip().isprintable() or (header and not text.strip().isascii()):
            # As an HTTP header it would be refused by an error that shows it, and so stand in logs.
            raise SettingsError(f"{key}: {place} is not one line of plain characters; it must hold the secret alone.")
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


def _network(value: str) -> str:
    try:
        ipaddress.ip_network(value)
    except ValueError as error:
        raise ValueError(f"no network such as 192.0.2.0/24 or 2001:db8::/32: {error}") from None
    return value


Network = Annotated[str, AfterValidator(_network)]


def _host(value: str) -> str:
    host_and_port(value, HIGHEST_PORT)
    return value


Host = Annotated[str, AfterValidator(_host)]


def _cron(value: str) -> str:
    import dagster as dg  # it takes seconds to import: only who sets a schedule waits for it

    try:
        dg.ScheduleDefinition(name="any", job_name="any", cron_schedule=value)
    except dg.DagsterInvalidDefinitionError:
        raise ValueError(f"{value!r} is no cron expression of five fields such as '0 3 * * *'") from None
    return value


Cron = Annotated[str, AfterValidator(_cron)]


def _http_address(value: str) -> str:
    if not re.fullmatch(r"https?://\S+", value):
        raise ValueError("no address such as https://example.org/path")
    return value


HttpAddress = Annotated[str, AfterValidator(_http_address)]

Owner = Annotated[
    str, _like(r"team:.+|[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}", "no mail address, and no team:NAME")
]
"""What Dagster takes for one."""


class Webhook(Secret):
    """An address, as it is or as a secret: whoever knows it can post to it."""

    address: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_plain_text(cls, value: Any) -> Any:
        return {"address": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_source(self) -> Webhook:
        if [self.env, self.file, self.address].count(None) != 2:
            raise ValueError("give an address, or exactly one of {env: NAME} and {file: PATH}")
        if self.address is not None:
            _http_address(self.address)
        return self

    def resolve(self, key: str, *, header: bool = False) -> SecretStr:
        return SecretStr(self.address) if self.address else super().resolve(key, header=header)


class NetBoxConfig(_Strict):
    url: Annotated[str, _like(r"https?://[^/\s@]+(/\S*)?", "no address such as https://netbox.example.org")] = Field(
        description="NetBox's address, with https:// and a path if it has one"
    )
    token: Secret
    verify_ssl: Verify = True
    timeout: float = Field(60.0, gt=0, description="seconds to wait for one answer")
    retry_budget: float = Field(180.0, ge=0, description="seconds that one request may spend on retries")
    bulk_size: int = Field(75, ge=1, le=500, description="rows in one write request")


class EndpointConfig(_Strict):
    name: Annotated[
        str,
        _like(r"[A-Za-z0-9][A-Za-z0-9._-]*", "letters, digits, '.', '_' and '-', a letter or digit first"),
    ] = Field(max_length=100)
    hosts: tuple[Host, ...] = Field(min_length=1)
    port: int = Field(8006, ge=1, le=65535)
    user: Annotated[str, _like(r"[^@\s]+@[^@\s!]+", "no user with its realm, such as netbox@pve")] = Field(
        description="with its realm: netbox@pve"
    )
    token_name: Annotated[str, _like(r"[^=\s]+", "the token's name alone; what it holds is token_value")] | None = None
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
    ignore_networks: tuple[Network, ...] = Field(
        ("127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10"), description="networks left out"
    )
    primary_preference: tuple[Network, ...] = Field(
        (), description="networks whose addresses are preferred as primary, best first"
    )
    interface_names: Literal["config", "agent"] = Field(
        "config", description="config: net0 or the container's name; agent: the name inside the guest"
    )


class ConcurrencyConfig(_Strict):
    """The sync pipeline's seven limits; each is also an environment variable of the name given.

    ``backup_batch_size`` is the number of storages whose backups are listed at once, ``backup_batch_delay_ms`` the
    pause between two such batches: listing a large backup storage is heavy on it.
    """

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

    full_update: Cron = Field("0 3 * * *", description="cron, UTC: the whole pipeline")
    quick: Cron = Field("*/15 * * * *", description="cron, UTC: guests, interfaces and addresses")
    fresh_hours: float = Field(26.0, gt=0, description="an object class not synced for this long is shown as overdue")
    observe_seconds: int = Field(300, ge=30, description="pause between two looks at the sources")
    observe: Literal["cluster", "nodes", "guests"] = Field(
        "nodes", description="what a look reads: lists of the cluster, also those of each node, or also each guest"
    )


def _no_secret(value: str) -> str:
    if re.search(r"//[^/@]*:[^/@]*@", value):
        raise ValueError("the path is shown in the UI: leave user and password to the environment")
    return value


Folder = Annotated[str, AfterValidator(_no_secret)]
"""A folder's path, or an fsspec URL such as ``s3://bucket/folder``."""


class ReportsConfig(_Strict):
    """Where the full list of what each run changed is kept."""

    path: Folder | None = Field(None, description="a folder or an fsspec URL; without it below the instance's storage")
    keep: int = Field(50, ge=0, description="runs of each endpoint whose lists are kept; 0: none is written")


class SnapshotsConfig(_Strict):
    """Where what runs have read of Proxmox is kept."""

    path: Folder | None = Field(None, description="a folder or an fsspec URL; without it nothing is kept")
    keep: int = Field(20, ge=1, description="contents of each source and endpoint that are kept, the newest")


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
    reports: ReportsConfig = ReportsConfig()
    snapshots: SnapshotsConfig = SnapshotsConfig()
    docs_url: HttpAddress | None = Field(
        None, description="where the folder docs of this project can be read; linked in the UI"
    )
    owners: tuple[Owner, ...] = Field((), description="Dagster owners of the assets: mail addresses or team:NAME")
    failure_webhook: Webhook | None = Field(None, description="where failed runs are posted to, as JSON")

    @model_validator(mode="before")
    @classmethod
    def _limits_of_the_environment(cls, value: Any) -> Any:
        """They count without the key too, and what is wrong with them is told under it."""
        return {"concurrency": {}, **value} if isinstance(value, Mapping) else value

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
