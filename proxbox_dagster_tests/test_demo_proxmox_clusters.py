"""The shipped clusters, the made ones, and the reading of descriptions."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxbox_dagster.demo.proxmox import DEMO_CLUSTERS, Guest, load_cluster, make_cluster
from proxbox_dagster.demo.proxmox.loader import DescriptionError, read_cluster
from proxbox_dagster.demo.proxmox.state import parse_size

NIC_MODELS = """e1000 e1000-82540em e1000-82544gc e1000-82545em e1000e i82551 i82557b i82559er ne2k_isa ne2k_pci pcnet
    rtl8139 virtio vmxnet3""".split()  # noqa: SIM905
LOCKS = ["backup", "clone", "create", "disk", "migrate", "rollback", "snapshot", "snapshot-delete", "suspended"]


def _pairs(guests: list[Guest]) -> list[tuple[str, str]]:
    return [pair for guest in guests for pair in guest.config.items()]


@pytest.fixture(params=["odd", "made", "one node"], scope="module")
def guests(request: pytest.FixtureRequest) -> list[Guest]:
    makers = {
        "odd": lambda: load_cluster("odd"),
        "made": lambda: make_cluster("made", nodes=3, guests=60, seed=5),
        "one node": lambda: make_cluster("one", nodes=1, guests=70, seed=2),
    }
    return list(makers[request.param]().guests.values())


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        *((f"a disk at {key}", key, ".") for key in ("ide0", "sata5", "scsi30", "virtio15", "mp255", "rootfs")),
        *((f"a size in {unit}", ".", rf"size=\d+{unit}(,|$)") for unit in "KMGT"),
        ("an EFI disk of 528K", "efidisk0", "size=528K"),
        ("a TPM", "tpmstate0", "version=v2.0"),
        ("no medium", "sata0", "^none,media=cdrom"),
        ("the host's drive", "sata1", "^cdrom$"),
        ("an ISO image", "ide2", "iso/.*media=cdrom,size=4985424K"),
        ("a cloud-init drive", "ide2", "cloudinit,media=cdrom"),
        ("cloud-init with dhcp", "ipconfig1", "ip=dhcp,ip6=auto"),
        ("an unused disk", "unused1", "."),
        ("a passed-through disk", "scsi1", "^/dev/disk/by-id/.*size="),
        ("a passed-through disk of unknown size", "scsi2", "^/dev/disk/by-id/[^=]*$"),
        ("a file by its path", "sata0", r"^/mnt/.*\.raw"),
        ("a linked clone", "scsi0", "base-1006-disk-0/vm-1007-disk-0"),
        ("a linked clone of a file", "ide0", r"1006/base-1006-disk-0\.qcow2/1007/"),
        ("a prefix before the volume", "scsi1", "^file="),
        ("a disk without size", "scsi0", r"\.qcow2$"),
        *((f"a card {model}", r"net\d+", rf"^{model}=") for model in NIC_MODELS),
        ("the last card", "net31", "."),
        ("a VLAN", r"net\d+", r"tag=\d+"),
        ("trunks", "net0", "trunks=10;20;30-40"),
        ("a link that is down", "net2", "link_down=1"),
        ("the bridge's MTU", "net2", "mtu=1$"),
        ("a virtual network", "net3", "bridge=vnet100,.*queues=8,rate=12.5"),
        ("a card without bridge", "net0", "^virtio=[0-9A-F:]+$"),
        ("a card without MAC address", "net1", "^virtio,bridge="),
        ("a model and a MAC by name", "net2", "^model=e1000,macaddr="),
        ("a card in lower case", "net31", "virtio=bc:24"),
        ("a container with dhcp", "net0", "ip=dhcp,ip6=dhcp"),
        ("a container with nothing", "net0", "ip=manual,ip6=manual"),
        ("a container with fixed addresses", "net0", r"ip=[\d.]+/27,ip6=2001:"),
        ("a container with SLAAC", "net0", "ip6=auto"),
        ("a container's link that is down", "net0", "type=veth.*|link_down=1.*type=veth"),
        ("a bind mount", "mp0", "^/mnt/[^:]*,mp=/data$"),
        *((f"the lock {lock}", "lock", f"^{lock}$") for lock in LOCKS),
        *(
            (f"tags between {text!r}", "tags", text)
            for text in (r"\w;\w", r"\w,\w", r"\w \w", ", ", r"\+", r"\.", ";$")
        ),
        ("notes in many lines", "description", "\n.*\n"),
        ("long notes", "description", "(?s)^.{220}"),
        ("memory with a name", "memory", "^current="),
        ("part of a processor", "cpulimit", "0.5"),
        ("an unknown system", "ostype", "^l28$"),
        ("an unknown key", "future-option", "."),
        ("the agent with options", "agent", "^1,"),
        ("the agent off", "agent", "^0$"),
    ],
)
def test_every_odd_configuration_is_there(guests: list[Guest], kind: str, key: str, value: str) -> None:
    found = [pair for pair in _pairs(guests) if re.fullmatch(f"(?s){key}.*" if key == "." else key, pair[0])]
    assert any(re.search(value, text) for _, text in found), kind


def test_every_odd_guest_is_there(guests: list[Guest]) -> None:
    by_vmid = {guest.vmid: guest for guest in guests}
    assert len(by_vmid) >= 60
    assert {guest.status for guest in guests} == {"running", "stopped", "paused", "suspended", "prelaunch"}
    assert {guest.kind for guest in guests if guest.template} == {"qemu", "lxc"}
    assert {guest.kind for guest in guests if not guest.name} == {"qemu", "lxc"}
    assert sorted(guest.name for guest in guests if guest.name.lower() == "twin") == ["Twin", "twin", "twin", "twin"]
    assert max(len(guest.name) for guest in guests) > 64
    assert 999_999_999 in by_vmid
    assert any(guest.fresh for guest in guests)
    assert any(guest.pending and None in guest.pending.values() for guest in guests)
    assert any("net1" in guest.config and "net0" not in guest.config for guest in guests)
    assert any(not any(key.startswith("net") for key in guest.config) for guest in guests if guest.kind == "qemu")
    assert any(guest.lxc_raw for guest in guests)
    states = {snapshot.snapstate for guest in guests for snapshot in guest.snapshots.values()}
    assert states == {None, "prepare", "delete"}
    assert any(snapshot.snaptime == 0 for guest in guests for snapshot in guest.snapshots.values())
    assert any(snapshot.vmstate for guest in guests for snapshot in guest.snapshots.values())


def test_every_odd_agent_is_there(guests: list[Guest]) -> None:
    agents = [guest.agent for guest in guests if guest.agent]
    rows = [row for agent in agents for row in agent.interfaces]
    names = {row["name"] for row in rows}
    assert {agent.error["class"] for agent in agents if agent.error} == {"CommandDisabled", "Unsupported"}
    assert any(agent.hangs for agent in agents)
    assert any(not agent.running for agent in agents)
    assert any("ip-addresses" not in row for row in rows)
    assert any("hardware-address" not in row for row in rows)
    assert any("statistics" not in row for row in rows)
    addresses = [address for row in rows for address in row.get("ip-addresses", [])]
    assert any(address["prefix"] == -1 for address in addresses)
    assert any("%" in address["ip-address"] for address in addresses)
    assert {"docker0", "eth0:1", "vrrp.7", "eth0.30"} <= names
    assert {name[:4] for name in names} >= {"br-0", "veth", "cali"}
    macs = [row["hardware-address"] for row in rows if row["name"].startswith("cali")]
    assert set(macs) == {"ee:ee:ee:ee:ee:ee"}
    assert len(macs) == 2
    shared = [address["ip-address"] for address in addresses if address["ip-address"].endswith(".66")]
    assert len(shared) == 2  # two running machines report one address


def test_the_odd_cluster_has_a_node_that_is_off() -> None:
    cluster = load_cluster("odd")
    assert len(cluster.nodes) == 3
    assert len(cluster.guests) == 60
    assert [node.name for node in cluster.nodes.values() if not node.online] == ["pve3"]
    assert {guest.kind for guest in cluster.guests_on("pve3")} == {"qemu", "lxc"}
    assert cluster.quorate


def test_odd_tasks_backups_and_jobs() -> None:
    for cluster in (load_cluster("odd"), make_cluster("made", guests=60)):
        assert {backup.format for backup in cluster.all_backups()} >= {
            *("vma", "vma.gz", "vma.lzo", "vma.zst"),
            *("tgz", "tar.zst", "tar.bz2", "pbs-vm", "pbs-ct"),
        }
        assert any(backup.vmid is None for backup in cluster.all_backups())
        assert any(backup.vmid not in cluster.guests for backup in cluster.all_backups() if backup.vmid)
        states = {backup.verification["state"] for backup in cluster.all_backups() if backup.verification}
        assert states == {"ok", "failed"}
        statuses = {task.status for task in cluster.all_tasks()}
        assert {None, "OK", "WARNINGS: 3", "unexpected status"} <= statuses
        assert any(task.id == "" for task in cluster.all_tasks())
        assert any(task.tokenid for task in cluster.all_tasks())
        assert any(":" in name for name in cluster.backup_jobs)
        assert any("enabled" not in job.options for job in cluster.backup_jobs.values())
        assert any(job.last_sync is None for job in cluster.replication.values())
        assert any(job.error for job in cluster.replication.values())


def test_the_demonstration() -> None:
    ams1, lab = (load_cluster(name) for name in DEMO_CLUSTERS)
    assert list(ams1.nodes) == ["pve1", "pve2", "pve3"]
    assert not ams1.standalone
    assert lab.standalone
    assert list(lab.nodes) == ["pve1"]
    assert {guest.name for guest in lab.guests.values()} & {guest.name for guest in ams1.guests.values()} >= {"web01"}
    assert lab.guests.keys() & ams1.guests.keys()
    assert "color-map" in ams1.options["tag-style"]


def test_a_made_cluster_is_the_same_for_the_same_arguments() -> None:
    assert make_cluster("a", 3, 150, 4) == make_cluster("a", 3, 150, 4)
    assert make_cluster("a", 3, 150, 4) != make_cluster("a", 3, 150, 5)


@pytest.mark.parametrize(("nodes", "guests"), [(1, 0), (1, 5), (5, 59), (2, 200)])
def test_a_made_cluster_has_the_size_that_was_asked_for(nodes: int, guests: int) -> None:
    cluster = make_cluster("sized", nodes, guests)
    assert (len(cluster.nodes), len(cluster.guests), cluster.standalone) == (nodes, guests, nodes == 1)


def test_made_clusters_of_different_seeds_share_no_identity() -> None:
    def marks(seed: int) -> set[str]:
        cluster = make_cluster("x", 3, 120, seed)
        text = " ".join(value for guest in cluster.guests.values() for value in guest.config.values())
        text += " ".join(str(guest.agent) + str(guest.interfaces) for guest in cluster.guests.values())
        found = re.findall(r"(?i)bc:24:11:[0-9a-f:]{8}|uuid=[0-9a-f-]+|198\.\d+\.\d+\.\d+", text)
        return {mark.upper() for mark in found}

    first, second = marks(1), marks(2)
    assert len(first) > 200
    assert not first & second


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"guests": [{"qemu": 100, "node": "pve1", "nmae": "x"}]}, "guest qemu/100: unknown key nmae"),
        ({"guests": [{"qemu": 100, "node": "pve9"}]}, "guest qemu/100: no node 'pve9'"),
        ({"guests": [{"name": "x", "node": "pve1"}]}, "guest x: say qemu: VMID or lxc: VMID"),
        ({"guests": [{"qemu": 7, "node": "pve1"}, {"lxc": 7, "node": "pve1"}]}, "guest lxc/7: VMID taken twice"),
        ({"backups": [{"storage": "none", "time": 0}]}, "its storage is not described"),
        ({"colour": "red"}, "cluster: unknown key colour"),
        ({"now": "yesterday"}, "'yesterday' is no time"),
        ({"nodes": {"pve1": {"cpu": 3}}}, "node pve1: unknown key cpu"),
    ],
)
def test_a_wrong_description_says_where(change: dict[str, object], message: str) -> None:
    with pytest.raises(DescriptionError, match=re.escape(message)):
        read_cluster({"name": "x", "nodes": {"pve1": None}, **change})


def test_a_description_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nnodes: {a: {memory: 64G}}\nguests:\n- {lxc: 100, node: a, config: {onboot: true}}\n")
    cluster = load_cluster(path)
    assert cluster.nodes["a"].memory == 64 << 30
    assert cluster.guests[100].config == {"onboot": "1"}
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_cluster("nowhere")


@pytest.mark.parametrize(
    ("text", "size"), [("10G", 10 << 30), ("528K", 528 << 10), ("1.5T", 3 << 39), ("7", 7), (9, 9), ("4m", 4 << 20)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size
