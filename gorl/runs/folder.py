"""Run folders: what a run leaves on disk, and how to use it afterwards.

    config.gin              what was asked, flattened; re-runnable
    operative_config.gin    what ran, with every default; re-runnable
    sources/                the gin files as read
    run.json                format, versions, git, device, command, plugins, seed
    metrics.jsonl           the record
    status.json             running, finished, interrupted or failed; the summary
    checkpoints/ artifacts/ the state

A run of several seeds has a folder of this kind for each, seedN/, whose configuration is that of the seed alone. In the
folder around them are the configuration as it was asked and what all of them share.
"""

from gorl.version import __version__
import datetime
import fcntl
import json
import logging
import os
import pathlib
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np

from gorl.runtime import devices, hosts
from gorl.runs.checkpoint import CheckpointStore
from gorl.runs.files import reason, write_json
from gorl.errors import RunError
from gorl.runs.files import inside
from gorl.runs.provenance import FORMAT

_FILES = ("config.gin", "operative_config.gin", "metrics.jsonl", "status.json")
_FOLDERS = ("checkpoints", "artifacts")
_FACTS = {"name": str, "study": str, "seed": int, "plugins": list, "members": list, "environment": dict, "versions": dict, "device": dict}
_log = logging.getLogger(__name__)


class RunFolder:
    """One run on disk."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.record_path = path / "metrics.jsonl"
        self.config_path = path / "config.gin"
        self._lock: Any = None

    def __fspath__(self) -> str:
        return str(self.path)

    @classmethod
    def create(cls, path: pathlib.Path) -> "RunFolder":
        if path.exists() and any(path.iterdir()):
            what = f"Resume it with `gorl train --resume {path}`, or name" if (path / "run.json").is_file() else "It holds no run: name"
            raise RunError(f"{path} exists and is not empty. {what} another folder with --run-dir.")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise RunError(f"cannot make the run folder {path}: {err.strerror}. Name another with --run-dir.") from err
        return cls(path)

    @classmethod
    def open(cls, path: pathlib.Path) -> "RunFolder":
        folder = cls(path)
        if not (path / "run.json").is_file():
            raise RunError(f"{path} is not a gorl run folder (it has no run.json).")
        found = _read_json(path / "run.json").get("format")
        if found != FORMAT:
            raise RunError(f"{path} has run format {found}; gorl {__version__} reads format {FORMAT}. Use the gorl version named in its run.json.")
        for kind, names, wrong in (("file", _FILES, pathlib.Path.is_dir), ("folder", _FOLDERS, pathlib.Path.is_file)):
            for name in names:
                if wrong(path / name):
                    raise RunError(f"{path / name} is in the way: a {kind} of that name belongs there. Remove it, or name another run.")
        folder.facts()
        return folder

    @property
    def members(self) -> list["RunFolder"]:
        """The folders of the seeds: this one, where there is one seed."""
        names = self.facts().get("members")
        if not names:
            return [self]
        home = self.path.absolute().parent.parent  # of a study, if this is the group of one of its programs
        under = home if (home / "study.json").is_file() and self.path.absolute().parent.name == "programs" else None
        return [RunFolder(inside(self.path, name, f"run.json of {self.path}", under=under)) for name in names]

    def lock(self, *, wait: float = 0.0) -> None:
        """One process trains in a folder at a time. The lock goes with the process. `wait`: seconds to wait for it."""
        try:
            self._lock = open(self.path / ".lock", "a")
        except OSError as err:
            raise RunError(f"cannot write in {self.path}: {reason(err)}. Mend that, or copy the run to where it can be written.") from err
        deadline = time.monotonic() + wait
        while True:
            try:
                return fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as err:
                if time.monotonic() >= deadline:
                    raise RunError(f"another process is training in {self.path}.") from err
                time.sleep(0.1)

    def unlock(self) -> None:
        self._lock.close()

    def facts(self, *needed: str) -> dict[str, Any]:
        """What is known of the run. Raises RunError where something else stands there, or where one that is `needed` is missing."""
        path = self.path / "run.json"
        known = _read_json(path)
        for name, kind in _FACTS.items():
            if name in known or name in needed:
                _check_entry(known, name, kind, path)
        for name in (*known.get("members", ()), *known.get("plugins", ())):
            if not isinstance(name, str):
                raise RunError(f"cannot read {path}: {name!r} stands there for a name.")
        return known

    def set_status(self, status: str, **summary: Any) -> None:
        """Failing to (a full disk) is a warning: what the run holds does not depend on it."""
        try:
            write_json(self.path / "status.json", {"status": status, **summary})
        except OSError as err:
            _log.warning("cannot write status.json of %s: %s. It is %s.", self.path, reason(err), status)

    def status(self) -> dict[str, Any]:
        path = self.path / "status.json"
        if not path.exists():
            return {"status": "unknown"}
        known = _read_json(path)
        _check_entry(known, "status", str, path)
        return known


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except OSError as err:
        raise RunError(f"cannot read {path}: {err.strerror}.") from err
    except ValueError as err:
        raise RunError(f"cannot read {path}: it is not JSON ({err}).") from err
    if not isinstance(found, dict):
        raise RunError(f"cannot read {path}: it should hold an object, {{...}}, not {found!r:.50}.")
    return found


def _check_entry(known: dict[str, Any], name: str, kind: type, path: pathlib.Path) -> None:
    if not isinstance(known.get(name), kind):
        what = f"its {name!r} is {known[name]!r}" if name in known else f"it has no {name!r}"
        raise RunError(f"cannot read {path}: {what}.")


def new_path(root: pathlib.Path, name: str) -> pathlib.Path:
    """A folder for a new run: root/name-time, made unique."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    path, i = root / f"{name}-{stamp}", 1
    while path.exists():
        i += 1
        path = root / f"{name}-{stamp}-{i}"
    return path




















