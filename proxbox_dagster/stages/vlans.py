"""VLAN membership of interfaces in NetBox's terms, for nodes and guests alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from proxbox_dagster.netbox.spec import Desired, ObjectClass, Ref, Row
from proxbox_dagster.stages.common import OWNER_TAGS, SHARED
from proxbox_dagster.stages.network_specs import vlan_ref

MOST_TAGGED = 64
"""More tagged VLANs than this are 'tagged (all)': a trunk of 2-4094 is no list of 4,093 VLANs worth keeping."""

FIRST, LAST = 1, 4094
"""The VLAN ids that NetBox and 802.1Q know."""


@dataclass(frozen=True)
class Dot1q:
    """NetBox's 802.1Q mode of an interface, with its untagged and tagged VLAN ids."""

    mode: str | None = None
    untagged: int | None = None
    tagged: tuple[int, ...] = ()

    @property
    def vids(self) -> frozenset[int]:
        return frozenset(self.tagged) | ({self.untagged} if self.untagged is not None else set())

    def fields(self, site: Ref) -> dict[str, Any]:
        """The three fields of an interface; what does not apply is cleared."""
        return {
            "mode": self.mode,
            "untagged_vlan": None if self.untagged is None else vlan_ref(site, self.untagged),
            "tagged_vlans": tuple(vlan_ref(site, vid) for vid in self.tagged),
        }


def dot1q(untagged: int | None, tagged: Iterable[int] = ()) -> Dot1q:
    """No VLAN: no mode. One untagged: access. Any tagged: tagged, or tagged (all) for more than :data:`MOST_TAGGED`."""
    rest = frozenset(tagged) - {untagged}
    if not rest:
        return Dot1q("access", untagged) if untagged is not None else Dot1q()
    if len(rest) > MOST_TAGGED:
        return Dot1q("tagged-all", untagged)
    return Dot1q("tagged", untagged, tuple(sorted(rest)))


def ids_of(ranges: Iterable[tuple[int, int]]) -> frozenset[int]:
    """The VLAN ids in ranges with both ends included; 0 and 4095, which are no VLANs, are left out."""
    return frozenset(vid for low, high in ranges for vid in range(max(low, FIRST), min(high, LAST) + 1))


def spelled(ranges: Iterable[tuple[int, int]]) -> str:
    """Ranges for people: ``10, 20, 30-40``."""
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)


def desired_vlans(object_class: ObjectClass, used: Iterable[tuple[Ref, Dot1q]]) -> Desired:
    """The VLANs that interfaces need, each with the site that its interface is in."""
    needed = sorted({(vid, site) for site, item in used for vid in item.vids}, key=lambda pair: (pair[0], pair[1].key))
    rows = [
        Row({"vid": vid, "site": site, "name": f"VLAN {vid}", "status": "active", "tags": OWNER_TAGS}, f"VLAN {vid}")
        for vid, site in needed
    ]
    return Desired(object_class, rows, coverage=SHARED)
