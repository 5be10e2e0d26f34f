"""What proves that a guest is the same guest: its SMBIOS uuid and its generation id."""

from __future__ import annotations

import uuid
from typing import Any

from .problem import ParseProblem
from .values import properties, to_str


def parse_smbios_uuid(value: Any) -> str | ParseProblem | None:
    """The uuid in ``smbios1``, lower case; ``None`` when it has none."""
    if value is None:
        return None
    fields = properties(value)
    return fields if isinstance(fields, ParseProblem) else _uuid(fields.get("uuid"))


def parse_vmgenid(value: Any) -> str | ParseProblem | None:
    """The generation id, lower case; ``None`` when there is none (``0``) or it is yet to be made (``1``)."""
    text = to_str(value)
    if isinstance(text, ParseProblem):
        return text
    return None if text is None or text.strip() in ("", "0", "1") else _uuid(text)


def _uuid(text: str | None) -> str | ParseProblem | None:
    if not text:
        return None
    try:
        return str(uuid.UUID(text.strip()))
    except ValueError:
        return ParseProblem.of(text, "no uuid")
