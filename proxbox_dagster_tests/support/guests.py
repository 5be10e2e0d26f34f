"""Guests that tests add to the simulated clusters."""

from __future__ import annotations

from proxbox_dagster.demo.proxmox import Guest


def new_guest(kind: str, vmid: int, name: str, number: int, node: str = "pve1", **config: str) -> Guest:
    """A guest that has nothing in common with any other: uuid, MAC address and disk of its own, by ``number``."""
    mac = f"BC:24:11:99:00:{number:02X}"
    own = {
        "qemu": {
            "net0": f"virtio={mac},bridge=vmbr0",
            "scsi0": f"ceph:vm-{vmid}-disk-9,size=4G",
            "smbios1": f"uuid=99000000-0000-4000-8000-0000000000{number:02x}",
        },
        "lxc": {"net0": f"name=eth0,bridge=vmbr0,hwaddr={mac},type=veth", "rootfs": f"ceph:vm-{vmid}-disk-9,size=2G"},
    }[kind]
    return Guest(kind, vmid, node, name=name, config={**own, "memory": "256", **config})
