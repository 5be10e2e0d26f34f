"""The table of what is read from Proxmox: each source with its path, columns, privilege and prerequisites.

Column names keep Proxmox's own spelling (``prune-backups``, ``next-run``). Cells are normalised to the declared type
because Proxmox flips between ``1``, ``"1"`` and ``""`` for the same field; ``None`` is known absent,
:data:`~proxbox_dagster.facts.UNOBSERVED` is not observed. The privileges are those of the API viewer of Proxmox VE 9.2.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final

from ..facts import UNOBSERVED, Fetched
from .source_model import Column, Source
from .source_model import columns_of as _columns

__all__ = ["SOURCES", "Column", "Source", "data_version"]

_GUEST = """
    node str the node that the guest is on
    type str qemu or lxc
    vmid int the guest's number, unique in its cluster"""

_INTERFACES = """
    node str the node that the guest is on
    vmid int the guest's number
    interfaces json list of {name, mac, addresses: [{address, prefix, family}]}; mac AA:BB:.. or null, family 4 or 6"""

_TABLE = (
    Source(
        "cluster_status",
        "/cluster/status",
        "The cluster and its members: names, addresses, online or not, quorum.",
        _columns("""
            type str cluster or node; a stand-alone host has no cluster row
            id str cluster or node/NAME
            name str name of the cluster or node
            nodeid int corosync's number of the node; 0 on a stand-alone host
            ip str address of the node in the cluster network
            level str subscription level of the node
            local ~bool the node that answered
            online bool node rows: part of the cluster now
            nodes int cluster row: number of members
            quorate bool cluster row: the cluster has quorum
            version int cluster row: version of the cluster's configuration"""),
        "cluster",
        "Sys.Audit on /",
    ),
    Source(
        "nodes",
        "/nodes",
        "The nodes with their size, and the version of Proxmox VE on each one that is online.",
        _columns("""
            node str name of the node
            id str node/NAME
            status str online, offline or unknown
            level str subscription level
            maxcpu int processors
            maxmem int memory, bytes
            maxdisk int size of the root file system, bytes
            ssl_fingerprint str SHA-256 of the node's certificate
            cpu ~float processor use, 0 to 1
            mem ~int memory in use, bytes
            disk ~int root file system in use, bytes
            uptime ~int seconds since the start
            version str version of Proxmox VE, as 9.1.4
            release str release of Proxmox VE, as 9.1
            repoid str short hash of the build"""),
        "node",
        "Sys.Audit on /nodes/{node} (sizes are left out without it)",
        ("cluster_status",),
    ),
    Source(
        "storage",
        "/storage",
        "The cluster's storage definitions.",
        _columns("""
            storage str name of the storage
            type str dir, nfs, lvmthin, zfspool, pbs, ...
            content str comma-separated contents: images,rootdir,backup,iso,...
            path str directory
            nodes str comma-separated nodes that it is restricted to; null: all
            shared bool one storage seen by all of its nodes
            disable bool switched off
            server str server of network storages
            port int port of the server
            username str user at the server
            export str NFS export
            share str CIFS share
            pool str ZFS or Ceph pool
            monhost str Ceph monitors
            namespace str namespace in a PBS datastore or Ceph pool
            datastore str PBS datastore
            subdir str subdirectory
            mountpoint str mount point
            is_mountpoint str yes, no, or the path that must be mounted
            preallocation str off, metadata, falloc, full
            format str default image format
            thinpool str LVM thin pool
            vgname str LVM volume group
            prune-backups str retention, as keep-last=3,keep-daily=7
            max-protected-backups int number of protected backups per guest; -1: unlimited
            raw json the whole entry, without digest"""),
        "cluster",
        "Datastore.Audit on /storage",
    ),
    Source(
        "node_storage",
        "/nodes/{node}/storage",
        "The storages as each online node sees them: active, size, use.",
        _columns("""
            node str name of the node
            storage str name of the storage
            type str dir, nfs, ...
            content str comma-separated contents
            active bool reachable from this node
            enabled bool not switched off
            shared bool one storage seen by all of its nodes
            total int size, bytes
            avail ~int free, bytes
            used ~int in use, bytes
            used_fraction ~float in use, 0 to 1"""),
        "node",
        "Datastore.Audit on /storage",
        ("cluster_status", "nodes"),
    ),
    Source(
        "guests",
        "/cluster/resources?type=vm",
        "The guests (QEMU and LXC, templates too) with name, node, state and size.",
        _columns(
            "id str qemu/100 or lxc/101"
            + _GUEST
            + """
            name str name, as the node broadcast it last
            status str running, stopped, paused, ...; unknown while the node gives no data
            template bool is a template
            maxcpu float processors
            maxmem int memory, bytes
            maxdisk int size of the root disk, bytes
            pool str pool
            tags str tags, separated by semicolons
            lock str backup, migrate, snapshot, ...
            hastate str state in the HA manager
            uptime ~int seconds since the start
            cpu ~float processor use, 0 to 1
            mem ~int memory in use, bytes
            disk ~int root disk in use (LXC), bytes
            others ~json in a narrowed run the [VMID, type, name] of the guests that it leaves out"""
        ),
        "cluster",
        "VM.Audit on /vms",
        ("cluster_status", "nodes"),
    ),
    Source(
        "guest_configs",
        "/nodes/{node}/{type}/{vmid}/config?current=1",
        "The configuration in force of every guest: disks, network cards, cloud-init, notes, tags.",
        _columns(_GUEST + "\n config json the configuration, keys as in Proxmox; without digest"),
        "guest",
        "VM.Audit on /vms/{vmid}",
        ("guests",),
    ),
    Source(
        "cluster_options",
        "/cluster/options",
        "The cluster's options, among them the colours of tags.",
        _columns("options json the options, keys as in Proxmox (tag-style, ...)"),
        "cluster",
        "none beyond a valid login",
    ),
    Source(
        "node_tasks",
        "/nodes/{node}/tasks",
        "The task history of every online node: the archive, and the tasks that are running.",
        _columns("""
            upid str unique id of the task
            node str the node that it ran on
            pid int process id
            pstart int start time of the process, ticks
            id str what it worked on: a VMID, a storage, or empty
            type str qmstart, vzdump, ...
            user str user@realm
            tokenid str API token of the user
            starttime int epoch seconds
            endtime int epoch seconds; null while it runs
            status str OK, WARNINGS: n, an error text; null while it runs
            running bool still running"""),
        "node",
        "Sys.Audit on /nodes/{node} (only own tasks are listed without it)",
        ("cluster_status", "nodes"),
    ),
    Source(
        "storage_content",
        "/nodes/{node}/storage/{storage}/content?content=backup",
        "The backups on every storage that holds backups; a shared storage is read once.",
        _columns("""
            node str the node that was asked; null for a shared storage
            storage str name of the storage
            volid str volume id, storage:path
            vmid int the guest that was backed up; null for a file that Proxmox did not name
            content str backup
            subtype str qemu or lxc
            format str vma.zst, tar.zst, pbs-vm, pbs-ct, ...
            ctime int time of the backup, epoch seconds
            size int bytes
            used int bytes on disk
            encrypted str fingerprint of the key, or 1
            verification json {state, upid} of the last verification by PBS
            notes str notes
            protected bool not to be pruned"""),
        "storage",
        "Datastore.AllocateSpace on /storage/{storage} with VM.Backup on /vms/{vmid} (or Datastore.Allocate)",
        ("storage", "node_storage", "guests"),
    ),
    Source(
        "guest_snapshots",
        "/nodes/{node}/{type}/{vmid}/snapshot",
        "The snapshots of every guest, without the entry for the present state.",
        _columns(
            _GUEST
            + """
            name str name of the snapshot
            description str description
            snaptime int epoch seconds
            parent str name of the snapshot before
            vmstate bool with the memory (QEMU)
            snapstate str prepare or delete: work on it was broken off"""
        ),
        "guest",
        "VM.Audit on /vms/{vmid}",
        ("guests",),
    ),
    Source(
        "node_networks",
        "/nodes/{node}/network",
        "The network configuration of every online node.",
        _columns("""
            node str name of the node
            iface str name of the interface
            type str bridge, bond, eth, vlan, alias, OVSBridge, OVSPort, OVSBond, OVSIntPort, vnet, ...
            active bool up
            autostart bool started at boot
            exists bool there is such a link
            method str static, manual, dhcp
            method6 str static, manual, dhcp, auto
            address str IPv4 address
            netmask str IPv4 prefix length or netmask
            cidr str IPv4 address with prefix length
            gateway str IPv4 gateway
            address6 str IPv6 address
            netmask6 str IPv6 prefix length
            cidr6 str IPv6 address with prefix length
            gateway6 str IPv6 gateway
            mtu int MTU
            bridge_ports str members of a bridge, separated by spaces
            bridge_vlan_aware bool VLAN-aware bridge
            bridge_vids str VLANs of a VLAN-aware bridge
            slaves str members of a bond, separated by spaces
            bond_mode str mode of a bond
            bond-primary str primary member of a bond
            vlan-id int VLAN id
            vlan-raw-device str the interface under a VLAN
            ovs_bridge str the OVS bridge of a port
            ovs_ports str ports of an OVS bridge, separated by spaces
            ovs_bonds str members of an OVS bond, separated by spaces
            ovs_tag int VLAN id of an OVS port
            ovs_options str options of an OVS port
            options json further lines of the IPv4 stanza
            options6 json further lines of the IPv6 stanza
            comments str comment lines
            comments6 str comment lines of the IPv6 stanza"""),
        "node",
        "SDN.Audit on /sdn/zones/localnetwork (bridges are left out without it)",
        ("cluster_status", "nodes"),
    ),
    Source(
        "guest_agent",
        "/nodes/{node}/qemu/{vmid}/agent/network-get-interfaces",
        "The network interfaces that the QEMU guest agent reports, of running guests with the agent enabled.",
        _columns(_INTERFACES),
        "guest",
        "VM.GuestAgent.Audit (Proxmox VE 9) or VM.Monitor (up to 8) on /vms/{vmid}",
        ("guests", "guest_configs", "nodes"),
    ),
    Source(
        "container_interfaces",
        "/nodes/{node}/lxc/{vmid}/interfaces",
        "The network interfaces of running containers.",
        _columns(_INTERFACES),
        "guest",
        "VM.Audit on /vms/{vmid}",
        ("guests",),
    ),
    Source(
        "replication_jobs",
        "/cluster/replication",
        "The replication jobs.",
        _columns("""
            id str GUEST-JOBNUM, as 100-0
            guest int VMID
            jobnum int number of the job
            type str local
            target str node that is replicated to
            source str node that is replicated from
            schedule str calendar event
            rate float limit, MB/s
            disable bool switched off
            remove_job str local or full: the job is being removed
            comment str comment
            raw json the whole entry, without digest"""),
        "cluster",
        "VM.Audit on /vms",
    ),
    Source(
        "backup_jobs",
        "/cluster/backup",
        "The backup jobs.",
        _columns("""
            id str id of the job
            type str vzdump
            enabled bool switched on; null means on
            schedule str calendar event
            dow str days of the week (before calendar events)
            starttime str time of day (before calendar events)
            next-run int epoch seconds
            node str the node that it is restricted to
            storage str storage that is written to
            all bool all guests
            vmid str comma-separated VMIDs
            pool str all guests of this pool
            exclude str comma-separated VMIDs left out
            mode str snapshot, suspend, stop
            compress str 0, gzip, lzo, zstd
            comment str comment
            notes-template str template of the notes
            prune-backups json retention, as {"keep-last": "4"} or keep-last=4
            maxfiles int retention (before prune-backups)
            bwlimit int limit, KiB/s
            ionice int priority
            zstd int threads of zstd
            pigz int threads of pigz
            performance json {"max-workers": .., "pbs-entries-max": ..}
            fleecing json {"enabled": .., "storage": ..}
            protected bool backups are protected
            repeat-missed bool run at once when a run was missed
            pbs-change-detection-mode str legacy, data, metadata
            mailto str mail addresses
            mailnotification str always, failure
            notification-mode str auto, legacy-sendmail, notification-system
            raw json the whole entry, without digest and next-run"""),
        "cluster",
        "Sys.Audit on /",
    ),
)

