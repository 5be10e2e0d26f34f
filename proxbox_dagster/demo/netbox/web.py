"""NetBox's web server: its configuration, gunicorn, and waiting until it answers."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import requests

from proxbox_dagster.demo.netbox.credentials import Credentials
from proxbox_dagster.demo.netbox.database import Databases
from proxbox_dagster.demo.netbox.errors import NetBoxError, with_log
from proxbox_dagster.demo.netbox.home import RunFolder
from proxbox_dagster.demo.netbox.install import Installation
from proxbox_dagster.demo.netbox.ports import ReservedPort
from proxbox_dagster.demo.netbox.processes import Supervisor, clean_environment

START_SECONDS = 180
INSIDE = Path(__file__).with_name("inside")


class Web:
    """gunicorn with NetBox at ``url``."""

    def __init__(self, installation: Installation, supervisor: Supervisor, run: RunFolder, workers: int) -> None:
        self.installation, self.supervisor, self.run, self.workers = installation, supervisor, run, workers
        self.port = ReservedPort()
        self.url = f"http://127.0.0.1:{self.port.number}"

    def configure(self, credentials: Credentials, databases: Databases, tasks_url: str, cache_url: str) -> None:
        """Write NetBox's ``configuration.py``, readable by its owner only."""
        server = databases.server
        values = {
            "ALLOWED_HOSTS": ["127.0.0.1", "localhost"],
            "SECRET_KEY": credentials.secret_key,
            "API_TOKEN_PEPPERS": {1: credentials.pepper},
            "DATABASES": {
                "default": {
                    "NAME": databases.name,
                    "USER": server.user,
                    "PASSWORD": server.password,
                    "HOST": server.host,
                    "PORT": str(server.port),
                    "CONN_MAX_AGE": 300,
                    # A worker notices that its connection went with the database that a reset dropped.
                    "CONN_HEALTH_CHECKS": True,
                }
            },
            "REDIS": {"tasks": {"URL": tasks_url}, "caching": {"URL": cache_url}},
            "PLUGINS": ["netbox_proxbox"],
            # Else each worker runs a thread that pushes to the plugin's own backend, which is not there.
            "PLUGINS_CONFIG": {"netbox_proxbox": {"automatic_background_tasks": False}},
            "ISOLATED_DEPLOYMENT": True,
            "CENSUS_REPORTING_ENABLED": False,
        }
        path = self.run.path / "conf" / "configuration.py"
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text("".join(f"{name} = {value!r}\n" for name, value in values.items()))

    def start(self, token: str) -> None:
        """Start gunicorn; returns when the API answers. Raises :class:`NetBoxError` with the end of its log."""
        log = self.run.log("web")
        options = "--no-control-socket --preload --threads 2 --timeout 120 --keep-alive 60"
        command: list[str | Path] = [self.installation.python, "-m", "gunicorn", *options.split()]
        command += ["--workers", str(self.workers), "--bind", f"127.0.0.1:{self.port.number}"]
        command += ["--pythonpath", INSIDE, "netbox_wsgi:application"]
        environment = clean_environment({"NETBOX_ROOT": str(self.run.path), "PYTHONDONTWRITEBYTECODE": ""})
        # SIGKILL, for gunicorn's quick shutdown too waits for idle connections; NetBox has nothing to put in order.
        self.supervisor.start("web", command, log=log, cwd=self.run.path, env=environment, stop_signal=signal.SIGKILL)
        deadline = time.monotonic() + START_SECONDS
        problem = "no answer"
        while time.monotonic() < deadline:
            if self.supervisor.exit_code("web") is not None:
                raise NetBoxError(with_log("NetBox ended while it was starting.", log))
            try:
                answer = requests.get(
                    f"{self.url}/api/status/", headers={"Authorization": f"Bearer {token}"}, timeout=START_SECONDS
                )
            except requests.RequestException:
                time.sleep(0.05)
                continue
            if answer.status_code == 200 and "netbox_proxbox" in answer.json().get("plugins", {}):
                return
            problem = f"status {answer.status_code}"
            break
        raise NetBoxError(with_log(f"NetBox does not work: {problem} from {self.url}/api/status/.", log))

    def stop(self) -> None:
        """End gunicorn; the port stays reserved and refuses connections."""
        self.supervisor.stop("web")

    def close(self) -> None:
        self.port.close()
