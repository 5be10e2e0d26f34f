"""The embedded NetBox is a real one, with the plugin, and tests can do with it what they need."""

from __future__ import annotations

import re
import select
import socket
import time
from urllib.parse import urlsplit

import pynetbox
import pytest
import redis
import requests

from proxbox_dagster.demo.netbox import NetBoxServer
from proxbox_dagster.demo.netbox.install import pinned_version


def api(netbox: NetBoxServer, token: str | None = None) -> pynetbox.api:
    return pynetbox.api(netbox.url, token=token or netbox.token)


def test_it_is_netbox_with_the_plugin(netbox: NetBoxServer) -> None:
    status = api(netbox).status()
    assert status["netbox-version"] == pinned_version("netbox")
    assert status["plugins"]["netbox_proxbox"] == pinned_version("netbox-proxbox")


def test_pages_are_styled_and_the_admin_can_log_in(netbox: NetBoxServer) -> None:
    with requests.Session() as browser:
        page = browser.get(f"{netbox.url}/login/", timeout=30)
        styles = re.findall(r'href="(/static/[^"]+\.css[^"]*)"', page.text)
        assert styles
        for path in styles:
            answer = browser.get(netbox.url + path, timeout=30)
            assert (answer.status_code, answer.headers["Content-Type"].partition(";")[0]) == (200, "text/css")
        form = {"username": netbox.admin_user, "password": netbox.admin_password, "next": "/plugins/proxbox/home/"}
        form["csrfmiddlewaretoken"] = browser.cookies["csrftoken"]
        answer = browser.post(f"{netbox.url}/login/", data=form, headers={"Referer": page.url}, timeout=30)
        assert (answer.status_code, answer.url) == (200, f"{netbox.url}/plugins/proxbox/home/")


def test_a_reset_empties_it_within_a_second_while_it_serves(netbox: NetBoxServer) -> None:
    client = api(netbox)
    before = netbox.change_count()
    client.dcim.sites.create([{"name": f"Site {number}", "slug": f"site-{number}"} for number in range(3)])
    assert netbox.change_count() == before + 3
    started = time.monotonic()
    netbox.reset()
    assert time.monotonic() - started < 1.0
    assert client.dcim.sites.count() == 0
    assert netbox.change_count() == before
    assert client.dcim.sites.create(name="Again", slug="again").id == 1


def test_sql_takes_parameters_and_gives_rows(netbox: NetBoxServer) -> None:
    api(netbox).dcim.sites.create(name="100% true", slug="true")
    assert netbox.sql("select id, name from dcim_site where slug = %s", "true") == [(1, "100% true")]
    assert netbox.sql("update dcim_site set description = %s", "by hand") == []
    assert api(netbox).dcim.sites.get(1).description == "by hand"


def test_a_token_allows_what_it_was_made_for(netbox: NetBoxServer) -> None:
    api(netbox).dcim.sites.create(name="One", slug="one")
    reader = api(netbox, netbox.make_token("reader", permissions=[(["view"], ["dcim.site"])]))
    assert [site.name for site in reader.dcim.sites.all()] == ["One"]
    for refused in (
        lambda: reader.dcim.sites.create(name="Two", slug="two"),
        lambda: next(iter(reader.dcim.devices.all())),
    ):
        with pytest.raises(pynetbox.RequestError) as caught:
            refused()
        assert caught.value.req.status_code == 403


def test_a_refused_request_is_read_before_it_is_answered(netbox: NetBoxServer) -> None:
    """Else its body and the client's next request reach gunicorn together, and the next is left lying for a minute."""
    token = netbox.make_token("reader", permissions=[(["view"], ["dcim.site"])])
    host = urlsplit(netbox.url).netloc
    head = f"Host: {host}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    with socket.create_connection(host.split(":"), timeout=30) as connection:
        connection.sendall(f"POST /api/dcim/sites/ HTTP/1.1\r\n{head}Content-Length: 2\r\n\r\n".encode())
        answered_early, _, _ = select.select([connection], [], [], 0.5)
        connection.sendall(b"{}")
        assert connection.recv(4096).startswith(b"HTTP/1.1 403")
    assert not answered_early


def test_redis_keeps_a_connection_after_an_error(netbox: NetBoxServer) -> None:
    """rq asks for what fakeredis does not have; NetBox then failed after it had written."""
    with redis.Redis.from_url(netbox._redis.tasks_url, single_connection_client=True) as client:
        mine = client.client_id()
        with pytest.raises(redis.ResponseError, match="unknown command"):
            client.execute_command("NOSUCH")
        assert client.client_id() == mine


def test_a_token_that_may_not_write(netbox: NetBoxServer) -> None:
    token = netbox.make_token("careful", superuser=True, write_enabled=False)
    assert api(netbox, token).dcim.sites.count() == 0
    with pytest.raises(pynetbox.RequestError) as caught:
        api(netbox, token).dcim.sites.create(name="One", slug="one")
    assert caught.value.req.status_code == 403


def test_a_second_token_of_a_user_takes_new_rights_along(netbox: NetBoxServer) -> None:
    first = api(netbox, netbox.make_token("worker", permissions=[(["view"], ["dcim.site"])]))
    second = api(netbox, netbox.make_token("worker", permissions=[(["add"], ["dcim.site"])]))
    assert second.dcim.sites.create(name="One", slug="one").name == "One"
    assert first.dcim.sites.count() == 1


def test_a_token_for_a_model_that_netbox_does_not_have(netbox: NetBoxServer) -> None:
    with pytest.raises(ValueError, match=r"no model 'dcim\.nothing'"):
        netbox.make_token("reader", permissions=[(["view"], ["dcim.site", "dcim.nothing"])])
    assert netbox.sql("select count(*) from users_user where username = 'reader'") == [(0,)]


def test_an_outage_and_its_end(netbox: NetBoxServer) -> None:
    netbox.stop_web()
    with pytest.raises(requests.ConnectionError):
        requests.get(netbox.url, timeout=5)
    netbox.start_web()
    assert api(netbox).dcim.sites.count() == 0
