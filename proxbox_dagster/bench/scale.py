"""What planning costs at 1,000 and 10,000 guests: runs without Dagster over answers that are played back.

Each step runs in a fresh process (``python -m proxbox_dagster.bench.scale JOB``, a file with one JSON object): first
the answers are made, then a run reads, maps and plans against all of NetBox's rows, and one against an empty NetBox.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from proxbox_dagster.bench.replay import make, replayed, run_stages


def scale(sizes: Sequence[int]) -> list[dict[str, Any]]:
    """The figures of each size: ``rows`` in NetBox, and of both runs ``objects``, ``cpu`` (seconds), ``peak_mib``."""
    found: list[dict[str, Any]] = []
    for guests in sizes:
        with tempfile.TemporaryDirectory(prefix="proxbox-scale-") as folder:
            kept = str(Path(folder) / "answers.sqlite")
            made = _child(folder, do="make", guests=guests, kept=kept)
            runs = {name: _child(folder, do="run", kept=kept, empty=name == "cold") for name in ("no-op", "cold")}
        found.append({"guests": guests, **made, **runs})
    return found


def _child(folder: str, **job: Any) -> dict[str, Any]:
    order, result = Path(folder) / "job.json", Path(folder) / "result.json"
    order.write_text(json.dumps({**job, "result": str(result)}))
    subprocess.run([sys.executable, "-m", "proxbox_dagster.bench.scale", str(order)], check=True)
    answer: dict[str, Any] = json.loads(result.read_text())
    return answer


def main(job: dict[str, Any]) -> None:
    """One step, in this process."""
    kept = Path(job["kept"])
    Path(job["result"]).write_text(
        json.dumps({"rows": make(job["guests"], kept)} if job["do"] == "make" else _run(kept, empty=job["empty"]))
    )


def _run(kept: Path, *, empty: bool) -> dict[str, Any]:
    run = replayed(kept, empty=empty)
    cpu, wall = time.process_time(), time.perf_counter()
    run_stages(run)
    return {
        "cpu": time.process_time() - cpu,
        "wall": time.perf_counter() - wall,
        "objects": sum(report.seen for report in run.reports.values()),
        "changes": sum(report.created + report.updated for report in run.reports.values()),
        "failed": sum(report.failed for report in run.reports.values()),
        "netbox_requests": sum(run.netbox.requests.values()),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
