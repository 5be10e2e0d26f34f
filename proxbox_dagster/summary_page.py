"""One page of Markdown about a run: what changed, what failed and why, what is missing, what to do next. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from proxbox_dagster.chart import COLOURS, Bar, chart, data_uri
from proxbox_dagster.metadata import Raw, result_line, table, whole
from proxbox_dagster.report import COUNTS, is_accounted, is_telling

MAX_TABLE = 8
"""Lines of a class's own table that the page repeats; the rest is on the asset's page."""

MAX_TABLES = 8
"""Classes whose own tables the page repeats."""


@dataclass(frozen=True)
class ClassLine:
    """One object class of a run, as its materialization (or its failure) tells."""

    stage: str
    object_class: str
    counts: Mapping[str, int]
    seconds: float = 0.0
    attention: str = ""
    failures: str = ""
    conflicts: str = ""
    braked: bool = False
    still_missing: int = 0
    netbox_requests: int = 0


@dataclass(frozen=True)
class Doubt:
    """A check of an object class that is not green; ``severity`` is Dagster's word."""

    object_class: str
    check: str
    severity: str


@dataclass
class RunStory:
    """One run over one endpoint, as far as it came."""

    job: str
    endpoint: str
    run_id: str
    dry_run: bool = False
    lines: list[ClassLine] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    """Step to the reason why it failed."""
    not_started: list[str] = field(default_factory=list)
    proxmox_requests: int | None = None
    doubts: list[Doubt] = field(default_factory=list)

    @property
    def total(self) -> dict[str, int]:
        return totals(line.counts for line in self.lines)

    @property
    def unaccounted(self) -> list[str]:
        """Object classes in which an object was seen and is in no outcome: a fault of this project."""
        return [line.object_class for line in self.lines if not is_accounted(line.counts)]

    @property
    def ok(self) -> bool:
        return not self.broken and not self.unaccounted and not self.total["failed"]

    @property
    def headline(self) -> str:
        """How the run ended, in one line."""
        total = self.total
        if self.broken:
            step, reason = next(iter(self.broken.items()))
            return f"stopped in {step}: {reason}"
        if self.unaccounted:
            return f"not every object is accounted for in {', '.join(self.unaccounted)}"
        if total["failed"]:
            where = ", ".join(f"{line.object_class} ({line.counts['failed']})" for line in self.lines if line.failures)
            return f"{some_failed(total['failed'])}: {where}"
        return result_line(total, dry_run=self.dry_run)


def some_failed(count: int) -> str:
    """The words for it."""
    return f"{count} {'object' if count == 1 else 'objects'} failed"


