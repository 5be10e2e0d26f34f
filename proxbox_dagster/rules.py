"""What the settings say to the mappings, to the planner, and of what the token must be allowed."""

from __future__ import annotations

from proxbox_dagster import stages
from proxbox_dagster.netbox.permissions import Need, needs, owned
from proxbox_dagster.netbox.plan import Rules
from proxbox_dagster.netbox.removal import RemovalRules
from proxbox_dagster.netbox.spec import Policy
from proxbox_dagster.scope import Scope
from proxbox_dagster.settings import EndpointSettings, SettingsFile
from proxbox_dagster.stages.stage import StageContext


def context_of(file: SettingsFile, endpoint: EndpointSettings, scope: Scope) -> StageContext:
    """What the mappings may know of the settings, for one run over one endpoint."""
    host = endpoint.hosts[0]
    name, port = host, endpoint.port
    if host.count(":") == 1:
        name, _, text = host.partition(":")
        port = int(text)
    return StageContext(
        endpoint=endpoint.name,
        host=name.strip("[]"),
        port=port,
        user=endpoint.user,
        token_name=endpoint.token_name,
        verify_ssl=bool(endpoint.verify_ssl),
        site=endpoint.site,
        cluster=endpoint.cluster,
        plugin=file.plugin,
        scope=scope,
        addresses=file.addresses,
        owned_models=stages.owned_models(plugin=file.plugin),
    )


def rules_of(file: SettingsFile, *, override_brake: bool = False) -> Rules:
    """The planner's rules as the settings have them."""
    policies = {name: {item: Policy(value) for item, value in fields.items()} for name, fields in file.fields.items()}
    removal, brake = file.removal, file.brake
    return Rules(
        adopt=file.adopt,
        policies=policies,
        removal=RemovalRules(
            default=removal.default,
            classes=removal.classes,
            grace_days=removal.grace_days,
            confirmations=removal.confirmations,
            brake_percent=brake.percent,
            brake_objects=brake.objects,
            brake_minimum=brake.minimum,
            override=override_brake,
        ),
    )


def needed_permissions(file: SettingsFile) -> tuple[Need, ...]:
    """The least that NetBox must allow the token for a run with these settings."""
    rules = rules_of(file)
    return needs(
        stages.object_classes(plugin=file.plugin),
        policies=rules.policies,
        deletes=lambda item: owned(item) and rules.removal.mode(item.name, item.spec) == "delete",
    )


def purge_permissions(file: SettingsFile) -> tuple[Need, ...]:
    """The same for ``proxbox-dagster purge``: to see and to delete what endpoints own, and nothing else."""
    everything = needs(stages.object_classes(plugin=file.plugin), deletes=owned)
    kept = ("view", "delete")
    return tuple(
        Need(need.path, need.model, tuple(action for action in kept if action in need.actions)) for need in everything
    )
