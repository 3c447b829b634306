"""The user's own files in a run's or a study's folder: models and plugins, as they were when it began.

    inputs/manifest.json    what is kept, and its hashes
    inputs/files/N/         a file that the configuration names, with the files that it names
    inputs/plugins/N/       a plugin's code and data

A run is built from its own copy of a model. A copy of a plugin is never run of its own accord: it is code, and a folder
may come from anybody.
"""

import os
import pathlib
import shutil
from collections.abc import Iterable, Mapping
from typing import Any

from gorl.errors import RunError
from gorl.runs.files import inside, parse_json, read_plain, reason, require_plain_tree, write_json
from gorl.runtime.inputs import InputFile, content_hash, parts

FOLDER = "inputs"
_LARGEST = 256 * 2**20
"""Bytes of one input that are copied. A larger one stays where it is, and the manifest says so."""


def keep(
    folder: pathlib.Path, files: Iterable[InputFile], plugins: Mapping[str, tuple[pathlib.Path, Mapping[str, str]]]
) -> None:
    """Copies input files, and plugins {name: (a folder, {path in it: hash})}, into the folder of a run or study.

    What the folder has by these names stays as it is. Raises RunError if they cannot be written.
    """
    manifest = _manifest(folder)
    new = {file.name: file for file in files if file.name not in manifest["files"]}
    try:
        for number, file in enumerate(new.values(), len(manifest["files"])):
            common = pathlib.Path(os.path.commonpath([path.parent for path in file.parts()]))
            own = pathlib.Path(file.path)
            entry = {"was": file.path, "sha256": file.sha256}
            if _copy(common, file.parts(), folder / FOLDER / "files" / str(number)):
                entry["copy"] = f"files/{number}/{own.relative_to(common)}"
            manifest["files"][file.name] = entry
        for number, (name, (home, sources)) in enumerate(plugins.items(), len(manifest["plugins"])):
            if name in manifest["plugins"]:
                continue
            entry = {"was": str(home), "sha256": dict(sources)}
            if _copy(home, [home / path for path in sources], folder / FOLDER / "plugins" / str(number)):
                entry["copy"] = f"plugins/{number}"
            manifest["plugins"][name] = entry
        if manifest["files"] or manifest["plugins"]:
            write_json(folder / FOLDER / "manifest.json", manifest)
    except OSError as err:
        raise RunError(f"cannot copy the run's inputs into {folder / FOLDER}: {reason(err)}.") from err


def _copy(common: pathlib.Path, files: Iterable[pathlib.Path], target: pathlib.Path) -> bool:
    """Copies files with their places relative to `common`. Returns False, and copies none, if they are too large."""
    files = list(files)
    inside(target.parents[2], str(target.relative_to(target.parents[2])), "the folder's own copies")
    require_plain_tree(target)
    if sum(path.stat().st_size for path in files) > _LARGEST:
        return False
    for path in files:
        place = target / path.relative_to(common)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    return True


def holder(config: pathlib.Path) -> pathlib.Path | None:
    """Returns the run's or study's folder that keeps the inputs of a config.gin or configs/VARIANT.gin, or None."""
    for folder, mark in ((config.parent, "run.json"), (config.parent.parent, "study.json")):
        if (folder / mark).is_file() and (folder / FOLDER / "manifest.json").is_file():
            return folder
    return None


def kept_files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns the copies of input files that a folder keeps, by the names that its configuration has for them.

    Raises RunError if the manifest cannot be read, or names a file outside of the folder.
    """
    found = {}
    for name, entry in _manifest(folder)["files"].items():
        if "copy" in entry:
            found[name] = inside(folder / FOLDER, entry["copy"], f"{FOLDER}/manifest.json of {folder}")
    return found


def changes(folder: pathlib.Path) -> list[str]:
    """Returns a sentence for each input file that differs from the folder's copy, or whose copy was changed."""
    found = []
    manifest, kept = _manifest(folder), kept_files(folder)
    for name, entry in manifest["files"].items():
        copy, original = kept.get(name), pathlib.Path(str(entry["was"]))
        if copy is not None and (not copy.is_file() or content_hash(parts(copy)) != entry["sha256"]):
            found.append(f"the folder's own copy of {name} ({copy}) was changed or removed")
        if original.is_file() and content_hash(parts(original)) != entry["sha256"]:
            fate = "has changed" if copy is None else f"has changed, and the folder's own copy ({copy}) is used"
            found.append(f"the model {name} {fate}" if name.endswith((".xml", ".mjcf")) else f"{name} {fate}")
    return found


def _manifest(folder: pathlib.Path) -> dict[str, Any]:
    path = folder / FOLDER / "manifest.json"
    if not path.is_file():
        return {"files": {}, "plugins": {}}
    try:
        found = parse_json(read_plain(path))
        for kind in ("files", "plugins"):
            if not all(isinstance(entry, dict) and {"was", "sha256"} <= entry.keys() for entry in found[kind].values()):
                raise ValueError(f"its {kind!r} have no 'was' and 'sha256'")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise RunError(f"cannot read {path}: {type(err).__name__}: {err}.") from err
    return found
