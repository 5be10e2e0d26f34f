"""What a stage is: its place in the pipeline, its sources, its object classes, and its pure mapping."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from proxbox_dagster.facts import Fetched
from proxbox_dagster.netbox.spec import Desired, ObjectClass, Ref
from proxbox_dagster.scope import Scope
from proxbox_dagster.settings import AddressConfig

Placed = Callable[[Ref], str | None]
"""The slug of the site in which NetBox has a row; ``None`` where it has neither."""


def nowhere(_ref: Ref) -> str | None:
    """As long as NetBox has nothing."""
    return None


@dataclass(frozen=True)
class StageContext:
    """What a mapping may know besides its sources; all of it from the settings, but for where people put the cluster.

    ``host`` and ``port`` are the endpoint's first host, for links into Proxmox's UI. ``owned_models`` are the NetBox
    models that carry our custom fields. ``site`` is the settings', ``netbox_site`` the one in which NetBox has the
    cluster, ``placed`` tells that of a device or virtual machine (slugs).
    """

    endpoint: str
    host: str = "localhost"
    port: int = 8006
    user: str = "root@pam"
    token_name: str | None = None
    verify_ssl: bool = True
    site: str | None = None
    netbox_site: str | None = None
    placed: Placed = nowhere
    cluster: str | None = None
    plugin: bool = True
    scope: Scope = field(default_factory=Scope)
    addresses: AddressConfig = field(default_factory=lambda: AddressConfig.model_validate({}))
    owned_models: tuple[str, ...] = ()

    def link(self, place: str) -> str:
        """The page of ``node/pve1``, ``qemu/100`` or ``storage/pve1/local`` in Proxmox's own UI."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}/#v1:0:={place}"


Inputs = Mapping[str, Fetched]
Build = Callable[[Inputs, StageContext], list[Desired]]


@dataclass(frozen=True)
class Stage:
    """One of the twelve. ``upstream`` are stages whose rows this one's rows refer to."""

    number: int
    name: str
    group: str
    title: str
    description: str
    sources: tuple[str, ...]
    object_classes: tuple[ObjectClass, ...]
    upstream: tuple[str, ...]
    build: Build

    @property
    def heading(self) -> str:
        """The heading of this stage in docs/mapping.md."""
        return f"{self.number}. {self.title}"

    def classes(self, *, plugin: bool) -> tuple[ObjectClass, ...]:
        """The object classes that are written with or without the plugin's models."""
        return tuple(item for item in self.object_classes if plugin or not item.spec.plugin)
