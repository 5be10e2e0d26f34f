"""The answer of a parser that could not read its input."""

from __future__ import annotations

from dataclasses import dataclass

_SHOWN = 120


@dataclass(frozen=True, slots=True)
class ParseProblem:
    """``text`` (shortened) could not be read, for ``reason``."""

    text: str
    reason: str

    @classmethod
    def of(cls, value: object, reason: str) -> ParseProblem:
        """A problem that quotes ``value``, shortened to what fits into one line of a log."""
        text = value if isinstance(value, str) else repr(value)
        return cls(text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "...", reason)

    def __str__(self) -> str:
        return f"{self.reason}: {self.text!r}"
