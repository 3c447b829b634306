"""Run folders: the files of a run, and reading them afterwards.

    config.gin              the requested configuration, flattened; re-runnable
    operative_config.gin    the configuration that ran, with every default; re-runnable
    sources/                the gin files as read
    inputs/                 the user's own models and plugins, as they were when the run began (`gorl.runs.inputs`)
    run.json                format, versions, git, device, command, plugins, seed
    metrics.jsonl           the record
    status.json             running, finished, interrupted or failed; the summary
    checkpoints/ artifacts/ the state

A run of several seeds has such a folder for each seed, seedN/, with the configuration of that seed alone. The folder
around them holds the requested configuration and the files that all seeds share.
"""

import datetime
import logging
import pathlib
import time
from typing import Any, TextIO

from gorl.errors import RunError
from gorl.runs.files import inside, open_plain, parse_json, read_plain, reason, require_plain, take_lock, write_json
from gorl.runs.provenance import FORMAT
from gorl.version import __version__

_FILES = ("config.gin", "operative_config.gin", "metrics.jsonl", "status.json")
_FOLDERS = ("checkpoints", "artifacts")
_FACTS = {
    "name": str,
    "study": str,
    "seed": int,
    "plugins": list,
    "members": list,
    "environment": dict,
    "versions": dict,
    "device": dict,
}
"""Entries of run.json and their types."""

_log = logging.getLogger(__name__)


