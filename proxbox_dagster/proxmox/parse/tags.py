"""Tags of guests, and their colours in the cluster's options."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from slugify import slugify

from .problem import ParseProblem
from .values import properties, to_bool, to_str

_SEPARATORS = re.compile(r"[;,\s\x00]+")
_COLOR = re.compile(r"[0-9A-Fa-f]{6}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag as it is spelled, and the slug by which two spellings are the same tag."""

    name: str
    slug: str


@dataclass(frozen=True, slots=True)
class TagStyle:
    """The cluster's ``tag-style``. Colours are six lower-case hex digits by tag."""

    colors: Mapping[str, str] = field(default_factory=dict)
    text_colors: Mapping[str, str] = field(default_factory=dict)
    case_sensitive: bool = False
    problems: tuple[ParseProblem, ...] = ()

    def color(self, tag: str) -> str | None:
        """The background colour of a tag, or ``None`` when the cluster sets none."""
        if tag in self.colors or self.case_sensitive:
            return self.colors.get(tag)
        return {name.lower(): color for name, color in sorted(self.colors.items())}.get(tag.lower())


def tag_slug(name: str) -> str:
    """A slug that NetBox accepts; never empty. ``c++`` and ``c`` stay two tags."""
    slug = slugify(name.replace("+", "-plus-"), regex_pattern=r"[^-a-z0-9_]+")[:100].strip("-")
    digest = hashlib.md5(name.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()
    return slug or f"tag-{digest[:8]}"


def parse_tags(value: Any) -> tuple[Tag, ...] | ParseProblem:
    """Tags from ``a;b``, ``a,b``, ``a b`` or a list, sorted by slug; of two spellings of one tag the first stays."""
    if isinstance(value, list | tuple):
        parts = [part for part in map(to_str, value) if isinstance(part, str)]
    else:
        text = to_str(value)
        if isinstance(text, ParseProblem):
            return ParseProblem.of(value, "no list of tags")
        parts = [text or ""]
    found: dict[str, Tag] = {}
    for name in (name for part in parts for name in _SEPARATORS.split(part) if name):
        slug = tag_slug(name)
        found.setdefault(slug, Tag(name, slug))
    return tuple(found[slug] for slug in sorted(found))


def parse_tag_style(value: Any) -> TagStyle | ParseProblem:
    """``tag-style`` as ``color-map=a:ff0000;b:00ff00:ffffff,case-sensitive=1``, or the same as a dictionary.

    An entry of the colour map that cannot be read is left out and named in ``problems``.
    """
    if value is None or value == "":
        return TagStyle()
    fields = properties(value)
    if isinstance(fields, ParseProblem):
        return fields
    colors: dict[str, str] = {}
    text_colors: dict[str, str] = {}
    problems = []
    for entry in (entry.strip() for entry in fields.get("color-map", "").split(";")):
        name, *codes = entry.split(":")
        if not entry:
            continue
        if not name or not 1 <= len(codes) <= 2 or not all(_COLOR.fullmatch(code) for code in codes):
            problems.append(ParseProblem.of(entry, "no colour such as tag:ff0000"))
            continue
        colors[name] = codes[0].lower()
        if len(codes) == 2:
            text_colors[name] = codes[1].lower()
    return TagStyle(colors, text_colors, to_bool(fields.get("case-sensitive")) is True, tuple(problems))
