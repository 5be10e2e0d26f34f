"""What deploy/ ships: records in a real PostgreSQL shared by two processes, and files that their readers accept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type
from dagster_k8s import K8sRunLauncher

from proxbox_dagster.assembly import build_definitions
from proxbox_dagster.jobs import FULL_UPDATE
from proxbox_dagster.keys import class_key
from proxbox_dagster_tests.support.dagster_server import POSTGRES, records_in_postgres
from proxbox_dagster_tests.support.fake_run import FakeWorld
from proxbox_dagster_tests.support.graph import two_endpoints

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
