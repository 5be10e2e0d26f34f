"""Dagster as deployed: an instance with deploy/dagster.yaml, the code location in its own process, GraphQL."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster_graphql.test.utils import execute_dagster_graphql

MODULE = "proxbox_dagster.definitions"
LOCATION = "proxbox_dagster"
SHIPPED = Path(__file__).parents[2] / "deploy" / "dagster.yaml"

LAUNCH = """
mutation($params: ExecutionParams!) { launchPipelineExecution(executionParams: $params) {
  __typename
  ... on LaunchRunSuccess { run { runId } }
  ... on PythonError { message }
  ... on RunConfigValidationInvalid { errors { message } }
} }
"""

TERMINATE = """
mutation($run: String!) { terminatePipelineExecution(runId: $run) {
  __typename
  ... on PythonError { message }
  ... on TerminateRunFailure { message }
} }
"""

LAUNCHPAD = """
query($job: String!) { runConfigSchemaOrError(selector: {
  pipelineName: $job, repositoryName: "__repository__", repositoryLocationName: "proxbox_dagster" }) {
  __typename
  ... on RunConfigSchema { rootDefaultYaml allConfigTypes { key ... on CompositeConfigType { fields {
    name description defaultValueAsJson } } } }
  ... on PythonError { message }
} }
"""

VALIDATE = """
query($job: String!, $config: RunConfigData!) {
  isPipelineConfigValid(runConfigData: $config, mode: "default", pipeline: {
  pipelineName: $job, repositoryName: "__repository__", repositoryLocationName: "proxbox_dagster" }) {
  __typename
  ... on RunConfigValidationInvalid { errors { message } }
} }
"""


class Workspace:
    """A webserver's and a daemon's view of the code location, without waiting for either."""

    def __init__(self, instance: dg.DagsterInstance, process: WorkspaceProcessContext) -> None:
        self.instance, self.process = instance, process

    def ask(self, query: str, **variables: Any) -> Any:
        """The one field of a GraphQL answer."""
        answer = execute_dagster_graphql(self.process.create_request_context(), query, variables=variables)
        assert not answer.errors, answer.errors
        [field] = answer.data.values()
        return field

    def launch(self, job: str, endpoint: str, config: Mapping[str, Any] | None = None, location: str = LOCATION) -> str:
        """Submit a run as the launchpad does, and give its id."""
        selector = {"repositoryLocationName": location, "repositoryName": "__repository__", "pipelineName": job}
        tags = [{"key": "dagster/partition", "value": endpoint}]
        answer = self.ask(
            LAUNCH,
            params={"selector": selector, "runConfigData": dict(config or {}), "executionMetadata": {"tags": tags}},
        )
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def terminate(self, run_id: str) -> None:
        """End a run as the UI's button *Terminate* does."""
        answer = self.ask(TERMINATE, run=run_id)
        assert answer["__typename"] == "TerminateRunSuccess", answer

    def dequeue(self) -> None:
        """One round of the daemon that takes runs from the queue."""
        with QueuedRunCoordinatorDaemon(interval_seconds=1) as daemon:
            for _ in daemon.run_iteration(self.process):
                pass

    def monitor(self) -> None:
        """One round of the daemon that looks after runs under way."""
        for error in execute_run_monitoring_iteration(self.process, logging.getLogger(__name__)):
            assert error is None, error

    def status(self, *run_ids: str) -> list[str]:
        found = {run.run_id: run.status.value for run in self.instance.get_runs()}
        return [found[run_id] for run_id in run_ids]


@contextmanager
def workspace(folder: Path, *, launching: bool = True, **overrides: Any) -> Iterator[Workspace]:
    """An instance in ``folder`` with the shipped settings; ``launching=False`` starts no process for a run."""
    config = {**yaml.safe_load(SHIPPED.read_text()), **overrides}
    config["event_log_storage"]["config"] = {"base_dir": str(folder / "history" / "runs")}  # not $DAGSTER_HOME's
    if not launching:
        config["run_launcher"] = {"module": "dagster._core.test_utils", "class": "MockedRunLauncher"}
    (folder / "dagster.yaml").write_text(yaml.safe_dump(config))
    target = ModuleTarget(MODULE, None, None, LOCATION)
    with dg.DagsterInstance.from_config(str(folder)) as instance, WorkspaceProcessContext(instance, target) as process:
        yield Workspace(instance, process)
