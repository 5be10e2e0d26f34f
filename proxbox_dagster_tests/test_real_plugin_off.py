"""With ``plugin: off`` NetBox's own models are synced and nothing is asked of the plugin, installed or not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen

import pytest

from proxbox_dagster.stages import STAGES, object_classes
from proxbox_dagster_tests.support.held import untruths
from proxbox_dagster_tests.support.synced import Synced, X, described, laid_out

CORE = {item.name for item in object_classes(plugin=False)}
ONLY_PLUGIN = {item.name for item in object_classes()} - CORE


@pytest.fixture(scope="module")
def lab(netbox_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Synced]:
    """A NetBox that does not know the plugin: it is in no status, and its paths are not found."""
    with laid_out(netbox_server, tmp_path_factory.mktemp("off"), small=described("small")) as lab:
        lab.configure(plugin="off")
        hide_plugin(lab)
        lab.first = lab.sync()
        yield lab


def hide_plugin(lab: Synced) -> None:
    ask = Request(f"{lab.netbox.url}/api/status/", headers={"Authorization": f"Bearer {lab.netbox.token}"})
    with urlopen(ask, timeout=60) as answer:
        status = json.load(answer)
    assert status["plugins"].pop("netbox_proxbox")
    lab.proxy.add_fault(path_regex=r"^/api/status/", count=None, body=status)
    lab.proxy.add_fault(path_regex=r"^/api/plugins/", count=None, status=404, body={"detail": "Not found."})


def assert_core_only(lab: Synced, result: dict[str, Any]) -> None:
    assert result["ok"], result
    assert {line["object_class"] for line in result["endpoints"]["small"]["stages"]} == CORE
    assert lab.proxy.count(path_regex=r"^/api/plugins/") == 0
    [notice] = lab.watcher.notices
    assert "'plugin: off'" in notice
    assert all(name in notice for name in ONLY_PLUGIN)


def test_a_netbox_without_the_plugin_gets_its_own_models_and_is_told_what_is_left_out(lab: Synced) -> None:
    assert_core_only(lab, lab.first)
    assert untruths(lab, "small", plugin=False) == {}
    asked = {path.rsplit("/", 1)[1] for path in lab.simulators["small"].requests}
    assert not asked & {"tasks", "content", "snapshot", "replication", "backup"}, (
        "nobody needs these without the plugin"
    )


def test_its_second_run_writes_nothing(lab: Synced) -> None:
    lab.log.forget()
    lab.proxy.requests.clear()
    assert_core_only(lab, lab.sync())
    assert (lab.written(), lab.writing_requests()) == ([], [])


def test_a_plugin_that_is_there_is_left_alone_until_it_is_switched_on(lab: Synced) -> None:
    lab.proxy.clear()
    lab.configure(plugin="off")
    assert_core_only(lab, lab.watched())
    assert (lab.written(), lab.writing_requests()) == ([], [])
    assert lab.rows(f"{X}endpoints/proxmox") == lab.rows(f"{X}storage") == lab.rows(f"{X}backups") == []

    lab.configure()
    lab.run()
    assert lab.watcher.notices == []
    core = {entry.model for entry in lab.written()} - {item.spec.model for item in object_classes() if item.spec.plugin}
    # The plugin's endpoint wants an address; the custom fields now lie on the plugin's rows, too.
    assert core <= {"ipam.ipaddress", "extras.customfield"}
    assert {line["stage"] for line in lab.sync()["endpoints"]["small"]["stages"]} == {stage.name for stage in STAGES}
    assert untruths(lab, "small") == {}
