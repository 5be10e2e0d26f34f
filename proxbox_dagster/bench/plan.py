"""Which runs are measured, in which order, and what is compared with what."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from proxbox_dagster.bench.scale import scale
from proxbox_dagster.bench.world import BenchFailed, World
from proxbox_dagster.demo.netbox import NetBoxServer

Say = Callable[[str], None]
Figures = dict[str, Any]
CHANGED_PERCENT = 1


@dataclass(frozen=True)
class Plan:
    """What is asked for. ``profile``: the folder for profiles, instead of measurements."""

    sizes: tuple[int, ...] = (73, 300)
    endpoints: int = 1
    clients: int = 1
    workers: int = 2
    repeat: int = 3
    latencies: tuple[float, ...] = (0.0,)
    skip: frozenset[str] = field(default_factory=frozenset)
    profile: Path | None = None
    large: tuple[int, ...] = ()
    """Sizes that are only planned, over answers that are played back."""


def measure(plan: Plan, say: Say, netbox: NetBoxServer | None = None) -> Figures:
    """All figures; empty after a profile. Raises :class:`BenchFailed`."""
    if not plan.sizes:
        return {"machine": _machine(), "plan": _asked(plan), "scale": scale(plan.large), "sizes": []}
    with World(clients=plan.clients, workers=plan.workers, netbox=netbox) as world:
        if plan.repeat > 1:  # The first requests to a new NetBox load much of it: they are nobody's figures.
            world.clusters(3)
            world.sync()
        if plan.profile:
            _profile(plan, world, say)
            return {}
        sizes = [_size(plan, world, guests, say) for guests in plan.sizes]
    return {"machine": _machine(), "plan": _asked(plan), "scale": scale(plan.large), "sizes": sizes}


def _asked(plan: Plan) -> Figures:
    return {name: getattr(plan, name) for name in ("endpoints", "clients", "workers", "repeat")}


def _machine() -> Figures:
    return {"cpus": _cpus(), "python": platform.python_version(), "system": platform.platform()}


def _cpus() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return f"{len(models)} x {models[0]}" if models else platform.processor()


def _profile(plan: Plan, world: World, say: Say) -> None:
    assert plan.profile is not None
    plan.profile.mkdir(parents=True, exist_ok=True)
    for guests in plan.sizes:
        world.netbox.reset()
        world.clusters(guests, plan.endpoints, plan.latencies[0])
        orders: dict[str, dict[str, Any]] = {"cold": {}, "no-op": {}}
        for kind, order in orders.items():
            path = plan.profile / f"profile-{kind}-{guests}.txt"
            result = world.sync(profile=path, **order)
            say(f"{guests} guests, {kind}: {result['wall']:.1f} s under the profiler; see {path}")
            say("\n".join(path.read_text().splitlines()[:50]))


def _size(plan: Plan, world: World, guests: int, say: Say) -> Figures:
    world.netbox.reset()
    world.clusters(guests, plan.endpoints, plan.latencies[0])
    figures: Figures = {"guests": guests, "latency_ms": plan.latencies[0]}
    figures["cold"] = _cold(plan, world, guests, say)
    if "no-op" not in plan.skip:
        figures["no-op"] = _no_op(plan, world, guests, say)
    if "changed" not in plan.skip:
        figures["changed"] = _changed(plan, world, guests, say)
    if "one VM" not in plan.skip:
        figures["one VM"] = _one(plan, world, guests, say)
    figures["latencies"] = [_latency(plan, world, guests, found, say) for found in plan.latencies[1:]]
    return figures


def _cold(plan: Plan, world: World, guests: int, say: Say) -> Figures:
    """Floor and run in turn, each in an empty NetBox; NetBox holds the run's rows afterwards."""
    runs: list[Figures] = [world.sync(record=True)]
    say(f"{guests} guests, cold: {runs[0]['wall']:.1f} s")
    if "cold" in plan.skip:
        return _summary(runs)
    script = world.write_script()
    rows = world.row_counts()
    floors: list[Figures] = []
    for number in range(plan.repeat):
        world.netbox.reset()
        floors.append(world.bare_writes(script))
        say(f"{guests} guests, cold floor: {floors[-1]['wall']:.1f} s for {floors[-1]['count']} rows")
        if world.row_counts() != rows:
            raise BenchFailed(f"the floor made other rows than the run: {world.row_counts()}, not {rows}")
        if number:
            world.netbox.reset()
            runs.append(world.sync())
            say(f"{guests} guests, cold: {runs[-1]['wall']:.1f} s")
    if plan.repeat == 1:  # nothing of the floor's may stay
        world.netbox.reset()
        world.sync()
    return {
        **_summary(runs),
        "floor": _middle(floors),
        "floor_cpu": _middle(floors, "cpu"),
        "floor_netbox_cpu": _middle(floors, "netbox_cpu"),
        "floor_rows": floors[0]["count"],
        "floor_requests": len(script),
        "rows_by_path": rows,
    }


