"""docs/mapping.md is made from the code that runs."""

from __future__ import annotations

from pathlib import Path

from proxbox_dagster.proxmox.sources import SOURCES
from proxbox_dagster.stages import STAGES, object_classes
from proxbox_dagster.stages.mapping_doc import mapping_markdown

DOCUMENT = Path(__file__).parents[1] / "docs" / "mapping.md"


def test_the_document_is_current() -> None:
    assert DOCUMENT.read_text() == mapping_markdown(), (
        "run: python -m proxbox_dagster.stages.mapping_doc > docs/mapping.md"
    )


def test_every_field_of_every_object_class_is_in_it() -> None:
    text = mapping_markdown()
    for item in object_classes():
        section = text.split(f"(`netbox/{item.name}`)")[1].split("\n##")[0]
        for field in item.spec.fields:
            assert f"`{field.custom_name}`" in section, (item.name, field.name)


def test_every_source_is_read_by_a_stage_with_its_path() -> None:
    text = mapping_markdown()
    read = {name for stage in STAGES for name in stage.sources}
    assert all(f"`{SOURCES[name].path}`" in text for name in read)


def test_tables_have_as_many_cells_as_columns() -> None:
    width = 0
    for line in mapping_markdown().splitlines():
        cells = line.replace("\\|", "").count("|")
        if not cells:
            width = 0
            continue
        width = width or cells
        assert cells == width, line
