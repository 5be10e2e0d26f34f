"""Where locks and remembered answers are kept: nobody else can plant or read them."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from proxbox_dagster.lock import EndpointLock
from proxbox_dagster.own_folder import FolderNotOurs, own_folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the folder goes; not made yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "state" / "proxbox-dagster"


def test_it_is_this_users_alone_whatever_the_mask(place: Path) -> None:
    before = os.umask(0)
    try:
        assert own_folder() == own_folder() == place
    finally:
        os.umask(before)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_a_link_is_not_followed(place: Path, tmp_path: Path) -> None:
    place.parent.mkdir()
    (tmp_path / "ours").mkdir(mode=0o700)
    place.symlink_to(tmp_path / "ours")
    with pytest.raises(FolderNotOurs, match="XDG_STATE_HOME"):
        EndpointLock("https://netbox", "ams1")
    assert list((tmp_path / "ours").iterdir()) == []


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o750, 0o705])
def test_one_that_is_open_to_others_is_refused_with_the_remedy(mode: int, place: Path) -> None:
    place.mkdir(parents=True)
    place.chmod(mode)
    with pytest.raises(FolderNotOurs, match=f"chmod 700 {place}"):
        own_folder()


def test_somebody_elses_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_folder()
    monkeypatch.setattr(os, "getuid", lambda: place.stat().st_uid + 1)
    with pytest.raises(FolderNotOurs, match="no folder of this user's"):
        own_folder()


def test_without_a_home_it_is_under_the_temporary_folder_and_checked_there_too(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.parent.write_text("no folder can be made here")
    assert own_folder() == tmp_path / "temporary" / f"proxbox-dagster-{os.getuid()}"
    assert stat.S_IMODE(own_folder().stat().st_mode) == 0o700
    own_folder().chmod(0o777)
    with pytest.raises(FolderNotOurs):
        own_folder()
