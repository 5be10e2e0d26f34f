"""The tags and custom fields by which this project knows its own rows. Written before anything else."""

from __future__ import annotations

from proxbox_dagster.netbox.spec import (
    ENDPOINT_FIELD,
    KEEP_TAG,
    MEMORY_FIELD,
    MISSING_FIELD,
    MISSING_TAG,
    OWNER_TAG,
    Coverage,
    Desired,
    FieldSpec,
    Kind,
    ModelSpec,
    ObjectClass,
    Ownership,
    Policy,
    Row,
    UniqueKey,
)
from proxbox_dagster.stages.stage import StageContext

TEMPLATE_TAG = "proxbox-template"
"""Slug of the tag on machines that are templates in Proxmox; NetBox has no word of its own for them."""

GUEST_TAG_DESCRIPTION = "Proxmox tag, coloured as in {endpoint}"

_TAG_FIELDS = (
    FieldSpec("slug", "the tag", "lower case, as NetBox's slugs are", limit=100, required=True),
    FieldSpec(
        "name",
        "the tag",
        "with '@ENDPOINT' behind it where NetBox has a tag of that name under another slug",
        Policy.CREATE_ONLY,
        limit=100,
        required=True,
    ),
    FieldSpec("color", "/cluster/options tag-style, else the colour that Proxmox's UI derives from the name", limit=6),
    FieldSpec("description", "—", "names the endpoint that made the tag", Policy.CREATE_ONLY, limit=200),
)

TAG = ModelSpec(
    name="tags",
    path="extras/tags",
    model="extras.tag",
    identity=("slug",),
    fields=_TAG_FIELDS,
    ownership=Ownership.SHARED,
    shared_mark=("description", GUEST_TAG_DESCRIPTION),
    unique=(UniqueKey(("slug",), "slug"),),
    removal="ignore",
    clash_field="name",  # a person's tag of the same name under another slug is theirs; guests need one of this slug
)
"""Tags of guests: one that people or another endpoint made is used and never changed."""

CUSTOM_FIELD = ModelSpec(
    name="custom_fields",
    path="extras/custom-fields",
    model="extras.customfield",
    identity=("name",),
    fields=(
        FieldSpec("name", "—", "fixed", limit=50, required=True),
        FieldSpec("type", "—", "fixed", Policy.CREATE_ONLY, required=True),
        FieldSpec("object_types", "—", "added to those there are", kind=Kind.MEMBERS, required=True),
        FieldSpec("label", "—", "fixed", Policy.CREATE_ONLY, limit=50),
        FieldSpec("group_name", "—", "fixed", Policy.CREATE_ONLY, limit=50),
        FieldSpec("description", "—", "fixed", Policy.CREATE_ONLY, limit=200),
        FieldSpec("filter_logic", "—", "fixed", Policy.CREATE_ONLY),
        FieldSpec("ui_visible", "—", "fixed", Policy.CREATE_ONLY),
        FieldSpec("ui_editable", "—", "fixed", Policy.CREATE_ONLY),
    ),
    ownership=Ownership.SHARED,
    shared_mark=("group_name", "Proxmox"),
    unique=(UniqueKey(("name",), "name"),),
    removal="ignore",
)

OWNERSHIP_TAGS = ObjectClass(
    "ownership_tags",
    TAG,
    "Ownership tags",
    "The tags by which this project marks its rows, and by which people tell it to keep its hands off.",
)
OWNERSHIP_CUSTOM_FIELDS = ObjectClass(
    "ownership_custom_fields",
    CUSTOM_FIELD,
    "Ownership custom fields",
    "The custom fields that say which endpoint a row belongs to and what was last written to it.",
)

_FIXED = Coverage(reason="fixed objects are never removed")

_TAGS = (
    (OWNER_TAG, "Proxbox", "ff5722", "Kept true to Proxmox; remove this tag to have the object left alone"),
    (KEEP_TAG, "Proxbox: keep", "4caf50", "Set by people: never marked or removed, whatever Proxmox says"),
    (MISSING_TAG, "Proxbox: missing", "d32f2f", "Its source in Proxmox is gone"),
    ("proxbox-discovered-qemu", "Proxbox: Discovered QEMU", "2196f3", "Virtual machine found in Proxmox"),
    ("proxbox-discovered-lxc", "Proxbox: Discovered LXC", "00bcd4", "Container found in Proxmox"),
    (TEMPLATE_TAG, "Proxbox: Template", "607d8b", "Template in Proxmox"),
    ("proxbox-discovered-cluster", "Proxbox: Discovered cluster", "4caf50", "Cluster found in Proxmox"),
    ("proxbox-discovered-node", "Proxbox: Discovered node", "9c27b0", "Node found in Proxmox"),
)


def ownership_tags() -> Desired:
    """The fixed tags."""
    rows = [
        Row({"slug": slug, "name": name, "color": color, "description": text}, slug)
        for slug, name, color, text in _TAGS
    ]
    return Desired(OWNERSHIP_TAGS, rows, coverage=_FIXED)


def custom_field_row(
    name: str, kind: str, label: str, description: str, models: tuple[str, ...], *, hidden: bool = False
) -> Row:
    """One custom field on ``models``; read-only in NetBox's UI, since it holds what this project knows."""
    return Row(
        {
            "name": name,
            "type": kind,
            "object_types": models,
            "label": label,
            "group_name": "Proxmox",
            "description": description,
            "filter_logic": "exact",
            "ui_visible": "hidden" if hidden else "if-set",
            "ui_editable": "hidden" if hidden else "no",
        },
        name,
    )


def ownership_custom_fields(context: StageContext) -> Desired:
    """The custom fields that every row of ours has."""
    models = tuple(sorted(context.owned_models))
    rows = [
        custom_field_row(
            ENDPOINT_FIELD.removeprefix("cf."),
            "text",
            "Proxmox endpoint",
            "The endpoint this object is read from",
            models,
        ),
        custom_field_row(
            MEMORY_FIELD.removeprefix("cf."),
            "json",
            "Last written",
            "Managed values as last written",
            models,
            hidden=True,
        ),
        custom_field_row(
            MISSING_FIELD.removeprefix("cf."), "json", "Missing", "Since when its source is gone", models, hidden=True
        ),
        custom_field_row("proxmox_node_name", "text", "Proxmox node", "The node's name in Proxmox", ("dcim.device",)),
    ]
    return Desired(OWNERSHIP_CUSTOM_FIELDS, rows, coverage=_FIXED)
