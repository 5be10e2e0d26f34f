"""Where people have put clusters, nodes and guests: their sites in NetBox, which bind what is under them.

NetBox takes a node of another site than its cluster's for an error, and a VLAN of another site than its interface's.
"""

from __future__ import annotations

from typing import Any

from proxbox_dagster.netbox.spec import Ref
from proxbox_dagster.netbox.state import NetBoxState
from proxbox_dagster.stages.devices_specs import CLUSTER


class Places:
    """Asks what NetBox holds of one endpoint, and reads a table when it is first asked about a row of it."""

    def __init__(self, state: NetBoxState) -> None:
        self._state = state

    def cluster(self) -> str | None:
        """Slug of the site of this endpoint's cluster; ``None`` where NetBox has none or no site of it.

        Raises :class:`NetBoxError`.
        """
        self._state.load(CLUSTER)
        for row in self._state.rows(CLUSTER):
            if self._state.owner_of(row) == self._state.endpoint and row.get("scope_type") == "dcim.site":
                return _slug(row.get("scope"))
        return None

    def differ(self, configured: str | None) -> str | None:
        """What to tell an operator whose settings name another site than NetBox has the cluster in."""
        found = self.cluster()
        if found is None or configured in (None, found):
            return None
        return (
            f"NetBox has the cluster in site {found}, which is used; the settings' site {configured} is for new "
            "clusters only. To move it, move its nodes and the cluster in NetBox"
        )

    def __call__(self, ref: Ref) -> str | None:
        """Slug of the site of a node's device or a guest's virtual machine; ``None`` where NetBox has neither.

        Raises :class:`NetBoxError`.
        """
        target = self._state.resolve(ref)
        row = self._state.row(self._state.base(ref.index), target) if isinstance(target, int) else None
        return _slug(row.get("site")) if row else None


def _slug(site: Any) -> str | None:
    return str(site["slug"]) if isinstance(site, dict) and site.get("slug") else None
