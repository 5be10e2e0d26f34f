"""``proxbox-dagster doctor``: everything a run needs, tried without writing, a line each with the remedy."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import requests

from proxbox_dagster.netbox import permissions
from proxbox_dagster.netbox.client import NetBoxClient
from proxbox_dagster.netbox.errors import NetBoxError
from proxbox_dagster.proxmox.client import ProxmoxClient
from proxbox_dagster.proxmox.errors import ProxmoxError
from proxbox_dagster.proxmox.session import ProxmoxSession
from proxbox_dagster.proxmox.sources import SOURCES
from proxbox_dagster.rules import needed_permissions, purge_permissions
from proxbox_dagster.settings import EndpointSettings, Settings, SettingsError

MAX_CLOCK_SECONDS = 60.0
PATIENCE = 10.0
"""Seconds of retries for one request."""
TOKEN_WARNING = timedelta(days=14)


@dataclass(frozen=True)
class Finding:
    """One check: ``ok`` True, False, or ``None`` for what works but should be looked at."""

    subject: str
    ok: bool | None
    text: str


def examine(settings: Settings) -> Iterator[Finding]:
    """All findings, as they are made. Never raises for what is wrong outside of this program."""
    try:
        file = settings.require()
    except SettingsError as error:
        yield Finding("settings", False, str(error))
        return
    yield Finding("settings", True, f"{settings.source}: {len(file.endpoints)} endpoint(s)")
    yield from _netbox(settings)
    for name in settings.endpoint_names:
        yield from endpoint_findings(settings, name)
    limits = file.concurrency
    yield Finding(
        "concurrency",
        None if limits.netbox_max_concurrent > 8 else True,
        f"{limits.netbox_max_concurrent} request(s) to NetBox at once, "
        f"{limits.proxmox_fetch_concurrency} to Proxmox; more than NetBox has workers gains nothing",
    )


def _netbox(settings: Settings) -> Iterator[Finding]:
    file = settings.require()
    try:
        connection = settings.netbox_connection()
    except SettingsError as error:
        yield Finding("netbox", False, str(error))
        return
    # A doctor answers soon: a run would wait longer for a NetBox that restarts.
    client = NetBoxClient(replace(connection, retry_budget=min(connection.retry_budget, PATIENCE)))
    try:
        status = client.check(plugin=file.plugin)
        plugin = (status.get("plugins") or {}).get("netbox_proxbox")
        beside = f" with netbox-proxbox {plugin}" if file.plugin else ", plugin: off"
        yield Finding("netbox", True, f"{connection.url}: NetBox {status['netbox-version']}{beside}")
        if connection.url.startswith("http://") and not _is_local(connection.url):
            yield Finding("netbox tls", None, "the token travels unencrypted: give NetBox https")
        elif connection.verify_ssl is False:
            yield Finding("netbox tls", None, "the certificate is not verified: set netbox.verify_ssl to its CA file")
        yield _clock("netbox clock", f"{connection.url}/api/", connection.verify_ssl)
        yield from _permissions(client, settings)
    except NetBoxError as error:
        yield Finding("netbox", False, str(error))
    finally:
        client.close()


def _permissions(client: NetBoxClient, settings: Settings) -> Iterator[Finding]:
    """What a run needs is an error; what only ``purge`` needs is worth knowing."""
    file = settings.require()
    wanted = needed_permissions(file)
    lacking = permissions.missing(client, wanted)
    token = client.own_token()
    if lacking:
        read_only = None if token is None else not token["write_enabled"]
        yield Finding("netbox permissions", False, permissions.refusal(lacking, wanted, read_only=read_only))
        return
    yield Finding("netbox permissions", True, f"the token may do all that a run needs, on {len(wanted)} object types")
    yield from _token_life(token)
    unpurged = permissions.missing(client, purge_permissions(file))
    if unpurged:
        yield Finding(
            "netbox permissions", None, f"'proxbox-dagster purge' would also need: {'; '.join(map(str, unpurged))}"
        )


def _token_life(token: dict[str, Any] | None) -> Iterator[Finding]:
    if token and token.get("expires"):
        left = datetime.fromisoformat(token["expires"]) - datetime.now(UTC)
        if left < TOKEN_WARNING:
            yield Finding("netbox token", None, f"expires in {left.days} day(s): make a new one in NetBox in time")


def endpoint_findings(settings: Settings, name: str) -> Iterator[Finding]:
    """Whether one endpoint can be read, and read whole."""
    subject = f"proxmox {name}"
    try:
        endpoint = settings.endpoint(name)
        with ProxmoxSession(endpoint, settings.require().concurrency) as session:
            status = session.fetched("cluster_status")
            nodes = session.fetched("nodes")
            members = [row for row in status.rows if row["type"] == "node"]
            online = sum(bool(row["online"]) for row in members)
            yield Finding(
                subject,
                True if online == len(members) else None,
                f"{session.client.host}: {online} of {len(members)} node(s) online, Proxmox VE "
                + ", ".join(sorted({str(row["release"]) for row in nodes.rows if isinstance(row["release"], str)})),
            )
            if endpoint.verify_ssl is False:
                yield Finding(f"{subject} tls", None, "the certificate is not verified: set verify_ssl to the CA file")
            yield _clock(f"{subject} clock", f"https://{session.client.host}/", endpoint.verify_ssl)
            if len(endpoint.hosts) > 1:
                yield from _hosts(f"{subject} hosts", endpoint, _marks(session.client))
            yield from _privileges(subject, session)
    except (SettingsError, ProxmoxError) as error:
        yield Finding(subject, False, str(error))


def _hosts(subject: str, endpoint: EndpointSettings, marks: set[tuple[str, str]]) -> Iterator[Finding]:
    """Each host by itself: one that is wrong would else be found by the run in which another one fails."""
    wrong = False
    for host in endpoint.hosts:
        client = ProxmoxClient(replace(endpoint, hosts=(host,), retry_budget=0.0))
        try:
            same = not marks.isdisjoint(_marks(client))
        except ProxmoxError as error:
            wrong = True
            yield Finding(subject, None, f"{error} Until then the other hosts are asked.")
            continue
        finally:
            client.close()
        if not same:
            wrong = True
            yield Finding(subject, False, f"{host} is of another cluster: make it an endpoint of its own")
    if not wrong:
        yield Finding(subject, True, f"each of {', '.join(endpoint.hosts)} answers for this cluster")


def _marks(client: ProxmoxClient) -> set[tuple[str, str]]:
    """What tells the nodes of a cluster from those of another, for every second host is called pve."""
    rows = client.get("/nodes", expect=list)
    return {(str(row["node"]), str(row.get("ssl_fingerprint", ""))) for row in rows if "node" in row}


def _privileges(subject: str, session: ProxmoxSession) -> Iterator[Finding]:
    """What the token lacks, and which source cannot be read for another reason."""
    reasons = dict.fromkeys(session.proof().everything_missing(session.release()))
    names = [name for name, source in SOURCES.items() if source.per != "guest"]
    session.prefetch(names)
    for name in names:
        try:
            fetched = session.fetched(name)
        except ProxmoxError as error:
            reasons[f"{name}: {error}"] = None
            continue
        reasons |= dict.fromkeys(gap.reason for gap in fetched.gaps if gap.is_error)
    for reason in reasons:
        yield Finding(f"{subject} privileges", False, reason)
    if not reasons:
        yield Finding(f"{subject} privileges", True, "every source can be read whole")


def _clock(subject: str, url: str, verify: bool | str) -> Finding:
    """Dates in marks and windows compare clocks of several machines."""
    try:
        answer = requests.get(url, verify=verify, timeout=15, allow_redirects=False)
        theirs = parsedate_to_datetime(answer.headers["Date"])
    except (requests.RequestException, KeyError, ValueError):
        return Finding(subject, None, "its clock could not be read from its answers")
    apart = abs((datetime.now(UTC) - theirs.astimezone(UTC)).total_seconds())
    if apart > MAX_CLOCK_SECONDS:
        return Finding(subject, False, f"{apart:.0f} s apart from this machine's clock: set up NTP on both")
    return Finding(subject, True, "in step with this machine's")


def _is_local(url: str) -> bool:
    host = url.split("//", 1)[-1].split("/", 1)[0].rsplit(":", 1)[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
