"""A small family of object classes that uses everything a ModelSpec can say, for the pure tests of the core.

They are cut to size from NetBox's own models; the stages' specs are tested elsewhere. :data:`MODELS` describes the
same tables as NetBox sees them, for :class:`~proxbox_dagster_tests.support.fake_netbox.FakeNetBox`.
"""

from __future__ import annotations

from typing import Any

from proxbox_dagster.netbox.spec import (
    ENDPOINT_FIELD,
    OWNER_TAG,
    Coverage,
    Desired,
    FieldSpec,
    Kind,
    ModelSpec,
    ObjectClass,
    Ownership,
    Policy,
    Ref,
    Row,
    UniqueKey,
)
from proxbox_dagster_tests.support.fake_netbox import Model

ENDPOINT = "ams1"
OTHER = "fra1"
UUID = "AAAAAAAA-0000-0000-0000-{:012d}"

_OWNER = FieldSpec(ENDPOINT_FIELD, "the endpoint's name", limit=100)
_TAGS = FieldSpec("tags", "—", policy=Policy.CREATE_ONLY, kind=Kind.TAGS)

ROLE = ModelSpec(
    name="roles",
    path="dcim/device-roles",
    model="dcim.devicerole",
    identity=("slug",),
    fields=(
        FieldSpec("slug", "fixed", limit=100, required=True),
        FieldSpec("name", "fixed", policy=Policy.CREATE_ONLY, limit=100, required=True),
        FieldSpec("color", "fixed", limit=6),
        _TAGS,
    ),
    ownership=Ownership.SHARED,
    unique=(UniqueKey(("slug",), "slug"),),
    removal="ignore",
)

CUSTOM_FIELD = ModelSpec(
    name="custom_fields",
    path="extras/custom-fields",
    model="extras.customfield",
    identity=("name",),
    fields=(
        FieldSpec("name", "fixed", limit=50, required=True),
        FieldSpec("type", "fixed", policy=Policy.CREATE_ONLY, required=True),
        FieldSpec("object_types", "fixed", "added to those there are", kind=Kind.MEMBERS, required=True),
        FieldSpec("group_name", "fixed", policy=Policy.CREATE_ONLY, limit=50),
    ),
    ownership=Ownership.SHARED,
    shared_mark=("group_name", "Proxmox"),
    unique=(UniqueKey(("name",), "name"),),
    removal="ignore",
)

CLUSTER = ModelSpec(
    name="clusters",
    path="virtualization/clusters",
    model="virtualization.cluster",
    identity=(ENDPOINT_FIELD,),
    fields=(_OWNER, FieldSpec("name", "name", policy=Policy.MANAGED, limit=100, required=True), _TAGS),
    unique=(UniqueKey(("name",), "name"),),
    removal="ignore",
)

MACHINE = ModelSpec(
    name="virtual_machines",
    path="virtualization/virtual-machines",
    model="virtualization.virtualmachine",
    identity=(ENDPOINT_FIELD, "cf.proxmox_vm_type", "cf.proxmox_vm_id"),
    fields=(
        _OWNER,
        FieldSpec("cf.proxmox_vm_type", "type", limit=10, required=True),
        FieldSpec("cf.proxmox_vm_id", "vmid", required=True),
        FieldSpec("name", "name", policy=Policy.MANAGED, limit=64, required=True),
        FieldSpec("status", "status"),
        FieldSpec("cluster", "fixed", kind=Kind.REF, required=True),
        FieldSpec("role", "type", policy=Policy.MANAGED, kind=Kind.REF),
        FieldSpec("memory", "maxmem"),
        FieldSpec("vcpus", "maxcpu", kind=Kind.NUMBER),
        FieldSpec("disk", "config", policy=Policy.CREATE_ONLY),
        FieldSpec("serial", "smbios1 uuid", policy=Policy.MANAGED, limit=50),
        FieldSpec("description", "description", policy=Policy.MANAGED, limit=200),
        FieldSpec("comments", "description", policy=Policy.FILL_IF_EMPTY, limit=10_000),
        FieldSpec("tags", "tags", policy=Policy.MANAGED, kind=Kind.TAGS),
    ),
    unique=(UniqueKey(("name", "cluster"), "name__ie", casefold=True),),
    missing_status="decommissioning",
    proof=("serial", "name"),
    gives_way="name",
    children=(
        ("virtualization/virtual-disks", "virtual_machine_id"),
        ("virtualization/interfaces", "virtual_machine_id"),
    ),
)

PORT = ModelSpec(
    name="vm_interfaces",
    path="virtualization/interfaces",
    model="virtualization.vminterface",
    identity=("virtual_machine", "name"),
    fields=(
        _OWNER,
        FieldSpec("virtual_machine", "the guest", kind=Kind.REF, required=True),
        FieldSpec("name", "netN", limit=64, required=True),
        FieldSpec("enabled", "link_down"),
        FieldSpec("bridge", "bridge", kind=Kind.REF),
        FieldSpec("parent", "vlan device", kind=Kind.REF),
        FieldSpec("tagged_vlans", "trunks", policy=Policy.MANAGED, kind=Kind.REFS),
        FieldSpec("description", "name", policy=Policy.MANAGED, limit=200),
        _TAGS,
    ),
    parent="virtual_machine",
    removal="delete",
)

