"""A real NetBox with the netbox-proxbox plugin, installed and served without root, container or compiler."""

from proxbox_dagster.demo.netbox.errors import NetBoxError, NetBoxUnavailable
from proxbox_dagster.demo.netbox.server import NetBoxServer

__all__ = ["NetBoxError", "NetBoxServer", "NetBoxUnavailable"]
