"""The folder for what this user's runs keep on this machine: locks, and what NetBox was found to permit."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from platformdirs import user_state_path


class FolderNotOurs(Exception):
    """The folder belongs to somebody else, or others can write in it: what stands there proves nothing."""


def own_folder() -> Path:
    """``proxbox-dagster`` in the user's state folder (``$XDG_STATE_HOME``, or ``~/.local/state``), mode 0700.

    Under the system's temporary folder, by the user's number, where the user has no place to write (a container).
    Raises :class:`FolderNotOurs`.
    """
    try:
        return _checked(user_state_path("proxbox-dagster", appauthor=False))
    except OSError:
        return _checked(Path(tempfile.gettempdir()) / f"proxbox-dagster-{os.getuid()}")


def _checked(folder: Path) -> Path:
    """The folder, made where it is missing. Raises :class:`OSError` where that cannot be."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        # Not stat(): a link may lead to a folder of ours that others have chosen.
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise FolderNotOurs(
                f"{folder} is no folder of this user's: somebody else could have put there what a run goes by. "
                "Remove it, or set XDG_STATE_HOME to a folder of this user's own."
            ) from None
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise FolderNotOurs(
                f"{folder} is open to other users (mode {stat.S_IMODE(found.st_mode):o}), who could have put there "
                f"what a run goes by. Empty it, and close it: chmod 700 {folder}"
            ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{folder} cannot be written to")
    return folder