DISK = ModelSpec(
    name="virtual_disks",
    path="virtualization/virtual-disks",
    model="virtualization.virtualdisk",
    identity=("virtual_machine", "name"),
    fields=(
        _OWNER,
        FieldSpec("virtual_machine", "the guest", kind=Kind.REF, required=True),
        FieldSpec("name", "key", limit=64, required=True),
        FieldSpec("size", "size", required=True),
        FieldSpec("description", "volid", policy=Policy.MANAGED, limit=200),
        _TAGS,
    ),
    unique=(UniqueKey(("virtual_machine", "name"), "virtual_machine_id"),),
    parent="virtual_machine",
    summed_in="virtual_machine",
    removal="delete",
)

SNAPSHOT = ModelSpec(
    name="snapshots",
    path="plugins/proxbox/snapshots",
    model="netbox_proxbox.vmsnapshot",
    identity=("virtual_machine", "cf.proxbox_source"),
    fields=(
        _OWNER,
        FieldSpec("virtual_machine", "the guest", kind=Kind.REF, required=True),
        FieldSpec("cf.proxbox_source", "name", required=True),
        FieldSpec("name", "name", limit=40, required=True),
        FieldSpec("vmid", "vmid", required=True),
        FieldSpec("snaptime", "snaptime", kind=Kind.DATETIME),
        FieldSpec("config", "config", kind=Kind.JSON),
        FieldSpec("parent", "parent", kind=Kind.REF),
        FieldSpec("status", "fixed"),
        _TAGS,
    ),
    clash_field="name",
    parent="virtual_machine",
    missing_status="stale",
)

TASK = ModelSpec(
    name="task_history",
    path="plugins/proxbox/task-history",
    model="netbox_proxbox.vmtaskhistory",
    identity=("upid",),
    fields=(
        _OWNER,
        FieldSpec("upid", "upid", limit=255, required=True),
        FieldSpec("start_time", "starttime", kind=Kind.DATETIME, required=True),
        _TAGS,
    ),
    unique=(UniqueKey(("upid",), "upid"),),
    window="start_time",
    removal="ignore",
)

PRIMARY = ModelSpec(
    name="primary_disks",
    path=MACHINE.path,
    model=MACHINE.model,
    identity=MACHINE.identity,
    index=MACHINE.name,
    fields=(
        *(FieldSpec(name, "identity", policy=Policy.NEVER) for name in MACHINE.identity),
        FieldSpec("boot_disk", "boot", policy=Policy.MANAGED, kind=Kind.REF),
    ),
    update_only=True,
    removal="ignore",
)

SPECS = (ROLE, CUSTOM_FIELD, CLUSTER, MACHINE, PORT, DISK, SNAPSHOT, TASK, PRIMARY)
CLASSES = {spec.name: ObjectClass(spec.name, spec, spec.name, "") for spec in SPECS}

_OWNED = ("proxmox_endpoint", "proxbox_last_written", "proxbox_missing")

MODELS = (
    Model(ROLE.path, ("slug", "name", "color", "tags"), required=("slug", "name"), unique=(("slug",), ("name",))),
    Model(
        CUSTOM_FIELD.path,
        ("name", "type", "object_types", "group_name"),
        required=("name", "type", "object_types"),
        choices=("type",),
        unique=(("name",),),
    ),
    Model(CLUSTER.path, ("name", "tags"), required=("name",), custom=(*_OWNED, "rack"), unique=(("name",),)),
    Model(
        MACHINE.path,
        (
            "name",
            "status",
            "cluster",
            "role",
            "memory",
            "vcpus",
            "disk",
            "serial",
            "description",
            "comments",
            "tags",
            "boot_disk",
        ),
        required=("name",),
        refs=(("cluster", CLUSTER.path), ("role", ROLE.path), ("boot_disk", DISK.path)),
        choices=("status",),
        custom=(*_OWNED, "proxmox_vm_type", "proxmox_vm_id", "contact"),
        unique=(("name__ie", "cluster"),),
        defaults=(("status", "active"),),
        decimals=("vcpus",),
        limits=(("name", 64), ("description", 200)),
    ),
    Model(
        PORT.path,
        ("virtual_machine", "name", "enabled", "bridge", "parent", "tagged_vlans", "description", "tags"),
        required=("virtual_machine", "name"),
        refs=(("virtual_machine", MACHINE.path), ("bridge", PORT.path), ("parent", PORT.path)),
        many=(("tagged_vlans", ROLE.path),),
        custom=_OWNED,
        unique=(("virtual_machine", "name"),),
        defaults=(("enabled", True),),
        cascade=("virtual_machine",),
    ),
    Model(
        DISK.path,
        ("virtual_machine", "name", "size", "description", "tags"),
        required=("virtual_machine", "name", "size"),
        refs=(("virtual_machine", MACHINE.path),),
        custom=_OWNED,
        unique=(("virtual_machine", "name"),),
        cascade=("virtual_machine",),
    ),
    Model(
        SNAPSHOT.path,
        ("virtual_machine", "name", "vmid", "snaptime", "config", "parent", "status", "tags"),
        required=("virtual_machine", "name", "vmid"),
        refs=(("virtual_machine", MACHINE.path), ("parent", SNAPSHOT.path)),
        choices=("status",),
        custom=(*_OWNED, "proxbox_source"),
        unique=(("name", "vmid"),),
        cascade=("virtual_machine",),
    ),
    Model("extras/journal-entries", ("assigned_object_type", "assigned_object_id", "comments")),
    Model("extras/image-attachments", ("object_type", "object_id", "name")),
    Model("tenancy/contact-assignments", ("object_type", "object_id", "contact")),
    Model(
        TASK.path,
        ("upid", "start_time", "tags"),
        required=("upid", "start_time"),
        custom=_OWNED,
        unique=(("upid",),),
    ),
)


