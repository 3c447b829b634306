"""A run as its own folder tells it: what happened, and whether its process still lives."""

import dataclasses
import fcntl
import json
import math
import os
import pathlib
import re
from typing import Any

from gorl.analysis.summary import summary
from gorl.config.saved import parameters
from gorl.errors import RunError
from gorl.paths import inside
from gorl.runs import RunFolder
from gorl.tracking.background import Picture
from gorl.tracking.base import Entry, RunInfo
from gorl.tracking.record import read

_PICTURE = re.compile(r"stage(\d+)-(.+)\.(?:png|gif)")


@dataclasses.dataclass(frozen=True)
class LocalRun:
    """All that a tracker is told of a run."""

    info: RunInfo
    entries: list[Entry]
    pictures: list[Picture]
    status: str
    summary: dict[str, int | float]


def folders(path: pathlib.Path) -> list[pathlib.Path]:
    """The runs of single seeds under a path: a run's folder, that of several seeds, or a study's. Raises RunError."""
    if (path / "study.json").is_file():
        variants = [inside(path, v["folder"], f"study.json of {path}") for v in _json(path / "study.json").get("variants", [])]
        found = [f.parent for variant in variants for f in sorted(variant.glob("seed*/run.json"))]
        if not found:
            raise RunError(f"{path} is a study without runs: start it first.")
        return found
    return [member.path for member in RunFolder.open(path).members]


def load(path: pathlib.Path) -> LocalRun:
    """The run of one seed. Raises RunError where the folder cannot be read."""
    folder = RunFolder.open(path)
    facts = folder.facts()
    try:
        config = (path / "operative_config.gin").read_text(encoding="utf-8")
        entries = list(read(folder.record_path))
        info = RunInfo(
            folder=str(path.absolute()), name=facts["name"], study=facts["study"], variant=facts.get("variant"), axes=facts.get("axes", {}),
            seed=facts["seed"], parameters=parameters(config), config=config, facts=facts, resumed=False,
        )  # fmt: skip
    except (OSError, KeyError, TypeError, ValueError, SyntaxError) as err:
        raise RunError(f"{path}: its record cannot be read ({type(err).__name__}: {err}).") from err
    status = fate(path) or folder.status()["status"]
    return LocalRun(info, entries, pictures(path, entries), status, finite_summary(path))


def caption(name: str, stage: int) -> str:
    return f"{name}, after stage {stage}"


def pictures(path: pathlib.Path, entries: list[Entry]) -> list[Picture]:
    """The files of pictures/, each placed at the end of its stage."""
    ends = {entry.stage: entry for entry in entries}
    found = []
    for file in sorted((path / "pictures").glob("stage*")):
        match = _PICTURE.fullmatch(file.name)
        if match and int(match[1]) in ends:
            stage, name, end = int(match[1]), match[2], ends[int(match[1])]
            found.append(Picture(file, name, end.env_steps, end.unit, caption(name, stage)))
    return found


def finite_summary(path: pathlib.Path) -> dict[str, int | float]:
    return {k: v for k, v in summary(path / "metrics.jsonl").items() if math.isfinite(v)}


def fate(path: pathlib.Path) -> str | None:
    """How the run in a folder ended: its status, or 'killed' where that says it runs but no process does. None: it runs, or nobody knows."""
    try:
        state = json.loads((path / "status.json").read_text())
        status, pid = str(state["status"]), state.get("pid")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none, or damaged
        status, pid = "unknown", None
    if status not in ("running", "unknown"):
        return status
    alive = _locked(path / ".lock")
    if alive is None:  # it was started without a lock
        alive = _exists(pid) if isinstance(pid, int) else None
    return "killed" if alive is False else None


def _locked(path: pathlib.Path) -> bool | None:
    """Whether a process holds the lock; None without a lock file."""
    try:
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return None
    except OSError:
        return True


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _json(path: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as err:
        raise RunError(f"cannot read {path}: {err}") from err