class RunFolder:
    """The folder of one run on disk."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        self.record_path = path / "metrics.jsonl"
        self.config_path = path / "config.gin"
        self._lock: TextIO | None = None

    def __fspath__(self) -> str:
        return str(self.path)

    @classmethod
    def create(cls, path: pathlib.Path) -> "RunFolder":
        """Creates a run folder, which this process has claimed then with an empty config.gin.

        Raises RunError if the path holds files, another process claims it, or it cannot be created.
        """
        if found := [c for c in str(path) if c == "\\" or ord(c) < 32]:
            raise RunError(
                f"the run folder {str(path)!r} has {found[0]!r} in its name, which checkpoints cannot be written to."
                " Name another with --run-dir."
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
            if not any(path.iterdir()):
                open(path / "config.gin", "x").close()
                return cls(path)
        except FileExistsError:
            pass
        except OSError as err:
            raise RunError(f"cannot make the run folder {path}: {err.strerror}. Name another with --run-dir.") from err
        is_run = (path / "run.json").is_file()
        fix = f"Resume it with `gorl train --resume {path}`, or name" if is_run else "It holds no run: name"
        raise RunError(f"{path} exists and is not empty. {fix} another folder with --run-dir.")

    @classmethod
    def open(cls, path: pathlib.Path) -> "RunFolder":
        """Opens a run's folder. Raises RunError if it is none, or if its format or its files do not fit."""
        folder = cls(path)
        if not (path / "run.json").is_file():
            raise RunError(f"{path} is not a gorl run folder (it has no run.json).")
        found = _read_json(path / "run.json").get("format")
        if found != FORMAT:
            raise RunError(
                f"{path} has run format {found}; gorl {__version__} reads format {FORMAT}. "
                "Use the gorl version named in its run.json."
            )
        for kind, names, wrong in (("file", _FILES, pathlib.Path.is_dir), ("folder", _FOLDERS, pathlib.Path.is_file)):
            for name in names:
                require_plain(path / name)
                if wrong(path / name):
                    raise RunError(
                        f"{path / name} is in the way: a {kind} of that name belongs there. "
                        "Remove it, or name another run."
                    )
        folder.facts()
        return folder

    @property
    def name(self) -> str:
        """The run's name. One that is the end of the folder's path follows the folder where this was renamed."""
        facts = self.facts("name")
        parts = pathlib.PurePath(facts["name"]).parts
        was, now = pathlib.PurePath(str(facts.get("folder", ""))).parts, self.path.absolute().parts
        return "/".join(now[-len(parts) :]) if parts and was[-len(parts) :] == parts else facts["name"]

    @property
    def members(self) -> list["RunFolder"]:
        """Returns the folders of the seeds, or this folder for one seed. Raises RunError if run.json is broken."""
        names = self.facts().get("members")
        if not names:
            return [self]
        home = self.path.absolute().parent.parent  # a study's folder, if this run is one of its programs
        under = home if (home / "study.json").is_file() and self.path.absolute().parent.name == "programs" else None
        return [RunFolder(inside(self.path, name, f"run.json of {self.path}", under=under)) for name in names]

    def lock(self, *, wait: float = 0.0) -> None:
        """Locks the folder, because only one process may train in it. The lock ends with the process.

        `wait`: seconds to wait for another process. Raises RunError if that one still holds the lock then.
        """
        try:
            self._lock = open_plain(self.path / ".lock", "a")
        except OSError as err:
            raise RunError(
                f"cannot write in {self.path}: {reason(err)}. Fix this, or copy the run to where it can be written."
            ) from err
        deadline = time.monotonic() + wait
        while True:
            try:
                if not take_lock(self._lock):
                    _log.warning(
                        "the file system of %s has no locks: make sure that one process alone trains there.", self.path
                    )
                return
            except BlockingIOError as err:
                if time.monotonic() >= deadline:
                    raise RunError(f"another process is training in {self.path}.") from err
                time.sleep(0.1)

    def unlock(self) -> None:
        self._lock.close()

    def facts(self, *needed: str) -> dict[str, Any]:
        """Returns the contents of run.json. Raises RunError for a missing `needed` entry or a wrong type."""
        path = self.path / "run.json"
        known = _read_json(path)
        for name, kind in _FACTS.items():
            if name in known or name in needed:
                _check_entry(known, name, kind, path)
        for entry in ("members", "plugins"):
            for name in known.get(entry, ()):
                if not isinstance(name, str):
                    raise RunError(f'cannot read {path}: expected a string in "{entry}", found {name!r:.200}.')
        return known

    def set_status(self, status: str, **summary: Any) -> None:
        """Writes status.json. A failure (a full disk) is only a warning, because no result depends on the file."""
        try:
            write_json(self.path / "status.json", {"status": status, **summary})
        except OSError as err:
            _log.warning("cannot write status.json of %s: %s. It is %s.", self.path, reason(err), status)

    def status(self) -> dict[str, Any]:
        """Returns the contents of status.json; {"status": "unknown"} without one. Raises RunError if broken."""
        path = self.path / "status.json"
        if not path.exists():
            return {"status": "unknown"}
        known = _read_json(path)
        _check_entry(known, "status", str, path)
        return known


def _read_json(path: pathlib.Path) -> dict[str, Any]:
    try:
        found = parse_json(read_plain(path))
    except OSError as err:
        raise RunError(f"cannot read {path}: {err.strerror}.") from err
    except ValueError as err:
        raise RunError(f"cannot read {path}: it is not JSON ({err}).") from err
    if not isinstance(found, dict):
        raise RunError(f"cannot read {path}: it should hold an object, {{...}}, not {found!r:.50}.")
    return found


def _check_entry(known: dict[str, Any], name: str, kind: type, path: pathlib.Path) -> None:
    if not isinstance(known.get(name), kind):
        what = f"its {name!r} is {known[name]!r:.200}" if name in known else f"it has no {name!r}"
        raise RunError(f"cannot read {path}: {what}.")


def new_path(root: pathlib.Path, name: str) -> pathlib.Path:
    """Makes an empty folder for a new run, and returns it: root/name-time, with a number appended if needed.

    Making it claims the name, so that two runs which begin in the same second have two. Raises RunError.
    """
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    path, i = root / f"{name}-{stamp}", 1
    while True:
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            i += 1
            path = root / f"{name}-{stamp}-{i}"
        except OSError as err:
            raise RunError(f"cannot make the run folder {path}: {err.strerror}. Name another with --run-dir.") from err
