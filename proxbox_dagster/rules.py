"""What the settings say to the mappings, to the planner, and of what the token must be allowed."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from difflib import get_close_matches

from proxbox_dagster import stages
from proxbox_dagster.netbox.permissions import Need, needs, owned
from proxbox_dagster.netbox.plan import Rules
from proxbox_dagster.netbox.removal import RemovalRules
from proxbox_dagster.netbox.spec import ENDPOINT_FIELD, ModelSpec, Policy
from proxbox_dagster.proxmox.credentials import Credentials
from proxbox_dagster.scope import Scope
from proxbox_dagster.settings import EndpointSettings, Settings, SettingsError, SettingsFile
from proxbox_dagster.stages.stage import Placed, StageContext, nowhere


def checked(settings: Settings) -> Settings:
    """The settings, once every object class and field that they name is one.

    Raises :class:`SettingsError`: a name with a slip of the pen in it would be a rule that nobody keeps.
    """
    wrong = list(_unknown_names(settings.file)) if settings.file else []
    if wrong:
        raise SettingsError(f"{settings.source}: {'; '.join(wrong)}")
    return settings


def _unknown_names(file: SettingsFile) -> Iterator[str]:
    classes = {item.name: item.spec for item in stages.object_classes()}
    for name, mode in file.removal.classes.items():
        if name not in classes:
            yield _no_such(f"removal.classes.{name}", "object class", name, classes)
        elif mode != "ignore" and not classes[name].removable:
            yield f"removal.classes.{name}: {name} are never removed; leave it out"
    specs = {spec.name: spec for spec in stages.specs()} | classes
    for name, fields in file.fields.items():
        if name not in specs:
            yield _no_such(f"fields.{name}", "object class", name, specs)
            continue
        spec = specs[name]
        for field, policy in fields.items():
            if field not in spec.by_name:
                yield _no_such(f"fields.{name}.{field}", f"field of {name}", field, spec.by_name)
            elif policy == Policy.NEVER and _is_needed(spec, field):
                yield (
                    f"fields.{name}.{field}: it cannot be left out, because rows cannot be made without it or are "
                    "known by it; 'create_only' leaves it to people"
                )


def _is_needed(spec: ModelSpec, field: str) -> bool:
    """Whether no row can do without a field: NetBox wants it, or it tells what and whose the row is."""
    named = field in (*spec.identity, ENDPOINT_FIELD, "tags")
    return (named or spec.by_name[field].required) and spec.by_name[field].policy is not Policy.NEVER


def _no_such(key: str, what: str, name: str, known: Collection[str]) -> str:
    close = get_close_matches(name, known, 1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"{key}: there is no such {what}{hint}; docs/mapping.md has all of them"


def context_of(
    file: SettingsFile,
    endpoint: EndpointSettings,
    scope: Scope,
    netbox_site: str | None = None,
    placed: Placed = nowhere,
) -> StageContext:
    """What the mappings may know of the settings, for one run over one endpoint, and of the sites in NetBox."""
    host, port = endpoint.addresses[0]
    who = Credentials.of(endpoint)
    return StageContext(
        endpoint=endpoint.name,
        host=host,
        port=port,
        user=who.user,
        token_name=who.token_name,
        verify_ssl=bool(endpoint.verify_ssl),
        site=endpoint.site,
        netbox_site=netbox_site,
        placed=placed,
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
