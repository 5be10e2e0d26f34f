"""What deploy/ ships: records in a real PostgreSQL that processes share, and files that their readers accept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._grpc.client import DagsterGrpcClient
from dagster_k8s import K8sRunLauncher

from proxbox_dagster.assembly import build_definitions
from proxbox_dagster.demo.ports import free_port
from proxbox_dagster.failures import words_of
from proxbox_dagster.jobs import FULL_UPDATE
from proxbox_dagster.keys import class_key
from proxbox_dagster_tests.support.dagster_server import POSTGRES, records_in_postgres
from proxbox_dagster_tests.support.fake_run import FakeWorld
from proxbox_dagster_tests.support.graph import two_endpoints
from proxbox_dagster_tests.support.polling import until
from proxbox_dagster_tests.support.workspace import Workspace

DEPLOY = Path(__file__).parent.parent / "deploy"

READ = """
import json, sys
import dagster as dg
with dg.DagsterInstance.get() as instance:
    [run] = instance.get_runs()
    event = instance.get_latest_materialization_event(dg.AssetKey(["netbox", "devices"]))
    print(json.dumps([run.run_id, run.status.value, run.tags["dagster/partition"], event.run_id]))
"""


def content(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


# -- PostgreSQL -----------------------------------------------------------------------------------------------------


@pytest.fixture
def database(netbox_server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with records_in_postgres(netbox_server, monkeypatch):
        yield


def test_two_processes_share_their_records_in_postgresql(
    database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = [tmp_path / "one", tmp_path / "two"]
    for home in homes:
        home.mkdir()
        shutil.copy(POSTGRES, home / "dagster.yaml")
    world = FakeWorld(two_endpoints())
    world.install(monkeypatch)
    job = build_definitions(world.settings).resolve_job_def(FULL_UPDATE)
    with dg.DagsterInstance.from_config(str(homes[0])) as instance:
        result = job.execute_in_process(instance=instance, partition_key="lab")
        assert result.success
        assert instance.get_latest_materialization_event(class_key("devices"))
    other = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", READ],
        env={**os.environ, "DAGSTER_HOME": str(homes[1])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert other.returncode == 0, other.stderr
    assert json.loads(other.stdout.splitlines()[-1]) == [result.run_id, "SUCCESS", "lab", result.run_id]


@contextmanager
def code_server(name: str, settings: Path, home: Path) -> Iterator[dict[str, Any]]:
    """``dagster api grpc`` with settings of its own; its entry of a workspace.yaml."""
    port = free_port(4000)
    log = settings.with_suffix(".log")
    command = [sys.executable, "-W", "ignore", "-m", "dagster", "api", "grpc", "-h", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "-m", "proxbox_dagster.definitions", "--location-name", name],
            env={**os.environ, "DAGSTER_HOME": str(home), "PROXBOX_CONFIG": str(settings)},
            stdout=out,
            stderr=out,
        )
    try:
        client = DagsterGrpcClient(port=port, host="127.0.0.1")
        until(lambda: process.poll() is not None or client.health_check_query() == "SERVING", f"the code server {name}")
        assert process.poll() is None, log.read_text()
        yield {"grpc_server": {"host": "127.0.0.1", "port": port, "location_name": name}}
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.filterwarnings("ignore:Found .* nodes for some asset keys in multiple code locations")
def test_two_code_locations_share_a_database_and_each_goes_by_its_own_settings(database: None, tmp_path: Path) -> None:
    """Two teams on one Dagster. The secrets are set nowhere, so that each run tells whose settings it has read."""
    shutil.copy(POSTGRES, tmp_path / "dagster.yaml")
    teams = {"team_a": "ams1", "team_b": "lab"}
    with ExitStack() as stack:
        entries = []
        for team, endpoint in teams.items():
            told = two_endpoints().require().model_dump(mode="json", exclude_unset=True)
            told["endpoints"] = [item for item in told["endpoints"] if item["name"] == endpoint]
            settings = tmp_path / f"{team}.yaml"
            settings.write_text(yaml.safe_dump(told))
            entries.append(stack.enter_context(code_server(team, settings, tmp_path)))
        places = tmp_path / "workspace.yaml"
        places.write_text(yaml.safe_dump({"load_from": entries}))
        instance = stack.enter_context(dg.DagsterInstance.from_config(str(tmp_path)))
        process = stack.enter_context(WorkspaceProcessContext(instance, WorkspaceFileTarget([str(places)])))
        both = Workspace(instance, process)
        runs = {team: both.launch(FULL_UPDATE, endpoint, location=team) for team, endpoint in teams.items()}
        both.dequeue()
        until(lambda: both.status(*runs.values()) == ["FAILURE", "FAILURE"], "the end of both runs")
        for team, endpoint in teams.items():
            [failure] = instance.get_records_for_run(runs[team], of_type=dg.DagsterEventType.STEP_FAILURE).records
            event = failure.event_log_entry.dagster_event
            assert event is not None
            assert f"TEST_{endpoint.upper()}_TOKEN" in words_of(event.step_failure_data)


def test_the_postgresql_settings_differ_from_the_shipped_ones_in_the_storage_alone() -> None:
    postgres = content("dagster-postgres.yaml")
    assert set(postgres.pop("storage")["postgres"]["postgres_db"]) == {
        "scheme",
        "hostname",
        "port",
        "db_name",
        "username",
        "password",
    }
    shipped = content("dagster.yaml")
    assert shipped.pop("event_log_storage")["class"] == "OpenEventLog"
    assert postgres == shipped


# -- containers: no engine here, so what can be checked is checked by structure --------------------------------------


def test_compose_and_image_fit_together() -> None:
    compose = content("compose.yaml")
    services = compose["services"]
    docker = (DEPLOY / "Dockerfile").read_text()
    assert set(services) == {"postgres", "code", "webserver", "daemon"}
    for name, service in services.items():
        for other in service.get("depends_on", {}):
            assert services[other]["healthcheck"], f"{name} waits for the health of {other}"
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source.startswith("./") or source in compose["volumes"], volume
    tools = Path(sys.executable).parent
    for name in ("webserver", "daemon"):
        assert (tools / services[name]["command"][0]).exists(), services[name]["command"]
        assert services[name]["command"][-1] == "workspace.yaml"
    database = content("dagster-postgres.yaml")["storage"]["postgres"]["postgres_db"]
    wanted = {value["env"] for name, value in database.items() if name != "scheme"}
    assert wanted <= set(services["code"]["environment"])
    build = services["code"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()
    for line in docker.splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (DEPLOY.parent / source).exists(), line
    [made] = [line.split()[3:-1] for line in docker.splitlines() if line.strip().startswith("&& mkdir -p")]
    for volume in services["code"]["volumes"][1:]:
        place = volume.split(":")[1]
        assert place in made, f"{place} would belong to root, and runs could not write there"
    assert services["code"]["environment"]["XDG_STATE_HOME"] in made
    assert services["code"]["volumes"][0].split(":")[1] == "/etc/proxbox/proxbox.yaml"
    assert "PROXBOX_CONFIG=/etc/proxbox/proxbox.yaml" in docker
    [location] = content("workspace.yaml")["load_from"]
    assert location["grpc_server"]["host"] in services
    assert f'"{location["grpc_server"]["port"]}"' in docker
    assert location["grpc_server"]["location_name"] == "proxbox_dagster"


def test_the_charts_values_are_what_dagsters_own_classes_take() -> None:
    values = content("values.yaml")
    assert values["runLauncher"]["type"] == K8sRunLauncher.__name__
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    kubernetes = launcher["runK8sConfig"]
    rendered = {
        "service_account_name": "dagster",
        "job_image": "proxbox-dagster:latest",
        "dagster_home": "/opt/dagster/home",
        "instance_config_map": "dagster-instance",
        "image_pull_policy": launcher["imagePullPolicy"],
        "run_k8s_config": {
            "container_config": kubernetes["containerConfig"],
            "job_spec_config": {"ttl_seconds_after_finished": kubernetes["jobSpecConfig"]["ttlSecondsAfterFinished"]},
        },
    }
    checked = process_config(resolve_to_config_type(K8sRunLauncher.config_type()), rendered)
    assert checked.success, checked.errors
    queue = values["dagsterDaemon"]["runCoordinator"]["config"]["queuedRunCoordinator"]
    shipped = content("dagster.yaml")["concurrency"]["runs"]
    assert queue["maxConcurrentRuns"] == shipped["max_concurrent_runs"]
    assert queue["tagConcurrencyLimits"] == shipped["tag_concurrency_limits"]
    [deployment] = values["dagster-user-deployments"]["deployments"]
    mounts = {item["name"] for item in deployment["volumeMounts"]}
    assert mounts == {item["name"] for item in deployment["volumes"]}
    assert deployment["dagsterApiGrpcArgs"] == ["-m", "proxbox_dagster.definitions"]
