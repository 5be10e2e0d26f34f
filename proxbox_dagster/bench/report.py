"""The figures as Markdown for docs/performance.md, and as JSON. Pure but for :func:`store`."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proxbox_dagster.bench.clock import PHASES

BAR = 40
Figures = dict[str, Any]


def store(results: Figures, folder: Path) -> str:
    """Write ``bench-TIME.json`` and ``.md`` (and ``latest.*``) into ``folder``; the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    text = markdown(results)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for name in (f"bench-{stamp}", "latest"):
        (folder / f"{name}.json").write_text(json.dumps(results, indent=1))
        (folder / f"{name}.md").write_text(text)
    return text


def put(results: Figures, path: Path, part: str) -> None:
    """Put the figures, without the long tables, between ``<!-- part -->`` and ``<!-- /part -->`` of a page.

    Raises :class:`ValueError` where the page has no such place.
    """
    begin, end = f"<!-- {part} -->", f"<!-- /{part} -->"
    before, found, rest = path.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{path} has no part {begin} ... {end}")
    path.write_text(f"{before}{begin}\n{markdown(results, details=False)}{end}{after}")


def markdown(results: Figures, *, details: bool = True) -> str:
    """The ratios first, then a chart, then what they are made of, and with ``details`` every request and row."""
    plan, machine = results["plan"], results["machine"]
    parts = [
        f"NetBox connections: {plan['clients']}, NetBox workers: {plan['workers']}, endpoints: {plan['endpoints']}, "
        f"medians of {plan['repeat']}, on {machine['cpus']}.",
    ]
    if results["sizes"]:
        parts += _measured(results["sizes"])
        parts += _details(results["sizes"]) if details else []
    if results.get("scale"):
        parts += ["Planning alone, over answers that are played back:", _scale(results["scale"])]
    return "\n\n".join(parts) + "\n"


def _measured(sizes: Sequence[Figures]) -> list[str]:
    head = ("guests", "run", "seconds", "floor", "ratio", "our CPU s", "NetBox's CPU s", "peak MiB")
    parts = [
        _table((*head, "change-log rows", "NetBox requests"), [line for size in sizes for line in _lines(size)]),
        _chart(sizes),
        "Where the time goes, in seconds of the thread that runs the steps:",
        _table(("guests", "run", *PHASES), [line for size in sizes for line in _phases(size)]),
        "The no-op run's floors, in seconds:",
        _table(
            ("guests", "one bare read, all fields", "the same, the fields that a run asks for", "bare Proxmox reads"),
            [
                (size["guests"], *(f"{x:.1f}" for x in size["no-op"]["floors"].values()))
                for size in sizes
                if "no-op" in size
            ],
        ),
    ]
    slow = [line for size in sizes for entry in size.get("latencies", []) for line in _slow(size, entry)]
    if slow:
        parts += [
            "With a slower Proxmox:",
            _table(("guests", "latency ms", "no-op s", "bare Proxmox reads s", "ratio", "one VM s"), slow),
        ]
    return parts


def _details(sizes: Sequence[Figures]) -> list[str]:
    parts: list[str] = []
    for size in sizes:
        parts += [f"Requests at {size['guests']} guests:", _requests(size)]
        parts += [f"Proxmox requests of a run over all {size['guests']} guests:", _proxmox(size)]
        parts += [f"Rows at {size['guests']} guests:", _rows(size)]
    return parts


def _scale(entries: Sequence[Figures]) -> str:
    lines = []
    for entry in entries:
        for kind in ("no-op", "cold"):
            run, first = entry[kind], entries[0][kind]
            each, least = (found["cpu"] / found["objects"] * 1e6 for found in (run, first))
            line = (entry["guests"], kind, run["objects"], f"{run['cpu']:.1f}", f"{each:.0f}", f"{each / least:.2f}")
            lines.append((*line, f"{run['peak_mib']:.0f}", run["netbox_requests"]))
    head = ("guests", "run", "objects", "CPU s", "µs an object", f"ratio to {entries[0]['guests']}", "peak MiB")
    return _table((*head, "NetBox requests"), lines)


