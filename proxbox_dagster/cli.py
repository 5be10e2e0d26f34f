"""``proxbox-dagster``: the jobs from a shell, with live progress for people and one JSON object for scripts."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from proxbox_dagster.settings import SettingsError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Keeps NetBox true to Proxmox VE. Settings: proxbox.yaml, or PROXBOX_CONFIG; see docs/configuration.md.",
)

Endpoints = Annotated[list[str] | None, typer.Option("--endpoint", help="Only this endpoint; may be repeated.")]
StageNames = Annotated[list[str] | None, typer.Option("--stage", help="Only this stage; may be repeated.")]
Vmids = Annotated[list[int] | None, typer.Option("--vmid", help="Only this guest; may be repeated.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else on standard output.")]
Override = Annotated[bool, typer.Option("--override-brake", help="Let this one run remove more than the brake allows.")]


CANCELLED_STATUS = 130
"""Exit status of a run that was cancelled: a shell's own for Ctrl-C."""


@app.command()
def sync(
    endpoint: Endpoints = None,
    stage: StageNames = None,
    vmid: Vmids = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Plan and count, write nothing.")] = False,
    override_brake: Override = False,
    as_json: AsJson = False,
) -> None:
    """Bring NetBox true to Proxmox. Exit status 0 only when every object is accounted for and none failed."""
    _run(endpoint, stage, vmid, dry_run=dry_run, override_brake=override_brake, as_json=as_json, show_changes=False)


@app.command()
def plan(
    endpoint: Endpoints = None,
    stage: StageNames = None,
    vmid: Vmids = None,
    override_brake: Override = False,
    as_json: AsJson = False,
) -> None:
    """Show field by field what a sync would change. Writes nothing."""
    _run(endpoint, stage, vmid, dry_run=True, override_brake=override_brake, as_json=as_json, show_changes=True)


def _run(
    endpoints: list[str] | None,
    stage_names: list[str] | None,
    vmids: list[int] | None,
    *,
    dry_run: bool,
    override_brake: bool,
    as_json: bool,
    show_changes: bool,
) -> None:
    # Dagster takes seconds to import; --help and usage errors should not.
    from proxbox_dagster.failures import EXPECTED
    from proxbox_dagster.sync import Order, sync_endpoints
    from proxbox_dagster.terminal import Terminal

    order = Order(
        endpoints=tuple(endpoints or ()),
        stages=tuple(_stage_name(name) for name in stage_names or ()),
        vmids=tuple(vmids or ()),
        dry_run=dry_run,
        override_brake=override_brake,
        changes=show_changes,
    )
    console = Console(stderr=as_json)
    try:
        quiet = as_json and not console.is_terminal
        with Terminal(console, show_changes=show_changes, quiet=quiet, stages=order.stages) as terminal:
            result = sync_endpoints(order, terminal)
    except EXPECTED as error:
        result = {"ok": False, "dry_run": dry_run, "endpoints": {}, "errors": [str(error)]}
        if not as_json:
            console.print("[red]✗[/red] ", end="")
            console.print(str(error), highlight=False, markup=False, soft_wrap=True)
    if as_json:
        sys.stdout.write(json.dumps(result) + "\n")
    raise typer.Exit(0 if result["ok"] else CANCELLED_STATUS if result.get("cancelled") else 1)


def _stage_name(text: str) -> str:
    """A stage in either spelling: ``virtual-machines`` or ``virtual_machines``."""
    from proxbox_dagster.stages import BY_NAME

    name = text.strip().lower().replace("-", "_")
    if name not in BY_NAME:
        raise typer.BadParameter(f"there is no stage {text!r}; stages are {', '.join(BY_NAME)}", param_hint="--stage")
    return name


@app.command()
def doctor() -> None:
    """Try everything that a run needs, without writing. A line each, with the remedy; exit status 1 when one fails."""
    from proxbox_dagster.doctor import examine
    from proxbox_dagster.rules import checked
    from proxbox_dagster.settings import load_settings

    console = Console()
    signs = {True: "[green]✓[/green]", None: "[yellow]![/yellow]", False: "[red]✗[/red]"}
    failed = False
    try:
        for finding in examine(checked(load_settings())):
            failed = failed or finding.ok is False
            console.print(f"{signs[finding.ok]} {finding.subject}: ", end="")
            console.print(finding.text, highlight=False, markup=False, soft_wrap=True)
    except SettingsError as error:
        failed = True
        console.print(f"{signs[False]} settings: ", end="")
        console.print(str(error), highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(1 if failed else 0)


@app.command()
def purge(
    endpoint: Annotated[list[str], typer.Option("--endpoint", help="Whose objects; may be repeated.")],
    yes: Annotated[bool, typer.Option("--yes", help="Really remove them; without it they are only listed.")] = False,
) -> None:
    """List, and with --yes remove, the NetBox objects that this project made for an endpoint. Nothing else."""
    from proxbox_dagster.failures import EXPECTED
    from proxbox_dagster.purge import Owned
    from proxbox_dagster.purge import purge as purge_endpoint
    from proxbox_dagster.rules import checked
    from proxbox_dagster.settings import load_settings

    console = Console()

    def tell(item: Owned) -> None:
        done = f"{item.deleted} of {len(item.rows)} removed" if yes else f"{len(item.rows)} to remove"
        console.print(f"{item.spec.name}: {done}", highlight=False, markup=False)
        for row in [] if yes else item.rows:
            console.print(f"  {item.label(row)}", highlight=False, markup=False)
        for reason in item.kept:
            console.print(f"  kept: {reason}", highlight=False, markup=False, soft_wrap=True)

    def warn(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    clean = True
    try:
        for name in endpoint:
            clean = purge_endpoint(checked(load_settings()), name, yes=yes, tell=tell, warn=warn) and clean
    except EXPECTED as error:
        clean = False
        console.print(f"✗ {error}", highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(0 if clean else 1)


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the run instead of serving until Ctrl-C.")] = False,
    home: Annotated[Path | None, typer.Option(help="Where the demo keeps what it installs.")] = None,
) -> None:
    """Run the main job against an embedded NetBox and two simulated Proxmox clusters, then serve both."""
    from proxbox_dagster.demo.run import run_demo

    raise typer.Exit(run_demo(once=once, home=home))


def main(argv: list[str] | None = None) -> Any:
    """The console script."""
    # What ends a service ends a run as Ctrl-C does: with its counts told.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return app(argv)


if __name__ == "__main__":
    main()