SOURCES: dict[str, Source] = {source.name: source for source in _TABLE}
"""Every source by its name; sources stand after those that they need."""


_UNORDERED: Final = frozenset({"content", "nodes", "tags", "bridge_ports", "slaves", "ovs_ports", "ovs_bonds"})
"""Lists in one string whose order means nothing; some are printed in that of a Perl hash, another one each time."""


def data_version(fetched: Fetched) -> str:
    """A hash of what was observed, the same for every order of the rows.

    Volatile columns and the wording of gaps are left out; which places are gaps, and why, counts.
    """
    stable = SOURCES[fetched.source].stable_columns
    lines = sorted(json.dumps(_plain({name: row[name] for name in stable}), sort_keys=True) for row in fetched.rows)
    gaps = sorted(json.dumps([gap.level, gap.name, gap.kind]) for gap in fetched.gaps)
    digest = hashlib.sha256()
    for line in (fetched.source, *lines, "gaps", *gaps):
        digest.update(line.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()[:32]


def _plain(value: Any) -> Any:
    """``value`` as JSON can hold it; not observed is told apart from every string."""
    if value is UNOBSERVED:
        return {"": "unobserved"}
    if isinstance(value, dict):
        return {str(key): _unordered(item) if key in _UNORDERED else _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)


def _unordered(value: Any) -> Any:
    return sorted(part for part in re.split(r"[,;\s]+", value) if part) if isinstance(value, str) else _plain(value)
