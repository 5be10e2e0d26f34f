"""The cluster's own certificate authority, and a certificate for its simulated nodes."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Iterable
from pathlib import Path

import trustme


class Certificates:
    """A certificate authority made for one simulator. ``ca_file`` is its certificate, in PEM, until ``close``."""

    def __init__(self, names: Iterable[str], cluster: str) -> None:
        """``names``: host names and addresses that the certificate is for."""
        self._folder = tempfile.TemporaryDirectory(prefix="proxbox-pve-")
        authority = trustme.CA(organization_name=f"PVE Cluster Manager CA of {cluster}")
        self._certificate = authority.issue_cert(*names)
        self.ca_file = Path(self._folder.name) / "pve-root-ca.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._certificate.configure_cert(context)
        return context

    def close(self) -> None:
        self._folder.cleanup()
