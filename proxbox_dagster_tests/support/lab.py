"""A NetBox, some simulated clusters, and the settings that join them: what the scenario tests run on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr, ValidationError

from proxbox_dagster.demo.proxmox import Cluster, ProxmoxSimulator
from proxbox_dagster.demo.proxmox.acl import Acl
from proxbox_dagster.netbox.client import NetBoxClient
from proxbox_dagster.progress import Progress
from proxbox_dagster.proxmox.grants import role_privileges
from proxbox_dagster.rules import needed_permissions, purge_permissions
from proxbox_dagster.settings import SettingsFile, load_settings
from proxbox_dagster.sync import Order, sync_endpoints
from proxbox_dagster_tests.support.least import ObjectPermission, grouped


class Silent:
    """Watches runs and keeps what it was told."""

    def __init__(self) -> None:
        self.steps: list[Progress] = []
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def endpoint_started(self, name: str) -> None:
        pass

    def progress(self, step: Progress) -> None:
        self.steps.append(step)

    def endpoint_ended(self, name: str, result: dict[str, Any]) -> None:
        pass


@dataclass(frozen=True)
class Tokens:
    """What runs may do, their token, and one that may purge, too."""

    allowed: list[ObjectPermission]
    runs: str
    whole: str


class Lab:
    """``netbox`` is a running NetBoxServer; ``clusters`` by endpoint name are simulated over HTTPS.

    ``sync()`` runs ``full_update`` through Dagster in this process, as ``proxbox-dagster sync`` does, asserts the
    accounting of every class, and gives the ``--json`` object.
    """

    def __init__(self, netbox: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, **clusters: Cluster) -> None:
        self.netbox = netbox
        self.folder = folder
        self.clusters = clusters
        self.simulators: dict[str, ProxmoxSimulator] = {}
        self.watcher = Silent()
        self.settings: dict[str, Any] = {}
        self._stack = ExitStack()
        self._monkeypatch = monkeypatch
        self._allowed: list[ObjectPermission] = []
        self._tokens: list[str] = []
        self._whole = ""
        self.ports: dict[str, int] = {}
        """Where the clusters are to listen, by endpoint name; any free port where it names none."""

    def __enter__(self) -> Lab:
        for name, cluster in self.clusters.items():
            simulator = self._stack.enter_context(ProxmoxSimulator(cluster, port=self.ports.get(name, 0)))
            simulator.auth_delay = 0.05
            self.simulators[name] = simulator
            self.exchange(name, cluster)
        self._monkeypatch.delenv("DAGSTER_HOME", raising=False)
        self._monkeypatch.setenv("PROXBOX_CONFIG", str(self.folder / "proxbox.yaml"))
        self.configure()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def exchange(self, name: str, cluster: Cluster) -> None:
        """From now on the endpoint is this cluster; its token may do what the documentation asks for and no more."""
        if cluster.acl == Acl():
            cluster.restrict({"/": role_privileges(before_9=not cluster.flavour.ha_rules)})
        self.clusters[name] = self.simulators[name].cluster = cluster

    def configure(self, netbox_url: str | None = None, **keys: Any) -> None:
        """Write the settings; ``keys`` are top-level keys of proxbox.yaml beside ``netbox`` and ``endpoints``."""
        endpoints = []
        for name, simulator in self.simulators.items():
            self._monkeypatch.setenv(f"LAB_{name.upper()}_TOKEN", simulator.token_value)
            endpoints.append(
                {
                    "name": name,
                    "hosts": [f"{simulator.host}:{simulator.port}"],
                    "user": simulator.user,
                    "token_name": simulator.token_name,
                    "token_value": {"env": f"LAB_{name.upper()}_TOKEN"},
                    "verify_ssl": str(simulator.ca_file),
                    "retry_budget": 5,
                }
            )
        self.settings = {
            "netbox": {"url": netbox_url or self.netbox.url, "token": {"env": "LAB_NETBOX_TOKEN"}, "retry_budget": 30},
            "endpoints": endpoints,
            **keys,
        }
        self.save()

    def change(self, **keys: Any) -> None:
        """Other values for these top-level keys of the settings."""
        self.settings |= keys
        self.save()

    def save(self) -> None:
        """Write ``self.settings`` as it is now, and allow the token what these settings need and nothing else."""
        with suppress(ValidationError):
            self._allow(SettingsFile.model_validate(self.settings))
        (self.folder / "proxbox.yaml").write_text(yaml.safe_dump(self.settings, sort_keys=False))

    def empty(self, saved: str | None = None, tokens: Tokens | None = None) -> None:
        """An empty NetBox, or one as it was saved; with new tokens, or with those that it was saved with.

        A run tries what a token permits before it first writes with it, which shows among the requests.
        """
        self.netbox.reset(saved)
        if tokens is None:
            self._allowed = []
        else:
            self._allowed, self._tokens, self._whole = tokens.allowed, [tokens.runs], tokens.whole
            self._monkeypatch.setenv("LAB_NETBOX_TOKEN", self._whole)
        self.save()

    def tokens(self) -> Tokens:
        """NetBox's tokens at this moment."""
        return Tokens(self._allowed, self._tokens[-1], self._whole)

    def _allow(self, file: SettingsFile) -> None:
        """Nothing is a superuser's: runs have the permissions documented for them, purge in addition its own."""
        for_runs = grouped(needed_permissions(file))
        if for_runs != self._allowed:
            self._allowed, number = for_runs, len(self._tokens)
            self._tokens.append(self.netbox.make_token(f"proxbox-runs-{number}", permissions=for_runs))
            every = [*for_runs, *grouped(purge_permissions(file))]
            self._whole = self.netbox.make_token(f"proxbox-{number}", permissions=every)
            self._monkeypatch.setenv("LAB_NETBOX_TOKEN", self._whole)

    @contextmanager
    def _as_runs(self) -> Iterator[None]:
        """The token of runs, unless a test has set another one."""
        set_by_test = os.environ.get("LAB_NETBOX_TOKEN") != self._whole
        with pytest.MonkeyPatch.context() as patch:
            if not set_by_test:
                patch.setenv("LAB_NETBOX_TOKEN", self._tokens[-1])
            yield

    def sync(self, **order: Any) -> dict[str, Any]:
        """One run over all endpoints, or as ``order`` narrows it (fields of :class:`Order`)."""
        self.watcher = Silent()
        with self._as_runs():
            result = sync_endpoints(Order(**order), self.watcher)
        for simulator in self.simulators.values():
            asked = {(method, path) for method, path, _, _ in simulator.log if method != "GET"}
            assert asked <= {("POST", "/access/ticket")}, "Proxmox is only read"
        for endpoint in result["endpoints"].values():
            for line in endpoint["stages"]:
                outcomes = ("created", "updated", "unchanged", "skipped", "failed")
                assert line["seen"] == sum(line[name] for name in outcomes), line
                assert not (endpoint["ok"] and line["failed"]), line
        return result

    def good_sync(self, **order: Any) -> dict[str, Any]:
        """A run that must be green."""
        result = self.sync(**order)
        assert result["ok"], [error for endpoint in result["endpoints"].values() for error in endpoint["errors"]]
        return result

    def reports(self) -> dict[tuple[str, str], Any]:
        """The last run's reports by (endpoint, object class)."""
        return {(step.endpoint, step.object_class): step.report for step in self.watcher.steps if step.report}

    def changes(self) -> list[tuple[str, str, str, str]]:
        """What the last run wrote (or planned): (object class, label, action, field)."""
        return [
            (name, change.label, change.action, change.field)
            for (_, name), report in self.reports().items()
            for change in report.changes
        ]

    def rows(self, path: str, **filters: Any) -> list[dict[str, Any]]:
        """Rows of NetBox, past every cache."""
        client = self.client()
        try:
            return client.read(path, filters)
        finally:
            client.close()

    def client(self) -> NetBoxClient:
        """A superuser's client, for what a person does in NetBox during a test; close it."""
        connection = load_settings().netbox_connection()
        return NetBoxClient(replace(connection, token=SecretStr(self.netbox.token)))
