"""Stage 11: replication jobs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from proxbox_dagster.facts import UNOBSERVED, Fetched, GapKind
from proxbox_dagster.netbox.spec import Desired, Outcome, Ref
from proxbox_dagster.scope import Scope
from proxbox_dagster.stages.replications import REPLICATION, STAGE
from proxbox_dagster.stages.stage import StageContext
from proxbox_dagster_tests.support.guest_data import CONTEXT, ENDPOINT, built, fetched, gap, guest, skip_of, told, vm


def job(name: str = "100-0", **row: Any) -> dict[str, Any]:
    vmid, _, number = name.partition("-")
    raw = {"id": name, "guest": int(vmid), "jobnum": int(number), "target": "pve2", "type": "local"}
    return {**raw, "raw": raw, **row}


def of(
    *jobs: dict[str, Any], context: StageContext = CONTEXT, guests: Fetched | None = None, gaps: Any = ()
) -> Desired:
    return built(
        STAGE,
        context,
        guests=guests or fetched("guests", [guest(100), guest(101, "lxc")]),
        replication_jobs=fetched("replication_jobs", jobs, gaps),
    )["replications"]


def test_a_job_field_by_field() -> None:
    raw = {"id": "101-9", "guest": "101", "jobnum": 9, "target": "pve2", "rate": "12.5", "disable": "1"}
    values = (
        of(
            job(
                "101-9",
                schedule="mon..fri 22:00",
                rate=12.5,
                comment="Größe",
                disable=True,
                source="pve1",
                remove_job="full",
                raw=raw,
            )
        )
        .rows[0]
        .values
    )
    assert values == {
        "cf.proxmox_endpoint": ENDPOINT,
        "tags": {"proxbox"},
        "endpoint": Ref("endpoints", (ENDPOINT,)),
        "replication_id": "101-9",
        "virtual_machine": vm(101, "lxc"),
        "guest": 101,
        "jobnum": 9,
        "target": "pve2",
        "proxmox_node": Ref("proxmox_nodes", (ENDPOINT, "pve2")),
        "source": "pve1",
        "job_type": "local",
        "schedule": "mon..fri 22:00",
        "rate": 12.5,
        "comment": "Größe",
        "disable": True,
        "remove_job": "full",
        "status": "active",
        "raw_config": {"id": "101-9", "guest": 101, "jobnum": 9, "target": "pve2", "rate": 12.5, "disable": 1},
    }
    assert set(values) == set(REPLICATION.by_name)


def test_what_a_job_does_not_say() -> None:
    values = of(job(jobnum=None, guest=None)).rows[0].values
    assert (values["guest"], values["jobnum"]) == (100, 0), "both are in the id"
    assert (values["schedule"], values["disable"]) == ("*/15", False), "Proxmox's own defaults"
    assert values["rate"] is values["comment"] is values["source"] is values["remove_job"] is None


def test_choices_that_the_plugin_does_not_know_are_left_alone() -> None:
    values = of(job(type="remote", remove_job="half", target=UNOBSERVED)).rows[0].values
    assert values["job_type"] is values["remove_job"] is values["proxmox_node"] is values["target"] is UNOBSERVED


def test_a_job_of_a_guest_that_is_gone_or_out_of_sight() -> None:
    hidden = gap("guest", "qemu/300", GapKind.PERMISSION, "the token lacks VM.Audit on /vms/300")
    made = of(job("200-0"), job("300-1"), guests=fetched("guests", [guest(100)], [hidden]))
    gone, unseen = skip_of(made, "guest 200 is not in the cluster"), skip_of(made, "lacks VM.Audit")
    assert (gone.outcome, gone.key) == (Outcome.SKIPPED, (ENDPOINT, "200-0"))
    assert unseen.key == (ENDPOINT, "300-1")


def test_only_a_complete_read_of_a_full_run_makes_jobs_stale() -> None:
    assert of(job()).coverage.everything
    assert REPLICATION.missing_status == "stale"
    assert REPLICATION.removal == "mark"
    narrowed = of(job(), context=replace(CONTEXT, scope=Scope(vmids=frozenset({100}))))
    shortened = of(job(), gaps=[gap("guest", "qemu/9", GapKind.PERMISSION)])
    assert not narrowed.coverage.everything
    assert not shortened.coverage.everything
    assert len(narrowed.rows) == len(shortened.rows) == 1


def test_the_order_of_jobs_makes_no_difference() -> None:
    jobs = [job("100-0"), job("100-1"), job("101-0")]
    assert told(of(*jobs).rows) == told(of(*reversed(jobs)).rows)
