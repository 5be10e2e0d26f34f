"""Answers about the cluster as a whole: version, status, resources, options, joining, pools, HA, permissions."""

from __future__ import annotations

from typing import Any

from .acl import NEW_PRIVILEGES, OLD_PRIVILEGES
from .call import Call
from .errors import PveError, died
from .figures import guest_figures, node_figures
from .spelling import flipped, split_tags, tags_on_wire
from .state import Guest, Node, Pool, Storage


def version(call: Call) -> dict[str, Any]:
    return node_version(call.local, call.cluster.options.get("console"))


def node_version(node: Node, console: str | None = None) -> dict[str, Any]:
    row = {"version": node.version, "release": node.release, "repoid": node.repoid}
    return row | ({"console": console} if console else {})


def status(call: Call) -> list[dict[str, Any]]:
    """A stand-alone host is one node row with nodeid 0 and no cluster row."""
    call.require("/", "Sys.Audit")
    cluster = call.cluster
    rows = [
        {
            "type": "node",
            "id": f"node/{node.name}",
            "name": node.name,
            "nodeid": 0 if cluster.standalone else node.nodeid,
            "local": int(node is call.local),
            "online": int(node.online),
            "level": node.level if node.broadcasting else "",
        }
        | ({"ip": node.ip} if node.ip is not None and node.resolves else {})
        for node in call.ordered(cluster.nodes.values())
    ]
    if cluster.standalone:
        return rows
    head = {
        "type": "cluster",
        "id": "cluster",
        "name": cluster.name,
        "nodes": len(cluster.nodes),
        "quorate": int(cluster.quorate),
        "version": cluster.config_version,
    }
    return [head, *rows]


def resources(call: Call) -> list[dict[str, Any]]:
    """Without a type everything; a caller sees only what it may audit, without being told."""
    kind = call.params.get("type")
    cluster, rows = call.cluster, []
    if kind is None:
        rows += [
            {"id": f"/pool/{pool.name}", "pool": pool.name, "type": "pool"}
            for pool in cluster.pools.values()
            if call.allows(f"/pool/{pool.name}", "Pool.Audit")
        ]
    if kind in (None, "vm"):
        rows += [_guest_row(call, g) for g in cluster.guests.values() if call.allows(f"/vms/{g.vmid}", "VM.Audit")]
    if kind in (None, "node"):
        rows += [node_row(call, node) for node in cluster.nodes.values()]
    if kind in (None, "storage"):
        rows += [
            _storage_row(call, storage, node)
            for storage in cluster.storages.values()
            if call.allows(f"/storage/{storage.name}", "Datastore.Audit")
            for node in cluster.nodes.values()
            if storage.serves(node.name)
        ]
    if kind in (None, "sdn") and call.flavour.name != "7.4" and call.allows("/sdn/zones/localnetwork", "SDN.Audit"):
        rows += [_zone_row(call, node) for node in cluster.nodes.values() if node.online]
    return call.ordered(rows)


def _guest_row(call: Call, guest: Guest) -> dict[str, Any]:
    """Where the guest is comes from the file system; name, state and sizes from its node's last broadcast."""
    cluster = call.cluster
    row: dict[str, Any] = {
        "id": f"{guest.kind}/{guest.vmid}",
        "vmid": guest.vmid,
        "node": guest.node,
        "type": guest.kind,
        "status": "unknown",
    }
    shown = guest if cluster.held is None else cluster.held.get(guest.vmid)
    if shown is not None and not shown.fresh and cluster.nodes[shown.node].broadcasting:
        row["name"] = shown.broadcast_name
        row["status"] = shown.status
        row["template"] = int(shown.template)
        row |= guest_figures(call, shown)
    for key in ("lock", "tags"):
        if key in guest.config:
            row[key] = guest.config[key]
    if "tags" in row:
        row["tags"] = tags_on_wire(call, row["tags"])
    pool = cluster.pool_of(guest.vmid)
    if pool is not None and call.allows(f"/pool/{pool}", "Pool.Audit"):
        row["pool"] = pool
    if guest.hastate is not None:
        row["hastate"] = guest.hastate
    return flipped(call, row, {"vmid", "template", "maxcpu", "maxmem", "maxdisk"})


