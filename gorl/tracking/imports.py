"""Hands runs to a tracker again, from their own folders."""

import pathlib
from collections.abc import Callable

from gorl.errors import ConfigError, RunError, did_you_mean
from gorl.tracking import aim_repository, local
from gorl.tracking.aim import AimTracker
from gorl.tracking.base import AbstractTracker, RunInfo
from gorl.tracking.tensorboard import TensorBoardTracker

_INTERVAL = 0.1  # seconds between writes: nothing else is going on


def to_aim(repo: pathlib.Path) -> tuple[AbstractTracker, Callable[[RunInfo], int]]:
    """(a tracker into an Aim repository, what deletes a run's earlier import there and returns how many there were). Raises ConfigError."""
    if not aim_repository.available():
        raise ConfigError(
            "Aim is not installed (it has wheels for Python 3.11 and 3.12): pip install aim. Or --to tensorboard."
        )
    aim_repository.close_gone(repo)
    return AimTracker(repo=str(repo), interval=_INTERVAL, experiment=None), lambda info: aim_repository.delete(
        repo, pathlib.Path(info.folder)
    )


def to_tensorboard(root: pathlib.Path) -> tuple[AbstractTracker, Callable[[RunInfo], int]]:
    """The same into event files below a folder: <study>/<name>."""
    tracker = TensorBoardTracker(root=str(root), interval=_INTERVAL)

    def delete(info: RunInfo) -> int:
        old = list(tracker.folder(info).glob("events.out.tfevents.*"))
        for file in old:
            file.unlink()
        return min(1, len(old))

    return tracker, delete


KINDS = {"aim": to_aim, "tensorboard": to_tensorboard}


def target(kind: str, path: pathlib.Path) -> tuple[AbstractTracker, Callable[[RunInfo], int]]:
    if kind not in KINDS:
        raise ConfigError(f"--to {kind}: it is {' or '.join(KINDS)}.{did_you_mean(kind, KINDS)}")
    return KINDS[kind](path)


def import_run(tracker: AbstractTracker, delete: Callable[[RunInfo], int], path: pathlib.Path) -> str:
    """Hands over one seed's run and says what was done, in words. Raises RunError where it cannot."""
    run = local.load(path)
    if run.status in ("running", "unknown"):
        raise RunError(f"{path} is still running: its own trackers have it.")
    replaced = delete(run.info)
    tracked = tracker.start(run.info)
    for entry in run.entries:
        tracked.log(entry)
    for picture in run.pictures:
        tracked.picture(picture.path, picture.name, picture.step, picture.unit, picture.caption)
    tracked.close(run.status, run.summary)
    if tracked.failed:
        raise RunError(f"{path} could not be handed over in full.")
    return f"{'replaced' if replaced else 'imported'} ({run.status}, {len(run.entries)} entries, {len(run.pictures)} pictures)"
