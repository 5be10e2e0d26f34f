"""A running ``dagster dev`` as its UI talks to it, by GraphQL; and its records in PostgreSQL, beside NetBox's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import requests

from proxbox_dagster_tests.support.polling import PATIENCE, until
from proxbox_dagster_tests.support.workspace import LOCATION

POSTGRES = Path(__file__).parents[2] / "deploy" / "dagster-postgres.yaml"
REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": LOCATION}

LAUNCH = """
mutation($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on RunConfigValidationInvalid { errors { message } } } }
"""
RE_EXECUTE = """
mutation($params: ReexecutionParams!) { launchRunReexecution(reexecutionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }
"""
TERMINATE = """
mutation($run: String!) { terminateRun(runId: $run, terminatePolicy: SAFE_TERMINATE) {
  __typename ... on TerminateRunFailure { message } ... on PythonError { message } } }
"""
BACKFILL = """
mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }
"""
BACKFILL_STATUS = """
query($id: String!) { partitionBackfillOrError(backfillId: $id) {
  __typename ... on PartitionBackfill { status error { message } } ... on PythonError { message } } }
"""
RUN = """
query($id: ID!) { runOrError(runId: $id) {
  __typename ... on Run { status jobName assetMaterializations { assetKey { path } } } } }
"""
SWITCH_ON = """
mutation($sensor: SensorSelector!) { startSensor(sensorSelector: $sensor) {
  __typename ... on Sensor { sensorState { id status } } ... on PythonError { message } } }
"""
SWITCH_OFF = """
mutation($id: String!) { stopSensor(id: $id) { __typename ... on PythonError { message } } }
"""


class DagsterServer:
    """``url`` is the UI's; ``instance`` reads the same records past it."""

    def __init__(self, url: str, instance: dg.DagsterInstance) -> None:
        self.url, self.instance = url, instance

    def ask(self, query: str, **variables: Any) -> Any:
        """The one field of a GraphQL answer."""
        answer = requests.post(f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=PATIENCE)
        told = answer.json()
        assert answer.ok, told
        assert not told.get("errors"), told["errors"]
        [field] = told["data"].values()
        return field

    def launch(self, job: str, endpoint: str) -> str:
        """What the launchpad's button does; the run's id."""
        params = {
            "selector": {**REPOSITORY, "pipelineName": job},
            "runConfigData": {},
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": endpoint}]},
        }
        answer = self.ask(LAUNCH, params=params)
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def re_execute_from_failure(self, run_id: str) -> str:
        """What "Re-execute from failure" does; the new run's id."""
        answer = self.ask(RE_EXECUTE, params={"parentRunId": run_id, "strategy": "FROM_FAILURE"})
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def terminate(self, run_id: str) -> None:
        answer = self.ask(TERMINATE, run=run_id)
        assert answer["__typename"] == "TerminateRunSuccess", answer

    def backfill(self, keys: Sequence[dg.AssetKey], endpoints: Sequence[str]) -> str:
        """Materialize over several partitions; the backfill's id."""
        params = {"assetSelection": [{"path": list(key.path)} for key in keys], "partitionNames": list(endpoints)}
        answer = self.ask(BACKFILL, params=params)
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        return str(answer["backfillId"])

    def ended_backfill(self, backfill: str) -> str:
        """The status of a backfill, once it has ended."""

        def ended() -> str | None:
            found = self.ask(BACKFILL_STATUS, id=backfill)
            assert found["__typename"] == "PartitionBackfill", found
            return None if found["status"] in ("REQUESTED", "CANCELING", "FAILING") else str(found["status"])

        return until(ended, "the end of the backfill")

    def status(self, run_id: str) -> str:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run.status.value

    def ended(self, run_id: str) -> str:
        """The status of a run, once it has ended."""

        def poll() -> str | None:
            run = self.instance.get_run_by_id(run_id)
            return run.status.value if run and run.is_finished else None

        return until(poll, f"the end of run {run_id}")

    def runs(self, **tags: str) -> list[dg.DagsterRun]:
        """The runs with these tags, the newest first."""
        return list(self.instance.get_runs(dg.RunsFilter(tags=tags)))

    def entries(self, run_id: str, *kinds: dg.DagsterEventType) -> list[dg.EventLogEntry]:
        """A run's log, or what is of these kinds in it."""
        return list(self.instance.all_logs(run_id, of_type=set(kinds) or None))

    def steps(self, run_id: str, kind: dg.DagsterEventType) -> list[str]:
        """The names of a run's steps with an event of this kind, in order."""
        return [entry.step_key or "" for entry in self.entries(run_id, kind)]

    @contextmanager
    def switched_on(self, *sensors: str) -> Iterator[None]:
        """Sensors that are on meanwhile, as by the switches of the page Automation."""
        ids = []
        try:
            for name in sensors:
                answer = self.ask(SWITCH_ON, sensor={**REPOSITORY, "sensorName": name})
                assert answer["__typename"] == "Sensor", answer
                ids.append(answer["sensorState"]["id"])
            yield
        finally:
            for number in ids:
                self.ask(SWITCH_OFF, id=number)


@contextmanager
def records_in_postgres(netbox: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty database beside NetBox's, named by the variables of deploy/dagster-postgres.yaml."""
    server = netbox._databases.server
    with server.connect() as connection:
        connection.execute("drop database if exists dagster_records with (force)")
        connection.execute("create database dagster_records")
    for name, value in (
        ("HOST", server.host),
        ("PORT", server.port),
        ("DB", "dagster_records"),
        ("USERNAME", server.user),
        ("PASSWORD", server.password),
    ):
        monkeypatch.setenv(f"DAGSTER_PG_{name}", str(value))
    try:
        yield
    finally:
        with server.connect() as connection:
            connection.execute("drop database if exists dagster_records with (force)")
