"""``make bench``: see docs/performance.md."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proxbox_dagster.bench.plan import Plan, measure
from proxbox_dagster.bench.report import put, store

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def bench(
    guests: Annotated[
        list[int] | None, typer.Option(help="Size; may be repeated. Default: 73 and 300; 0: none.")
    ] = None,
    endpoints: Annotated[int, typer.Option(help="Clusters over which the guests are spread.")] = 1,
    clients: Annotated[int, typer.Option(help="netbox_max_concurrent, and the clients of the floors.")] = 1,
    workers: Annotated[int, typer.Option(help="Worker processes of NetBox.")] = 2,
    repeat: Annotated[int, typer.Option(help="Runs of each kind; medians are shown.")] = 3,
    latency: Annotated[list[float] | None, typer.Option(help="Milliseconds of Proxmox; may be repeated.")] = None,
    skip: Annotated[list[str] | None, typer.Option(help="A kind of run to leave out; may be repeated.")] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Profile one run of each kind instead.")] = False,
    large: Annotated[bool, typer.Option("--large", help="Also plan 1,000 and 10,000 guests, played back.")] = False,
    into: Annotated[Path | None, typer.Option(help="Also put the short tables into this page.")] = None,
    part: Annotated[str, typer.Option(help="Between <!-- PART --> and <!-- /PART --> of that page.")] = "default",
    out: Annotated[Path, typer.Option(help="Where results go.")] = Path("bench-results"),
) -> None:
    """Measure syncs against the floors of the same servers; store JSON and Markdown."""
    order = Plan(
        sizes=tuple(size for size in (guests or (73, 300)) if size),
        endpoints=endpoints,
        clients=clients,
        workers=workers,
        repeat=repeat,
        latencies=tuple(latency or (0.0,)),
        skip=frozenset(skip or ()),
        profile=out if profile else None,
        large=(1000, 10_000) if large else (),
    )
    results = measure(order, lambda line: typer.echo(line))
    if results:
        typer.echo(store(results, out))
        if into:
            put(results, into, part)


if __name__ == "__main__":
    app()
