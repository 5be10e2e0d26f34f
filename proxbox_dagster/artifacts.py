"""Where a run keeps files: a folder on any fsspec path, so that nothing depends on one machine's disk."""

from __future__ import annotations

from typing import Protocol

from upath import UPath


class Storing(Protocol):
    """What is needed here of a Dagster instance."""

    def storage_directory(self) -> str: ...


def artifact_folder(configured: str | None, instance: Storing, name: str) -> UPath:
    """The folder for files of one kind: ``configured``, a path or an fsspec URL such as ``s3://bucket/folder``.

    Without it ``proxbox/NAME`` below the storage of the Dagster instance, which is ``$DAGSTER_HOME/storage`` unless
    dagster.yaml says otherwise. Nothing is made yet.
    """
    if configured:
        return UPath(configured)
    return UPath(instance.storage_directory()) / "proxbox" / name
