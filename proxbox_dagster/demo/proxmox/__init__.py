"""A simulated Proxmox VE: one state model per cluster, answered over HTTPS as Proxmox answers it."""

from .builder import make_cluster
from .cluster import Cluster
from .faults import Fault
from .flavours import FLAVOURS
from .loader import DEMO_CLUSTERS, load_cluster
from .server import ProxmoxSimulator
from .state import (
    Agent,
    Backup,
    BackupJob,
    ContainerInterface,
    Guest,
    Node,
    Pool,
    ReplicationJob,
    Snapshot,
    Storage,
    Task,
)

__all__ = [
    "DEMO_CLUSTERS",
    "FLAVOURS",
    "Agent",
    "Backup",
    "BackupJob",
    "Cluster",
    "ContainerInterface",
    "Fault",
    "Guest",
    "Node",
    "Pool",
    "ProxmoxSimulator",
    "ReplicationJob",
    "Snapshot",
    "Storage",
    "Task",
    "load_cluster",
    "make_cluster",
]