def cluster(name: str = "prod", endpoint: str = ENDPOINT, **values: Any) -> Row:
    return Row({ENDPOINT_FIELD: endpoint, "name": name, "tags": {OWNER_TAG}, **values}, name)


def cluster_ref(endpoint: str = ENDPOINT) -> Ref:
    return Ref("clusters", (endpoint,))


def role(slug: str, **values: Any) -> Row:
    return Row({"slug": slug, "name": slug.title(), "tags": {OWNER_TAG}, **values}, slug)


def machine(vmid: int, name: Any = "", *, endpoint: str = ENDPOINT, **values: Any) -> Row:
    """A guest; ``values`` take the place of the usual ones."""
    name = f"vm{vmid}" if name == "" else name
    usual: dict[str, Any] = {
        ENDPOINT_FIELD: endpoint,
        "cf.proxmox_vm_type": "qemu",
        "cf.proxmox_vm_id": vmid,
        "name": name,
        "status": "active",
        "cluster": cluster_ref(endpoint),
        "memory": 2048,
        "serial": UUID.format(vmid),
        "tags": {OWNER_TAG},
    }
    return Row({**usual, **values}, name or f"vm{vmid}")


def machine_ref(vmid: int, endpoint: str = ENDPOINT) -> Ref:
    return Ref("virtual_machines", (endpoint, "qemu", vmid))


def port(vmid: int, name: str, *, endpoint: str = ENDPOINT, **values: Any) -> Row:
    usual = {
        ENDPOINT_FIELD: endpoint,
        "virtual_machine": machine_ref(vmid, endpoint),
        "name": name,
        "enabled": True,
        "tags": {OWNER_TAG},
    }
    return Row({**usual, **values}, f"vm{vmid} {name}")


def port_ref(vmid: int, name: str) -> Ref:
    return Ref("vm_interfaces", (machine_ref(vmid), name))


def disk(vmid: int, name: str, size: int = 1024, *, endpoint: str = ENDPOINT, **values: Any) -> Row:
    usual = {
        ENDPOINT_FIELD: endpoint,
        "virtual_machine": machine_ref(vmid, endpoint),
        "name": name,
        "size": size,
        "tags": {OWNER_TAG},
    }
    return Row({**usual, **values}, f"vm{vmid} {name}")


def disk_ref(vmid: int, name: str, endpoint: str = ENDPOINT) -> Ref:
    return Ref("virtual_disks", (machine_ref(vmid, endpoint), name))


def snapshot(vmid: int, name: str, *, endpoint: str = ENDPOINT, **values: Any) -> Row:
    usual = {
        ENDPOINT_FIELD: endpoint,
        "virtual_machine": machine_ref(vmid, endpoint),
        "cf.proxbox_source": name,
        "name": name,
        "vmid": vmid,
        "status": "active",
        "tags": {OWNER_TAG},
    }
    return Row({**usual, **values}, f"vm{vmid} {name}")


def primary(vmid: int, target: Ref | None, endpoint: str = ENDPOINT) -> Row:
    key = dict(zip(MACHINE.identity, (endpoint, "qemu", vmid), strict=True))
    return Row({**key, "boot_disk": target}, f"vm{vmid} boot disk")


def wanted(name: str, *rows: Row, whole: bool = False, parents: frozenset[Ref] | None = None) -> Desired:
    """Desired rows of a class; ``whole``: the read covered everything."""
    coverage = Coverage(everything=whole, parents=parents or frozenset())
    return Desired(CLASSES[name], list(rows), coverage=coverage)
