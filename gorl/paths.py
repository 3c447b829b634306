"""Paths that are read from a file: a run's or a study's folder may come from anybody, and may not lead out of itself."""

import os
import pathlib

from gorl.errors import RunError


def inside(folder: pathlib.Path, name: object, what: str, *, under: pathlib.Path | None = None) -> pathlib.Path:
    """folder/name, if that is below `under` (None: the folder). Raises RunError, about `what`, where it is not. Links are not followed."""
    if not isinstance(name, str) or "\0" in name:
        raise RunError(f"{what}: {name!r} is not the name of a folder.")
    path, limit = folder / name, under or folder
    if not pathlib.Path(os.path.abspath(path)).is_relative_to(os.path.abspath(limit)):
        raise RunError(f"{what}: {name!r} leads out of {limit}, so it is not followed. gorl writes no such name: do not trust what came with it.")
    return path
