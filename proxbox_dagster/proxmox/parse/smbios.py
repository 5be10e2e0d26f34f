"""What proves that a guest is the same guest: its SMBIOS uuid."""

from __future__ import annotations

import uuid
from typing import Any

from .problem import ParseProblem
from .values import properties


def parse_smbios_uuid(value: Any) -> str | ParseProblem | None:
    """The uuid in ``smbios1``, lower case; ``None`` when it has none."""
    if value is None:
        return None
    fields = properties(value)
    if isinstance(fields, ParseProblem):
        return fields
    text = fields.get("uuid")
    if not text:
        return None
    try:
        return str(uuid.UUID(text.strip()))
    except ValueError:
        return ParseProblem.of(text, "no uuid")
