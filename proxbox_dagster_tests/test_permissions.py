"""What the token must be allowed in NetBox: derived from the specs, documented, tried before the first write."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxbox_dagster import stages
from proxbox_dagster.netbox.permissions import ACTIONS, Need, missing, refusal
from proxbox_dagster.rules import needed_permissions
from proxbox_dagster_tests.support import least

OPERATIONS = Path(__file__).parent.parent / "docs" / "operations.md"


HANGING_ON = (
    "extras.journalentry",
    "ipam.fhrpgroupassignment",
    "ipam.service",
    "tenancy.contactassignment",
    "vpn.l2vpntermination",
    "vpn.tunneltermination",
)
"""What people hang on objects that are deleted by default; it is looked for before."""


def actions_on(model: str, **keys: object) -> set[str]:
    [need] = [need for need in needed_permissions(least.settings(**keys)) if need.model == model]
    return set(need.actions)


def test_every_model_is_read_and_made() -> None:
    wanted = {need.model: need.actions for need in needed_permissions(least.settings())}
    looked_for = {model: wanted.pop(model) for model in HANGING_ON}
    assert set(looked_for.values()) == {("view",)}
    assert wanted.keys() == {spec.model for spec in stages.specs()}
    assert all(set(actions) >= {"view", "add"} for actions in wanted.values())
    assert all(list(actions) == [action for action in ACTIONS if action in actions] for actions in wanted.values())


def test_shared_objects_are_not_changed_unless_the_settings_say_so() -> None:
    assert actions_on("dcim.manufacturer") == {"view", "add"}
    assert actions_on("dcim.platform") == {"view", "add"}
    assert actions_on("dcim.platform", fields={"platforms": {"name": "always"}}) == {"view", "add", "change"}
    assert actions_on("extras.tag") == {"view", "add", "change"}, "their colours follow Proxmox"


def test_only_what_mirrors_a_list_is_deleted_unless_the_settings_say_so() -> None:
    assert "delete" in actions_on("virtualization.virtualdisk")
    assert "delete" not in actions_on("virtualization.virtualmachine")
    assert "delete" in actions_on("virtualization.virtualmachine", removal={"default": "delete"})
    assert "delete" in actions_on("virtualization.virtualmachine", removal={"classes": {"virtual_machines": "delete"}})
    assert "delete" not in actions_on("virtualization.virtualdisk", removal={"default": "ignore"})


def test_without_the_plugin_none_of_its_models_is_needed() -> None:
    wanted = needed_permissions(least.settings(plugin=False))
    assert not [need.model for need in wanted if need.model.startswith("netbox_proxbox.")]


@pytest.mark.parametrize("name", ["for_runs", "for_purge"])
def test_the_documented_permissions_are_those_of_the_code(name: str) -> None:
    document = OPERATIONS.read_text()
    for actions, models in getattr(least, name)():
        line = f"* {', '.join(actions)}: {', '.join(f'`{model}`' for model in models)}\n"
        assert line in document, f"docs/operations.md needs the line:\n{line}"


class Refusing:
    """A NetBox that refuses these (action, path)."""

    def __init__(self, *refused: tuple[str, str]) -> None:
        self.refused = refused
        self.asked: list[tuple[str, str]] = []

    def may(self, action: str, path: str) -> bool:
        self.asked.append((action, path))
        return (action, path) not in self.refused


def test_everything_that_is_missing_is_named_at_once() -> None:
    wanted = needed_permissions(least.settings())
    netbox = Refusing(("change", "dcim/devices"), ("add", "ipam/ip-addresses"), ("delete", "ipam/ip-addresses"))
    lacking = missing(netbox, wanted, workers=4)
    assert [str(need) for need in lacking] == ["change dcim.device", "add, delete ipam.ipaddress"]
    assert len(netbox.asked) == sum(len(need.actions) for need in wanted)
    text = refusal(lacking, wanted, read_only=False)
    assert "change dcim.device; add, delete ipam.ipaddress" in text
    assert "docs/operations.md" in text


def test_a_token_that_may_write_nothing_is_called_read_only() -> None:
    wanted = (Need("dcim/sites", "dcim.site", ("view", "add")), Need("ipam/services", "ipam.service", ("view",)))
    lacking = missing(Refusing(("add", "dcim/sites")), wanted)
    assert "Write enabled" in refusal(lacking, wanted, read_only=True)
    assert "or its user may write nothing" in refusal(lacking, wanted, read_only=None)
    assert "add dcim.site" in refusal(lacking, wanted, read_only=False)
