"""Importing runs into a tracker from their folders."""

import pathlib
from collections.abc import Callable

from gorl.errors import ConfigError, RunError, did_you_mean
from gorl.tracking import aim_repository, local
from gorl.tracking.aim import AimTracker
from gorl.tracking.base import AbstractTracker, RunInfo
from gorl.tracking.tensorboard import TensorBoardTracker

_INTERVAL = 0.1  # seconds between writes: no training competes with them


def to_aim(repo: pathlib.Path) -> tuple[AbstractTracker, Callable[[RunInfo], int]]:
    """Returns (a tracker for an Aim repository, a function that deletes a run's earlier imports and counts them).

    Raises ConfigError if Aim is not installed.
    """
    if not aim_repository.available():
        raise ConfigError(
            "Aim is not installed (it has wheels for Python 3.11 and 3.12): pip install aim. Or --to tensorboard."
        )
    aim_repository.close_dead_runs(repo)
    delete = lambda info: aim_repository.delete(repo, pathlib.Path(info.folder))
    return AimTracker(repo=str(repo), interval=_INTERVAL, experiment=None), delete


def to_tensorboard(root: pathlib.Path) -> tuple[AbstractTracker, Callable[[RunInfo], int]]:
    """Returns the same pair as `to_aim` for TensorBoard event files in root/<study>/<name>."""
    tracker = TensorBoardTracker(root=str(root), interval=_INTERVAL)

    def delete(info: RunInfo) -> int:
        old = list(tracker.folder(info).glob("events.out.tfevents.*"))
        for file in old:
            file.unlink()
        return min(1, len(old))

    return tracker, delete


KINDS = {"aim": to_aim, "tensorboard": to_tensorboard}


def create_tracker(kind: str, path: pathlib.Path) -> tuple[AbstractTracker, Callable[[RunInfo], int]]:
    """Returns the tracker and the deletion of earlier imports of a kind in KINDS. Raises ConfigError."""
    if kind not in KINDS:
        raise ConfigError(f"--to {kind}: it is {' or '.join(KINDS)}.{did_you_mean(kind, KINDS)}")
    return KINDS[kind](path)


def import_run(tracker: AbstractTracker, delete: Callable[[RunInfo], int], path: pathlib.Path) -> str:
    """Imports one seed's run and returns a description of what was done. Raises RunError if it fails."""
    run = local.load_run(path)
    if run.status in ("running", "unknown"):
        raise RunError(f"{path} is still running, and its own trackers record it. Import it when it has ended.")
    replaced = delete(run.info)
    tracked = tracker.start(run.info)
    for entry in run.entries:
        tracked.log(entry)
    for picture in run.pictures:
        tracked.picture(picture.path, picture.name, picture.step, picture.unit, picture.caption)
    tracked.close(run.status, run.summary)
    if tracked.failed:
        raise RunError(f"{path} could not be imported completely.")
    contents = f"{run.status}, {len(run.entries)} entries, {len(run.pictures)} pictures"
    return f"{'replaced' if replaced else 'imported'} ({contents})"
