"""Scalars as Proxmox spells them.

Perl decides per value whether JSON shows a number or a string, so ``1``, ``"1"``, ``true`` and, for a boolean,
``""`` all occur for the same field. ``None`` and (except for booleans) ``""`` mean known absent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

from .problem import ParseProblem

MIB: Final = 1024 * 1024
_UNITS: Final = {"": 1, "B": 1, "K": 1024, "M": MIB, "G": 1024 * MIB, "T": MIB * MIB, "P": 1024 * MIB * MIB}
# Bounded, because int() refuses numbers of thousands of digits with an exception.
_INT = re.compile(r"[+-]?[0-9]{1,30}(?:\.0{0,30})?", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?:[0-9]{1,300}(?:\.[0-9]{0,300})?|\.[0-9]{1,300})(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,30}(?:\.[0-9]{1,30})?)\s*(?:([KMGTP])(?:i?B)?|B)?", re.ASCII | re.IGNORECASE)
_KEY = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)\s*=(.*)", re.DOTALL)
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})


def to_int(value: Any) -> int | ParseProblem | None:
    """A whole number from ``7``, ``"7"``, ``7.0`` or ``"7.0"``."""
    if value is None or isinstance(value, int):
        return None if value is None else int(value)
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value.is_integer() else ParseProblem.of(value, "no whole number")
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return None
        if _INT.fullmatch(text):
            return int(text.split(".")[0])
    return ParseProblem.of(value, "no whole number")


def to_float(value: Any) -> float | ParseProblem | None:
    """A finite number."""
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return None
        if not _FLOAT.fullmatch(text):
            return ParseProblem.of(value, "no number")
        value = float(text)
    if value is None:
        return None
    if isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:
            return ParseProblem.of("a number of many digits", "no number")
        return number if math.isfinite(number) else ParseProblem.of(value, "no number")
    return ParseProblem.of(value, "no number")


def to_bool(value: Any) -> bool | ParseProblem | None:
    """True or false from ``0/1``, ``"0"/"1"``, ``""`` (Perl's false), ``true/false``, ``yes/no``, ``on/off``."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    if isinstance(value, str):
        text = value.strip().lower()
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
    return ParseProblem.of(value, "neither 0 nor 1")


def to_str(value: Any) -> str | ParseProblem | None:
    """Text; a number becomes its decimal text."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int | float):
        # str() of an int of thousands of digits raises, and no field of Proxmox is that long.
        if isinstance(value, int) and value.bit_length() > 1000:
            return ParseProblem.of("a number of many digits", "no text")
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return ParseProblem.of(value, "no text")


def vmid_in(text: Any) -> int | None:
    """The VMID that a text such as ``100`` is; ``None`` for anything else."""
    return int(text) if isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) < 10 else None


def size_to_mib(value: Any) -> int | ParseProblem:
    """A size such as ``32G``, ``528K`` or ``4194304`` (bytes) in MiB, rounded up; 0 for ``0T``, which is no limit."""
    text = to_str(value)
    match = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        return ParseProblem.of(value, "no size such as 32G")
    bytes_ = Fraction(match[1]) * _UNITS[(match[2] or "").upper()]
    return math.ceil(bytes_ / MIB)


def properties(value: Any, default_key: str | None = None) -> dict[str, str] | ParseProblem:
    """A property string ``a=b,c=d`` as a dictionary, in its order; a dictionary is passed through.

    The one part without ``=`` belongs to ``default_key``. A key that stands twice is a problem, as in Proxmox.
    """
    if isinstance(value, Mapping):
        return {str(key): text for key, item in value.items() if isinstance(text := to_str(item), str)}
    text = to_str(value)
    if not isinstance(text, str):
        return ParseProblem.of(value, "no list of properties")
    found: dict[str, str] = {}
    for part in (part.strip() for part in text.split(",")):
        if not part:
            continue
        match = _KEY.fullmatch(part)
        key, item = (match[1], match[2].strip()) if match else (default_key, part)
        if key is None:
            return ParseProblem.of(value, f"{part!r} has no key")
        if key in found:
            return ParseProblem.of(value, f"key {key!r} stands twice")
        found[key] = item
    return found
