"""When Dagster materializes by itself: only what has changed in Proxmox, and what could not be finished."""

from __future__ import annotations

import dagster as dg


def changed_at_the_source() -> dg.AutomationCondition:
    """Requested once a source's data version has changed since it was last requested.

    Latched (``since``), so that a change that arrives while a run is under way is not lost; a failed run is requested
    again once (``newly_true``), not for ever; nothing is requested while the sources have never been observed.
    """
    condition = dg.AutomationCondition
    changed = condition.any_deps_updated().replace("newly_updated", condition.data_version_changed())
    latched = changed.since(condition.newly_requested() | condition.initial_evaluation())
    wanted = (
        latched
        | condition.code_version_changed()
        | condition.newly_missing()
        | condition.execution_failed().newly_true()
    )
    quiet = ~condition.in_progress() & ~condition.any_deps_in_progress()
    return (quiet & wanted & ~condition.any_deps_missing()).with_label("changed at the source")