def totals(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Each count summed over object classes."""
    lines = list(counts)
    return {name: sum(line[name] for line in lines) for name in COUNTS}


def page(story: RunStory) -> str:
    """The whole page."""
    sign = "✓" if story.ok else "✗"
    parts = [
        f"## {sign} {story.job} of {story.endpoint}\n\n{story.headline}",
        f"![What changed, by stage]({data_uri(stage_chart(story.lines))})",
        _figures(story),
        *_section("What failed", _failed(story)),
        *_section("Look at this", _attention(story)),
        *_section("Changed by hand, and kept", _tables(story, "conflicts")),
        *_section("What to do next", [f"* {line}" for line in next_steps(story)]),
        *_section("What changed", _classes(story.lines)),
    ]
    return "\n\n".join(parts)


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"### {title}", *lines] if lines else []


def stage_chart(lines: Iterable[ClassLine]) -> str:
    """The chart of a run: a bar for each stage, with what of it changed in words."""
    stages: dict[str, list[ClassLine]] = {}
    for line in lines:
        stages.setdefault(line.stage, []).append(line)
    bars = []
    for stage, found in stages.items():
        counts = totals(line.counts for line in found)
        seconds = sum(line.seconds for line in found)
        said = [f"{counts[name]} {name}" for name in COLOURS if counts[name]]
        if counts["unchanged"]:
            said.append(f"{counts['unchanged']} unchanged")
        bars.append(Bar(stage.replace("_", " "), counts, ", ".join([*said, f"{seconds:.1f} s"])))
    return chart(bars)


def _figures(story: RunStory) -> str:
    seconds = sum(line.seconds for line in story.lines)
    requests = sum(line.netbox_requests for line in story.lines)
    words = [result_line(story.total, dry_run=story.dry_run), f"{seconds:.1f} s of planning and writing"]
    words += [f"{requests} requests to NetBox"]
    words += [f"{story.proxmox_requests} requests to Proxmox"] if story.proxmox_requests is not None else []
    return "; ".join(words) + f". Run `{story.run_id}`."


def _failed(story: RunStory) -> list[str]:
    lines = [f"* **{step}**: {reason}" for step, reason in story.broken.items()]
    if story.not_started:
        lines.append(f"* not started for it: {', '.join(story.not_started)}")
    if story.unaccounted:
        lines.append(f"* not accounted for: {', '.join(story.unaccounted)}; this is a fault of proxbox_dagster")
    return (["\n".join(lines)] if lines else []) + _tables(story, "failures")


def _tables(story: RunStory, name: str) -> list[str]:
    """The tables of that name of the first classes that have one, each shortened."""
    found: list[str] = []
    told = [(line.object_class, str(getattr(line, name))) for line in story.lines if getattr(line, name)]
    for object_class, text in told[:MAX_TABLES]:
        kept = text.splitlines()
        more = "\n\n… more on the asset's page" if len(kept) > MAX_TABLE + 2 else ""
        found += [f"**{object_class}**", "\n".join(kept[: MAX_TABLE + 2]) + more]
    if len(told) > MAX_TABLES:
        found.append(f"… and in {', '.join(name for name, _ in told[MAX_TABLES:])}")
    return found


def _attention(story: RunStory) -> list[str]:
    """What each class wants looked at; what a stage says of all of its classes, once."""
    said: dict[tuple[str, str], list[str]] = {}
    for line in story.lines:
        if line.attention:
            said.setdefault((line.stage, line.attention), []).append(line.object_class)
    classes = Counter(line.stage for line in story.lines)
    rows = [
        (stage, f"all {len(names)}" if 1 < len(names) == classes[stage] else ", ".join(names), whole(text))
        for (stage, text), names in said.items()
    ]
    stages = {line.object_class: line.stage for line in story.lines}
    rows += [
        (stages.get(item.object_class, ""), item.object_class, whole(f"{item.severity} of its check {item.check}"))
        for item in story.doubts
    ]
    return [table(("stage", "object class", "what"), rows)] if rows else []


def next_steps(story: RunStory) -> list[str]:
    """What an operator can do now, in the order of urgency."""
    steps = []
    if story.broken:
        steps.append(
            "Mend what stopped the run, then choose *Re-execute from failure* on its page: finished stages are not "
            "repeated, and whatever was written is found unchanged."
        )
    if any(line.braked for line in story.lines):
        steps.append(
            "More is gone than the brake allows. Look in Proxmox whether it really is; if so: "
            f"`proxbox-dagster sync --endpoint {story.endpoint} --override-brake`, once."
        )
    if story.total["failed"]:
        steps.append(
            "Mend the failed objects (the reasons are above) and start a new run. *Re-execute from failure* repeats no "
            "stage that has ended, and so none of these."
        )
    if any(line.conflicts for line in story.lines):
        steps.append(
            "Fields changed by hand stay until NetBox and Proxmox agree again. For good: "
            "`fields: {CLASS: {FIELD: create_only}}` leaves a field to people, `always` gives it to Proxmox."
        )
    if story.doubts:
        steps.append("Read the checks that are not green, under *Checks* of their object classes.")
    missing = sum(line.still_missing for line in story.lines)
    if missing:
        steps.append(
            f"{missing} objects are marked as missing. They are deleted only with `removal: {{default: delete}}`; the "
            "tag `proxbox-keep` keeps one for ever."
        )
    if story.ok and not steps:
        steps.append("Write it: run the same without `dry_run`." if story.dry_run else "Nothing: all is well.")
    return steps


def _classes(lines: Iterable[ClassLine]) -> list[str]:
    """The classes of which more can be said than that they are unchanged, with the counts that any of them has."""
    found = list(lines)
    telling = [line for line in found if is_telling(line.counts)]
    shown = [name for name in COUNTS if any(line.counts[name] for line in telling)]
    rows = [
        (
            line.stage,
            Raw(f"**{line.object_class}**"),
            *(line.counts[name] or "" for name in shown),
            f"{line.seconds:.1f}",
        )
        for line in telling
    ]
    quiet = sum(line.counts["seen"] for line in found if line not in telling)
    parts = [table(("stage", "object class", *shown, "seconds"), rows)] if rows else []
    return [*parts, f"{quiet} objects of other classes are unchanged."] if quiet else parts
