"""A bare HTTP client for tests of the simulated Proxmox: it sees what is on the wire, and checks nothing."""

from __future__ import annotations

from typing import Any

import requests

from proxbox_dagster.demo.proxmox import ProxmoxSimulator


class Wire:
    """Requests to one simulator with its token. ``trust_env`` is off, so that no proxy or CA of the machine counts."""

    def __init__(self, simulator: ProxmoxSimulator) -> None:
        self.simulator = simulator
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = str(simulator.ca_file)
        token = f"{simulator.user}!{simulator.token_name}={simulator.token_value}"
        self.token = {"Authorization": f"PVEAPIToken={token}"}

    def ask(
        self, path: str, method: str = "GET", headers: dict[str, str] | None = None, **options: Any
    ) -> requests.Response:
        """The answer to a request below /api2/json; with the token unless ``headers`` are given."""
        url = f"{self.simulator.url}/api2/json{path}"
        chosen = self.token if headers is None else headers
        return self.session.request(method, url, headers=chosen, allow_redirects=False, timeout=20, **options)

    def data(self, path: str) -> Any:
        """The ``data`` of a 200."""
        answer = self.ask(path)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.reason}"
        return answer.json()["data"]
