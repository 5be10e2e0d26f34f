"""Dagster's UI in a real browser, over a NetBox and two simulated clusters: what an operator sees and clicks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from proxbox_dagster.demo.dagster_ui import DagsterUI, prepare_home
from proxbox_dagster.demo.proxmox import load_cluster
from proxbox_dagster_tests.support.browser import Browser, browser, missing
from proxbox_dagster_tests.support.lab import Lab

WHY_NOT = missing()
GROUPS = ("proxmox", "infrastructure", "guest_data", "networking", "operational", "summary")
MARKDOWN = "//*[normalize-space(text())='[Show Markdown]']"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.real,
    pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT)),
]


@pytest.fixture(scope="module")
def lab(netbox_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Two clusters; the command line has synced one, and a guest of it was renamed since."""
    netbox_server.reset()
    folder = tmp_path_factory.mktemp("browser")
    home = prepare_home(folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        clusters = {name: load_cluster(name) for name in ("ams1", "lab")}
        with Lab(netbox_server, folder, monkeypatch, **clusters) as found:
            monkeypatch.setenv("DAGSTER_HOME", str(home))
            found.good_sync(endpoints=("lab",))
            clusters["lab"].rename("lxc", 200, "pihole-old")
            yield found


@pytest.fixture(scope="module")
def ui(lab: Lab) -> Iterator[Browser]:
    with DagsterUI(lab.folder) as dagster:
        dagster.wait()
        with browser(dagster.url) as window:
            yield window


@pytest.fixture(scope="module")
def clicked_run(ui: Browser) -> str:
    """The page of a run that was started by clicks, and has ended: one stage, a partition chosen in the dialog."""
    ui.open("/locations/proxbox_dagster/jobs/sync_virtual_machines")
    ui.click_button("Materialize all")
    ui.sees("Partition selection")
    ui.click("//*[normalize-space(text())='Select a partition or create one']")
    ui.click("//*[normalize-space(text())='lab']")
    ui.click_button("Launch 1 run")
    ui.wait(lambda: "Partition selection" not in ui.text(), "the end of the dialog")
    ui.open("/runs")
    ui.sees("sync_virtual_machines")
    ui.click("(//a[contains(@href, '/runs/')])[1]")  # the newest stands first
    ui.wait(lambda: "/runs/" in ui.driver.current_url, "the page of the run")
    ui.wait(lambda: {"Success", "Failure", "Canceled"} & set(ui.text().splitlines()), "the end of the run")
    assert "Success" in ui.text().splitlines(), ui.text()
    return ui.driver.current_url


def test_the_asset_graph_shows_the_groups(ui: Browser) -> None:
    ui.open("/asset-groups")
    ui.sees("Global asset lineage", *GROUPS)


def test_a_run_of_the_command_line_is_on_its_jobs_page(ui: Browser) -> None:
    ui.open("/locations/proxbox_dagster/jobs/full_update/runs")
    ui.sees("partition: lab", "Success")


def test_schedules_and_sensors_are_listed_and_off(ui: Browser) -> None:
    ui.open("/automation")
    ui.sees("full_update_schedule", "quick_update_schedule", "observe_sources", "materialize_changes")
    # A box to select each of the five and a switch to turn it on, all of them check boxes to the browser.
    boxes = ui.wait(lambda: ui.driver.find_elements("css selector", "input[type=checkbox]")[9:] and True, "switches")
    assert boxes
    assert not ui.driver.find_elements("css selector", "input[type=checkbox]:checked")


def test_a_stage_materialized_by_clicks_shows_what_it_changed(ui: Browser, lab: Lab, clicked_run: str) -> None:
    ui.open("/assets/netbox/virtual_machines?view=events")
    ui.sees("1 updated, 3 unchanged", "in_netbox", "cf_proxmox_endpoint=lab", "duration_seconds")
    ui.sees("pihole-old", "update", "before", "after")  # a short table stands open, a long one behind a click
    # The table of changes stands in a cell of the table of metadata.
    [row] = ui.all("//tr[not(.//tr)][contains(., 'pihole-old')][contains(., 'update')]")
    assert row.text.split()[-4:] == ["update", "name", "pihole", "pihole-old"]
    links = [link.get_attribute("href") or "" for link in row.find_elements("tag name", "a")]
    assert links[0].startswith(f"{lab.netbox.url}/virtualization/virtual-machines/")
    assert links[1].startswith("https://")
    vm = lab.rows("virtualization/virtual-machines", name="pihole-old")
    assert links[0].endswith(f"/{vm[0]['id']}/")


def test_the_summary_of_that_run_shows_its_chart(ui: Browser, clicked_run: str) -> None:
    ui.open("/assets/proxbox/run_summary?view=events")
    ui.sees("updated", clicked_run.split("/runs/")[1][:8])
    ui.click(MARKDOWN)
    ui.sees("sync_virtual_machines of lab", "What to do next")
    assert ui.image_width() > 0