def _runs(size: Figures) -> list[tuple[str, Figures]]:
    return [(kind, size[kind]) for kind in ("cold", "no-op", "changed", "one VM") if kind in size]


def _floor(kind: str, run: Figures) -> tuple[str, str]:
    """The floor in words, and the ratio."""
    if "floor" not in run:
        return "—", "—"
    if kind == "changed":
        return f"no-op + {run['floor']:.2f}", f"no-op + {run['over'] / run['floor']:.2f} x"
    return f"{run['floor']:.1f}", f"{run['wall'] / run['floor']:.2f}"


def _lines(size: Figures) -> list[Sequence[Any]]:
    lines: list[Sequence[Any]] = []
    for kind, run in _runs(size):
        floor, ratio = _floor(kind, run)
        requests = sum(run["netbox_requests"].values())
        seconds, memory = f"{run['wall']:.1f}", f"{run['peak_mib']:.0f}"
        line = (size["guests"], kind, seconds, floor, ratio, f"{run['cpu']:.1f}", f"{run['netbox_cpu']:.1f}", memory)
        lines.append((*line, run["change_log_rows"], requests))
    return lines


def _phases(size: Figures) -> list[Sequence[Any]]:
    return [
        (size["guests"], kind, *(f"{run['phases'].get(name, 0.0):.1f}" for name in PHASES)) for kind, run in _runs(size)
    ]


def _slow(size: Figures, entry: Figures) -> list[Sequence[Any]]:
    run, one = entry["no-op"], entry["one VM"]
    floor = run["floors"]["proxmox"]
    ratio = run["wall"] / max(floor, run["floor"])
    return [
        (size["guests"], f"{entry['latency_ms']:g}", f"{run['wall']:.1f}", f"{floor:.1f}", f"{ratio:.2f}", one["wall"])
    ]


def _chart(sizes: Sequence[Figures]) -> str:
    """Bars of the runs and their floors, in a block that looks the same everywhere."""
    bars: list[tuple[str, float]] = []
    for size in sizes:
        for kind, run in _runs(size):
            bars.append((f"{size['guests']} {kind}", run["wall"]))
            if "floor" in run and kind != "changed":
                bars.append((f"{size['guests']} {kind} floor", run["floor"]))
    longest = max(seconds for _, seconds in bars)
    width = max(len(name) for name, _ in bars)
    lines = [
        f"{name:<{width}}  {'█' * max(1, round(BAR * seconds / longest))} {seconds:.1f} s" for name, seconds in bars
    ]
    return "\n".join(["```text", *lines, "```"])


def _requests(size: Figures) -> str:
    lines: list[Sequence[Any]] = []
    for kind, run in _runs(size):
        for method in ("GET", "POST", "PATCH", "DELETE"):
            requests = _sum(run["netbox_requests"], method)
            if requests:
                lines.append((kind, f"NetBox {method}", requests, _sum(run["netbox_rows"], method)))
        lines.append((kind, "Proxmox GET", sum(run["proxmox_requests"].values()), "—"))
    return _table(("run", "method", "requests", "rows"), lines)


def _sum(counts: dict[str, int], method: str) -> int:
    return sum(count for name, count in counts.items() if name.split()[0] == method)


def _proxmox(size: Figures) -> str:
    kind, run = next((kind, run) for kind, run in reversed(_runs(size)) if kind != "one VM")
    return _table((f"path ({kind})", "requests"), list(Counter(run["proxmox_requests"]).most_common()))


def _rows(size: Figures) -> str:
    run = size["cold"]
    lines = [(name, counts["seen"], counts["created"], counts["skipped"]) for name, counts in run["classes"].items()]
    total = tuple(sum(line[position] for line in lines) for position in (1, 2, 3))
    return _table(("object class", "seen", "created", "skipped"), [*lines, ("**all**", *total)])


def _table(head: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows)


def _cell(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value)
