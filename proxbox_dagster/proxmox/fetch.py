"""One function per source: reads it and gathers its rows and gaps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from .fetch_backups import storage_content
from .fetch_cluster import backup_jobs, cluster_options, cluster_status, replication_jobs, storage
from .fetch_guests import container_interfaces, guest_agent, guest_configs, guest_snapshots, guests
from .fetch_nodes import node_networks, node_storage, nodes
from .fetch_tasks import node_tasks
from .normalise import Rows

if TYPE_CHECKING:
    from .session import ProxmoxSession

FETCHES: Final[Mapping[str, Callable[[ProxmoxSession, Rows], None]]] = {
    function.__name__: function
    for function in (
        cluster_status,
        nodes,
        storage,
        node_storage,
        guests,
        guest_configs,
        cluster_options,
        node_tasks,
        storage_content,
        guest_snapshots,
        node_networks,
        guest_agent,
        container_interfaces,
        replication_jobs,
        backup_jobs,
    )
}
"""Every source's function by the source's name."""