def node_row(call: Call, node: Node) -> dict[str, Any]:
    """A node in lists: without sizes when the caller may not audit it, or when its last values have expired."""
    row: dict[str, Any] = {"id": f"node/{node.name}", "node": node.name, "type": "node"}
    row["status"] = ("online" if node.broadcasting else "unknown") if node.online else "offline"
    if node.broadcasting:
        row["level"] = node.level
        if call.allows(f"/nodes/{node.name}", "Sys.Audit"):
            row |= node_figures(call, node)
    return row


def _storage_row(call: Call, storage: Storage, node: Node) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": f"storage/{node.name}/{storage.name}",
        "storage": storage.name,
        "node": node.name,
        "type": "storage",
        "plugintype": storage.type,
        "status": "unknown",
        "shared": int(storage.shared),
        "content": call.joined(",", storage.content),
    }
    if node.broadcasting and node.name not in storage.unreachable:
        row |= {"status": "available", "maxdisk": storage.total, "disk": storage_used(call, storage, node.name)}
    return row


def storage_used(call: Call, storage: Storage, node: str) -> int:
    """Bytes in use; volatile. A shared storage has the same use on every node."""
    place = "" if storage.shared else node
    return int(storage.used * (0.95 + 0.1 * call.noise(f"{place}/{storage.name}")))


def _zone_row(call: Call, node: Node) -> dict[str, Any]:
    if not call.flavour.ha_rules:
        return {
            "id": f"sdn/{node.name}/localnetwork",
            "sdn": "localnetwork",
            "node": node.name,
            "type": "sdn",
            "status": "ok",
        }
    return {
        "id": f"network/{node.name}/zone/localnetwork",
        "network": "localnetwork",
        "network-type": "zone",
        "node": node.name,
        "type": "network",
        "status": "ok",
    }


def options(call: Call) -> dict[str, Any]:
    """The datacenter's options; without Sys.Audit only those that the web interface needs."""
    everything = dict(call.cluster.options)
    in_use = {tag for guest in call.cluster.guests.values() for tag in split_tags(guest.config.get("tags", ""))}
    everything["allowed-tags"] = sorted(in_use | set(everything.get("registered-tags", [])))
    if call.allows("/", "Sys.Audit"):
        return everything
    return {key: everything[key] for key in ("console", "tag-style", "allowed-tags") if key in everything}


def join_information(call: Call) -> dict[str, Any]:
    call.require("/", "Sys.Audit")
    cluster = call.cluster
    if cluster.standalone:
        raise PveError(424, "node is not in a cluster, no join info available!")
    members = [
        {
            "name": node.name,
            "nodeid": str(node.nodeid),
            "quorum_votes": "1",
            "ring0_addr": node.ip or node.name,
            "pve_addr": node.ip or node.name,
            "pve_fp": node.fingerprint,
        }
        for node in call.ordered(cluster.nodes.values())
    ]
    totem = {
        "cluster_name": cluster.name,
        "config_version": str(cluster.config_version),
        "interface": {"0": {"linknumber": "0"}},
        "ip_version": "ipv4-6",
        "secauth": "on",
        "version": "2",
    }
    return {"config_digest": "0" * 40, "nodelist": members, "preferred_node": call.local.name, "totem": totem}


def pools(call: Call) -> list[dict[str, Any]]:
    wanted = call.params.get("poolid")
    found = []
    for pool in call.ordered(call.cluster.pools.values()):
        if wanted in (None, pool.name) and call.allows(f"/pool/{pool.name}", "Pool.Audit"):
            row: dict[str, Any] = {"poolid": pool.name} | ({"comment": pool.comment} if pool.comment else {})
            found.append(row | ({"members": _members(call, pool)} if wanted else {}))
    return found


