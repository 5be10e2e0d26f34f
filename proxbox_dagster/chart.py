"""A bar chart as SVG: what a run changed, stage by stage. It is text, so that no drawing library is needed."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = {
    "created": "#2e9e6b",
    "updated": "#3a6fd8",
    "marked": "#e0a100",
    "deleted": "#8a4fbf",
    "skipped": "#b8bec9",
    "failed": "#d0342c",
}
"""What is drawn of the counts, from left to right; unchanged rows would dwarf all else."""

LABELS, BARS, NOTES, ROW, HEAD = 170, 400, 290, 26, 44
"""Widths of the three columns, height of a row and of the legend, in pixels."""

LEAST = 3.0
"""Width of the smallest part that is drawn: a single failed object must be seen beside a thousand new ones."""


@dataclass(frozen=True)
class Bar:
    """One row: ``counts`` by the names of :data:`COLOURS`, and a ``note`` to its right."""

    label: str
    counts: Mapping[str, int]
    note: str = ""


def chart(bars: Sequence[Bar]) -> str:
    """The chart as an SVG document."""
    width, height = LABELS + BARS + NOTES, HEAD + ROW * max(1, len(bars)) + 8
    most = max((sum(bar.counts.get(name, 0) for name in COLOURS) for bar in bars), default=0) or 1
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        *_legend(),
    ]
    for number, bar in enumerate(bars):
        parts += _row(bar, HEAD + ROW * number, (BARS - LEAST * len(COLOURS)) / most)
    return "".join([*parts, "</svg>"])


def _legend() -> list[str]:
    parts = []
    for number, (name, colour) in enumerate(COLOURS.items()):
        x = 12 + 100 * number
        parts.append(f'<rect x="{x}" y="12" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 18}" y="23" fill="#333333">{name}</text>')
    return parts


def _row(bar: Bar, top: int, scale: float) -> list[str]:
    middle = top + 17
    parts = [
        f'<text x="{LABELS - 10}" y="{middle}" text-anchor="end" fill="#111111">{escape(bar.label)}</text>',
        f'<line x1="{LABELS}" y1="{top + 2}" x2="{LABELS}" y2="{top + ROW - 2}" stroke="#b8bec9"/>',
    ]
    x = float(LABELS)
    for name, colour in COLOURS.items():
        count = bar.counts.get(name, 0)
        if count:
            width = LEAST + count * scale
            parts.append(f'<rect x="{x:.1f}" y="{top + 4}" width="{width:.1f}" height="{ROW - 8}" fill="{colour}"/>')
            x += width
    parts.append(f'<text x="{x + 8:.1f}" y="{middle}" fill="#555555">{escape(bar.note)}</text>')
    return parts


def data_uri(svg: str) -> str:
    """The chart as an address that Markdown can show as an image."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