def _no_op(plan: Plan, world: World, guests: int, say: Say) -> Figures:
    runs: list[Figures] = []
    floors: dict[str, list[Figures]] = {"read": [], "read narrowed": [], "proxmox": []}
    for _ in range(plan.repeat):
        runs.append(_silent(world))
        floors["read"].append(world.bare_reads(narrowed=False))
        floors["read narrowed"].append(world.bare_reads(narrowed=True))
        floors["proxmox"].append(world.bare_proxmox(runs[-1]["proxmox_log"]))
        told = ", ".join(f"{name} {found[-1]['wall']:.1f} s" for name, found in floors.items())
        say(f"{guests} guests, no-op: {runs[-1]['wall']:.1f} s; floors: {told}")

    parts = {name: _middle(found) for name, found in floors.items()}
    return {**_summary(runs), "floors": parts, "floor": max(parts["read narrowed"], parts["proxmox"])}


def _silent(world: World) -> Figures:
    """A run that must write nothing."""
    result = world.sync()
    writes = {name: count for name, count in result["netbox_rows"].items() if not name.startswith("GET") and count}
    if writes or result["change_log_rows"]:
        raise BenchFailed(f"a run without changes wrote {writes}, {result['change_log_rows']} change-log rows")
    return result


def _changed(plan: Plan, world: World, guests: int, say: Say) -> Figures:
    """One guest in a hundred changes; the bare writes are the run's own lists, sent again from the same state.

    Each run has a run without changes beside it: what the changes cost is a small part of either, and servers get
    slower and faster within one bench by more than that.
    """
    runs: list[Figures] = []
    quiet: list[Figures] = []
    floors: list[Figures] = []
    for _ in range(2 * plan.repeat - 1):
        _change(world, "a")
        world.sync()
        changed = _change(world, "b")
        runs.append(world.sync(record=True))
        record = world.recorded()
        _change(world, "a")
        world.sync()
        script = [{**entry, "needs": [number - 1] if number else []} for number, entry in enumerate(record)]
        floors.append(world.bare_writes(script))
        _change(world, "b")
        quiet.append(_silent(world))  # the bare writes have brought NetBox there already
        say(
            f"{guests} guests, {changed} changed: {runs[-1]['wall']:.2f} s, without changes {quiet[-1]['wall']:.2f} s; "
            f"bare writes {floors[-1]['wall']:.2f} s"
        )
    return {
        **_summary(runs),
        "over": median(run["wall"] - beside["wall"] for run, beside in zip(runs, quiet, strict=True)),
        "quiet": [run["wall"] for run in quiet],
        "floor": _middle(floors),
        "floors": [run["wall"] for run in floors],
        "floor_rows": floors[0]["count"],
        "guests_changed": changed,
    }


def _change(world: World, to: str) -> int:
    return sum(simulator.ask(do="change", percent=CHANGED_PERCENT, to=to)["changed"] for simulator in world.simulators)


def _one(plan: Plan, world: World, guests: int, say: Say) -> Figures:
    runs = [world.sync(endpoints=[world.simulators[0].name], vmids=[2000]) for _ in range(plan.repeat)]
    say(f"{guests} guests, one VM: {median(run['wall'] for run in runs):.1f} s")
    return _summary(runs)


def _latency(plan: Plan, world: World, guests: int, latency: float, say: Say) -> Figures:
    """The no-op run again with a slower Proxmox. The clusters' ports change, and with them what NetBox has of them."""
    world.clusters(guests, plan.endpoints, latency)
    world.sync()
    figures = _no_op(plan, world, guests, say)
    return {"latency_ms": latency, "no-op": figures, "one VM": _one(plan, world, guests, say)}


def _middle(found: list[Figures], name: str = "wall") -> float:
    return median(float(entry[name]) for entry in found)


def _summary(runs: list[Figures]) -> Figures:
    """Medians of the times; counts of the last run."""
    last = runs[-1]
    requests: Counter[str] = Counter()
    for log in last["proxmox_log"].values():
        requests.update(f"{method} {_pattern(path)}" for method, path, _query, _status in log)
    return {
        **{name: _middle(runs, name) for name in ("wall", "cpu", "netbox_cpu", "peak_mib", "process")},
        "walls": [run["wall"] for run in runs],
        "phases": {
            name: median(run["phases"].get(name, 0.0) for run in runs)
            for name in {name for run in runs for name in run["phases"]}
        },
        "change_log_rows": last["change_log_rows"],
        "netbox_requests": last["netbox_requests"],
        "netbox_rows": last["netbox_rows"],
        "proxmox_requests": dict(requests.most_common()),
        "classes": last["classes"],
    }


def _pattern(path: str) -> str:
    """``/nodes/pve1/qemu/100/config`` as ``/nodes/*/qemu/*/config``."""
    parts = path.split("/")
    for position in range(2, len(parts)):
        if parts[position - 1] in ("nodes", "qemu", "lxc", "storage"):
            parts[position] = "*"
    return "/".join(parts)
