"""``docs/mapping.md`` from the table of stages: what is read, what is written, by which rule.

``python -m proxbox_dagster.stages.mapping_doc > docs/mapping.md`` writes it anew; a test compares.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator

from proxbox_dagster.netbox.spec import FieldSpec, ModelSpec, ObjectClass, Ownership, Policy
from proxbox_dagster.proxmox.sources import SOURCES
from proxbox_dagster.stages import STAGES, Stage

_POLICIES = {
    Policy.ALWAYS: "mirrors Proxmox: a different value in NetBox is overwritten",
    Policy.MANAGED: "ours until a person changes it: written only while NetBox holds what was last written; "
    "else reported as a conflict",
    Policy.FILL_IF_EMPTY: "written when NetBox has nothing there",
    Policy.CREATE_ONLY: "written when the row is made, never again",
    Policy.NEVER: "not written by itself",
}
_REMOVALS = {
    "ignore": "never removed",
    "mark": "marked once a complete read proves it gone; deleted only where the settings say so",
    "delete": "deleted once a complete read proves it gone",
}

_HEAD = """# What becomes what

Made from the code that runs (`python -m proxbox_dagster.stages.mapping_doc`); do not edit.

Every field has one source, one conversion and one policy. A value that Proxmox is known not to have clears the field;
a value that could not be read leaves it alone. Text is trimmed and cut to the length that NetBox takes. The settings
(`fields: {OBJECT_CLASS: {FIELD: POLICY}}`) can set another policy for each field.

"""


def mapping_markdown() -> str:
    """The whole document."""
    parts = [_HEAD, "| Policy | Meaning |\n|---|---|\n"]
    parts += [_line(f"`{policy}`", meaning) for policy, meaning in _POLICIES.items()]
    for stage in STAGES:
        parts += _stage(stage)
    return "".join(parts)


def heading(item: ObjectClass) -> str:
    """The heading under which the document tells of an object class."""
    return f"{item.title} (`netbox/{item.name}`)"


def anchor(text: str) -> str:
    """The fragment of a heading, as GitHub, GitLab and Gitea make it: ``virtual-machines-netboxvirtual_machines``."""
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |\n"


def _stage(stage: Stage) -> Iterator[str]:
    yield f"\n## {stage.heading}\n\n{stage.description}"
    if stage.upstream:
        yield f" Runs after {_names(stage.upstream)}."
    yield "\n\n| Source | Proxmox path | Read once per | Privilege |\n|---|---|---|---|\n"
    for name in stage.sources:
        source = SOURCES[name]
        yield _line(f"`{name}`", f"`{source.path}`", source.per, source.privilege)
    for item in stage.object_classes:
        yield from _object_class(item)


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _object_class(item: ObjectClass) -> Iterator[str]:
    spec = item.spec
    plugin = ", of the plugin `netbox-proxbox`" if spec.plugin else ""
    yield f"\n### {heading(item)}\n\n{item.description}\n\n"
    yield f"* NetBox: `/api/{spec.path}/` (`{spec.model}`{plugin}); known by {_names(spec.identity)}.\n"
    yield f"* {_whose(spec)}\n* Removal: {_removal(spec)}.\n"
    yield "\n| NetBox field | Source | Conversion | Policy |\n|---|---|---|---|\n"
    for field in spec.fields:
        yield _line(_field(field), field.source, field.conversion, f"`{field.policy}`")


def _whose(spec: ModelSpec) -> str:
    if spec.update_only:
        return "Only changes rows that another object class of this stage makes."
    if spec.ownership is Ownership.ENDPOINT:
        return "Ours: rows with the endpoint's name in the custom field `proxmox_endpoint`."
    if spec.shared_mark:
        field, value = spec.shared_mark
        return f"Shared by all endpoints; changed only where `{field}` is '{value.format(endpoint='ENDPOINT')}'."
    return "Shared by all endpoints; changed only where it has the tag `proxbox`."


def _removal(spec: ModelSpec) -> str:
    if spec.ownership is Ownership.SHARED or spec.update_only:
        return _REMOVALS["ignore"]
    status = f", with status `{spec.missing_status}`" if spec.missing_status and spec.removal == "mark" else ""
    return _REMOVALS[spec.removal] + status


def _field(field: FieldSpec) -> str:
    name = f"custom field `{field.custom_name}`" if field.is_custom else f"`{field.name}`"
    return f"{name}, required" if field.required else name


if __name__ == "__main__":
    sys.stdout.write(mapping_markdown())