def pool(call: Call) -> dict[str, Any]:
    name = call.params["poolid"]
    call.require(f"/pool/{name}", "Pool.Audit")
    if name not in call.cluster.pools:
        raise died(f"pool '{name}' does not exist")
    found = call.cluster.pools[name]
    return {"members": _members(call, found)} | ({"comment": found.comment} if found.comment else {})


def _members(call: Call, pool: Pool) -> list[dict[str, Any]]:
    cluster = call.cluster
    kind = call.params.get("type")
    guests = [cluster.guests[vmid] for vmid in sorted(pool.guests) if vmid in cluster.guests]
    rows = [_guest_row(call, guest) for guest in guests if kind in (None, guest.kind)]
    if kind in (None, "storage"):
        rows += [
            _storage_row(call, cluster.storages[name], node)
            for name in sorted(pool.storages & cluster.storages.keys())
            for node in cluster.nodes.values()
            if cluster.storages[name].serves(node.name)
        ]
    return call.ordered(rows)


def permissions(call: Call) -> dict[str, dict[str, int]]:
    """What the caller may do, by path."""
    cluster = call.cluster
    if "path" in call.params:
        paths = [call.params["path"]]
    else:
        top = {"/", "/access", "/nodes", "/pool", "/sdn", "/storage", "/vms"}
        paths = sorted(top | cluster.acl.entries.keys())
    held = {path: cluster.acl.at(path) for path in paths}
    unknown = OLD_PRIVILEGES if call.flavour.ha_rules else NEW_PRIVILEGES
    return {path: dict.fromkeys(names - unknown, 1) for path, names in held.items() if names - unknown}


def ha_resources(call: Call) -> list[dict[str, Any]]:
    call.require("/", "Sys.Audit")
    rows = [
        {"sid": sid, "type": sid.split(":")[0], "digest": "0" * 40, **values}
        for sid, values in call.cluster.ha_resources.items()
    ]
    kind = call.params.get("type")
    return call.ordered(row for row in rows if kind in (None, row["type"]))


def ha_groups(call: Call) -> list[dict[str, Any]]:
    call.require("/", "Sys.Audit")
    if call.flavour.ha_rules:
        raise died("cannot index groups: ha groups have been migrated to rules")
    groups = sorted({values["group"] for values in call.cluster.ha_resources.values() if "group" in values})
    nodes = ",".join(call.cluster.nodes)
    return [{"group": group, "type": "group", "nodes": nodes, "digest": "0" * 40} for group in groups]


def ha_rules(call: Call) -> list[dict[str, Any]]:
    call.require("/", "Sys.Audit")
    by_group: dict[str, list[str]] = {}
    for sid, values in call.cluster.ha_resources.items():
        if "group" in values:
            by_group.setdefault(values["group"], []).append(sid)
    nodes = ",".join(call.cluster.nodes)
    return call.ordered(
        {"rule": group, "type": "node-affinity", "resources": ",".join(sids), "nodes": nodes, "digest": "0" * 40}
        for group, sids in by_group.items()
    )


def ha_status(call: Call) -> list[dict[str, Any]]:
    call.require("/", "Sys.Audit")
    cluster = call.cluster
    text = "OK" if cluster.quorate else "No quorum on node '" + call.local.name + "'!"
    rows: list[dict[str, Any]] = [
        {"id": "quorum", "type": "quorum", "node": call.local.name, "status": text, "quorate": int(cluster.quorate)}
    ]
    for node in cluster.nodes.values():
        state = "idle" if node.online else "old timestamp - dead?"
        rows.append({"id": f"lrm:{node.name}", "type": "lrm", "node": node.name, "status": f"{node.name} ({state})"})
    for name in cluster.ha_strangers:
        text = f"{name} (unable to read lrm status)"
        rows.append({"id": f"lrm:{name}", "type": "lrm", "node": name, "status": text})
    for sid in cluster.ha_resources:
        guest = cluster.guests.get(int(sid.split(":")[1]))
        if guest is not None:
            text = f"{sid} ({guest.node}, {guest.hastate})"
            row = {"id": f"service:{sid}", "sid": sid, "type": "service", "node": guest.node, "status": text}
            rows.append(row | {"state": guest.hastate})
    return rows
