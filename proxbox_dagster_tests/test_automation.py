"""What Dagster materializes by itself: conditions evaluated over a real instance, runs executed, no server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import Any

import dagster as dg
import pytest

from proxbox_dagster.assembly import build_definitions
from proxbox_dagster.code_version import code_version
from proxbox_dagster.jobs import FULL_UPDATE
from proxbox_dagster.keys import class_key, source_key
from proxbox_dagster.proxmox.sources import SOURCES
from proxbox_dagster.sensors import swept
from proxbox_dagster.stages import BY_NAME, STAGES
from proxbox_dagster_tests.support.fake_run import FakeWorld
from proxbox_dagster_tests.support.graph import two_endpoints

Requests = dict[str, set[str]]
SWEPT = swept("nodes")
pytestmark = pytest.mark.real
EVERYTHING = {item.name for stage in STAGES for item in stage.object_classes}


def classes(*stages: str) -> set[str]:
    return {item.name for name in stages for item in BY_NAME[name].object_classes}


def readers(source: str) -> set[str]:
    """The object classes of the stages that read a source."""
    return classes(*(stage.name for stage in STAGES if source in stage.sources))


class Automation:
    """The switched on automation: ``tick()`` gives what it requests, as endpoint to object classes."""

    def __init__(self, world: FakeWorld, instance: dg.DagsterInstance) -> None:
        self.world, self.instance = world, instance
        self.definitions = build_definitions(world.settings)
        self.cursor: Any = None
        self.now = datetime(2026, 6, 1, 12, 5, tzinfo=UTC)

    def sweep(self, *endpoints: str) -> None:
        """What the observation sensor notes."""
        for endpoint in endpoints or self.world.settings.endpoint_names:
            for name in SWEPT:
                tags = {"dagster/data_version": self.world.version(endpoint, name)}
                event = dg.AssetObservation(source_key(name), partition=endpoint, tags=tags)
                self.instance.report_runless_asset_event(event)

    def tick(self, minutes: float = 0.5) -> Requests:
        self.now += timedelta(minutes=minutes)
        result = dg.evaluate_automation_conditions(
            self.definitions,
            self.instance,
            asset_selection=dg.AssetSelection.key_prefixes(["netbox"]),
            evaluation_time=self.now,
            cursor=self.cursor,
        )
        self.cursor = result.cursor
        found: Requests = {}
        for key in self.definitions.resolve_asset_graph().materializable_asset_keys:
            for endpoint in result.get_requested_partitions(key):
                found.setdefault(str(endpoint), set()).add(key.path[-1])
        return found

    def run(self, requested: Requests, **config: Any) -> list[dg.ExecuteInProcessResult]:
        """Do what was requested, a run per endpoint, as the daemon does."""
        job = self.definitions.resolve_implicit_global_asset_job_def()
        return [
            job.execute_in_process(
                instance=self.instance,
                partition_key=endpoint,
                asset_selection=[class_key(name) for name in sorted(names)],
                run_config={"resources": {"proxbox": {"config": config}}},
                raise_on_error=False,
            )
            for endpoint, names in requested.items()
        ]

    def full_update(self, endpoint: str, **config: Any) -> dg.ExecuteInProcessResult:
        return self.definitions.resolve_job_def(FULL_UPDATE).execute_in_process(
            instance=self.instance,
            partition_key=endpoint,
            run_config={"resources": {"proxbox": {"config": config}}},
            raise_on_error=False,
        )


@contextmanager
def switched_on() -> Iterator[Automation]:
    """Nothing observed, nothing made, switched on just now."""
    world = FakeWorld(two_endpoints())
    with pytest.MonkeyPatch.context() as monkeypatch, dg.DagsterInstance.ephemeral() as instance:
        world.install(monkeypatch)
        yield Automation(world, instance)


@pytest.fixture
def automation() -> Iterator[Automation]:
    with switched_on() as automation:
        yield automation


@pytest.fixture(scope="module")
def shared() -> Iterator[Automation]:
    with switched_on() as automation:
        automation.sweep()
        for endpoint in automation.world.settings.endpoint_names:
            assert automation.full_update(endpoint).success
        yield automation


@pytest.fixture
def settled(shared: Automation) -> Automation:
    """Both endpoints observed and brought true, and the automation has seen it."""
    shared.world.content.clear()
    shared.world.on_write = lambda stage, object_class: None
    shared.sweep()
    while requested := shared.tick(60):
        shared.run(requested)
        shared.sweep()
    return shared


def test_never_observed_nothing_is_requested(automation: Automation) -> None:
    assert automation.tick() == {}
    assert automation.tick(60) == {}


def test_the_first_observation_requests_everything_once_in_a_run_per_endpoint(automation: Automation) -> None:
    assert automation.tick() == {}
    automation.sweep("ams1")
    requested = automation.tick()
    assert requested == {"ams1": EVERYTHING}
    assert all(result.success for result in automation.run(requested))
    assert automation.tick() == {}
    automation.sweep("lab")
    assert automation.tick() == {"lab": EVERYTHING}


def test_observed_before_it_was_switched_on(automation: Automation) -> None:
    automation.sweep()
    assert automation.tick() == {"ams1": EVERYTHING, "lab": EVERYTHING}


def test_after_a_full_update_nothing_is_left_to_do(settled: Automation) -> None:
    assert settled.tick() == {}
    assert settled.tick(60) == {}


def test_no_change(settled: Automation) -> None:
    for _ in range(3):
        settled.sweep()
        assert settled.tick() == {}


def test_one_endpoint_changed(settled: Automation) -> None:
    settled.world.content["lab", "guests"] = "one more"
    settled.sweep()
    requested = settled.tick()
    assert requested == {"lab": readers("guests")}
    settled.world.written.clear()
    assert all(result.success for result in settled.run(requested))
    assert {name for _, name in settled.world.written} == readers("guests")
    settled.sweep()
    assert settled.tick() == {}


def test_a_change_of_one_source_requests_its_readers_alone(settled: Automation) -> None:
    for pair in zip_longest(SWEPT[::2], SWEPT[1::2]):  # each on an endpoint of its own
        changed = {endpoint: source for endpoint, source in zip(("ams1", "lab"), pair, strict=True) if source}
        for endpoint, source in changed.items():
            settled.world.content[endpoint, source] = "changed"
        settled.sweep()
        requested = settled.tick()
        assert requested == {endpoint: readers(source) for endpoint, source in changed.items()}
        assert all(result.success for result in settled.run(requested))
        assert settled.tick() == {}, "nothing follows from what was written"


def test_the_network_of_a_node_concerns_no_storage_disk_or_backup(settled: Automation) -> None:
    settled.world.content["ams1", "node_networks"] = "another bridge"
    settled.sweep()
    [requested] = settled.tick().values()
    assert requested == classes("node_interfaces", "vm_interfaces", "vm_ip_addresses")


def test_what_an_upgrade_maps_in_another_way_is_requested_once(
    settled: Automation, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = settled.definitions
    monkeypatch.setattr(
        "proxbox_dagster.assets.code_version",
        lambda stage, item: "new" if stage.name == "snapshots" else code_version(stage, item),
    )
    settled.definitions = build_definitions(settled.world.settings)
    try:
        requested = settled.tick()
        assert requested == {name: classes("snapshots") for name in settled.world.settings.endpoint_names}
        assert all(result.success for result in settled.run(requested))
        assert settled.tick(60) == {}
    finally:
        settled.definitions = before
        for endpoint in settled.world.settings.endpoint_names:
            assert settled.full_update(endpoint).success


def test_a_change_during_a_run_is_not_lost(settled: Automation) -> None:
    world = settled.world
    world.content["ams1", "storage"] = "first"
    settled.sweep()
    requested = settled.tick()
    assert requested == {"ams1": readers("storage")}

    during: Requests = {}

    def meanwhile(stage: str, object_class: str) -> None:
        if object_class == "backups":  # the run has read the storages by now
            world.content["ams1", "storage"] = "second"
            settled.sweep()
            during.update(settled.tick())

    world.on_write = meanwhile
    assert all(result.success for result in settled.run(requested))
    world.on_write = lambda stage, object_class: None
    assert during == {"ams1": {"storage"}}, "what that run had done with; the rest waits for its end"
    after = settled.tick()
    assert after == {"ams1": {"backups"}}
    settled.run(during)
    settled.run(after)
    settled.sweep()
    assert settled.tick(60) == {}


def test_a_change_during_the_nightly_run_is_not_lost_either(settled: Automation) -> None:
    def meanwhile(stage: str, object_class: str) -> None:
        if object_class == "backups":
            settled.world.content["lab", "backup_jobs"] = "one more"
            settled.sweep()

    settled.world.on_write = meanwhile
    settled.full_update("lab")
    assert settled.tick() == {"lab": readers("backup_jobs")}


def test_a_failed_run_is_tried_again_at_the_hour_and_at_the_next_change_not_for_ever(settled: Automation) -> None:
    def refuse(stage: str, object_class: str) -> None:
        raise dg.Failure("NetBox is out of reach", allow_retries=False)

    settled.world.content["ams1", "backup_jobs"] = "changed"
    settled.sweep()
    requested = settled.tick()
    settled.world.on_write = refuse
    assert not any(result.success for result in settled.run(requested))
    for _ in range(5):
        settled.sweep()
        assert settled.tick() == {}
    again = settled.tick(60)
    assert again == requested == {"ams1": readers("backup_jobs")}
    assert not any(result.success for result in settled.run(again))
    settled.sweep()
    assert settled.tick() == {}
    settled.world.content["ams1", "backup_jobs"] = "changed again"
    settled.sweep()
    requested = settled.tick()
    assert requested == again
    settled.world.on_write = lambda stage, object_class: None
    assert all(result.success for result in settled.run(requested))
    for _ in range(2):
        settled.sweep()
        assert settled.tick(60) == {}


@pytest.mark.parametrize("config", [{"vmids": [100]}, {"dry_run": True}], ids=["one guest", "dry run"])
def test_a_run_that_brings_nothing_whole_true_hides_no_change(config: dict[str, Any], settled: Automation) -> None:
    settled.world.content["ams1", "guests"] = "changed"
    settled.sweep("ams1")
    assert settled.run({"ams1": EVERYTHING}, **config)[0].success
    assert settled.full_update("ams1", **config).success
    assert settled.tick() == {"ams1": readers("guests")}


def test_a_narrowed_run_is_no_observation_of_the_whole(settled: Automation) -> None:
    settled.world.content["ams1", "guests"] = "the part that is in scope"
    assert settled.full_update("ams1", vmids=[100]).success
    assert settled.tick() == {}
    assert settled.tick(60) == {}


def test_what_the_sweep_leaves_out_comes_with_the_full_update(settled: Automation) -> None:
    left_out = [name for name in SOURCES if name not in SWEPT]
    for name in left_out:
        settled.world.content["ams1", name] = "changed"
    settled.sweep()
    assert settled.tick() == {}
    settled.world.written.clear()
    assert settled.full_update("ams1").success
    assert {name for _, name in settled.world.written} == EVERYTHING
    assert settled.tick() == {}
