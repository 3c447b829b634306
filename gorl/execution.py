"""Trains what is declared in a run folder, to the end of it or of a stage, and leaves the outcome in the folder and at the trackers."""

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gorl import compilation
from gorl.analysis.summary import summary
from gorl.config import Configuration
from gorl.experiment import Experiment
from gorl.joint import Joint
from gorl.member import Follower, Member
from gorl.pictures.album import Album
from gorl.reuse.results import Reuse
from gorl.runs import RunFolder
from gorl.tracking.base import AbstractTracked, Entry, RunInfo
from gorl.trainer import Diverged, Interrupted, Trainer

EXIT_CODES = {"finished": 0, "paused": 0, "diverged": 3}
"""Of the command, by a run's status. (After a signal: 128 + its number. Else 1.)"""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How it ended: 'finished', 'paused' (at the end of the stage it was to run to), 'interrupted' or 'diverged'."""

    status: str
    code: int


def execute(configuration: Configuration, folder: RunFolder, **settings: Any) -> Outcome:
    """Trains in a locked folder of one or several seeds; `settings` are those of `execute_rows`."""
    experiment = configuration.experiment
    rows = [Row(configuration, member, seed) for member, seed in zip(folder.members, experiment.seeds, strict=True)]
    around = [folder] if len(rows) > 1 else []
    return execute_rows(experiment, rows, around, **settings)


@dataclasses.dataclass(frozen=True)
class Row:
    """One seed of one configuration, and its folder."""

    configuration: Configuration
    folder: RunFolder
    seed: int


def execute_rows(
    experiment: Experiment | Joint,
    rows: Sequence[Row],
    around: Sequence[RunFolder] = (),
    *,
    progress: Callable[..., None],
    observers: Sequence[Callable[[Entry], None]] = (),
    resumed: bool,
    track: bool = True,
    reuse: Reuse | None = None,
    stages: int | None = None,
) -> Outcome:
    """Trains rows in one program. `around`: folders that hold them, and share their status. `track`: at the configurations'
    trackers too. `reuse`: results of phases to take or leave. `stages`: how many to run (None: all)."""
    start_up = compilation.StartUp()
    tracked = [_track(row, resumed) if track else [] for row in rows]
    failed: set[str] = set()
    albums = [Album(r.configuration.experiment.pictures, r.folder.path, ts, failed) for r, ts in zip(rows, tracked, strict=True)]
    members = [
        Member(row.seed, row.folder, [t.log for t in ts], [album] if album.pictures else [])
        for row, ts, album in zip(rows, tracked, albums, strict=True)
    ]
    for folder in (*around, *(row.folder for row in rows)):
        folder.set_status("running", pid=os.getpid())
    outcome = Outcome("failed", 1)
    try:
        outcome = _run(Trainer(experiment, members, progress, [start_up, *observers], reuse=reuse, stages=stages), experiment, stages)
    finally:
        more: dict[str, Any] = {"start_up": start_up.result, "compilation": compilation.totals()}
        if outcome.code == 0:
            more["stages_done"] = min(stages or len(experiment.stages), len(experiment.stages))
        if any(album.pictures for album in albums):
            more["pictures_s"] = round(sum(album.seconds for album in albums), 3)
        if reuse is not None:
            more["reused"] = reuse.taken
        _close(members, tracked, outcome.status, more)
        for folder in around:
            folder.set_status(outcome.status, **more)
    return outcome


def follow(experiment: Experiment, *, stages: int | None = None) -> Outcome:
    """Trains in a process that writes nothing, as one of several (`gorl.hosts`)."""
    return _run(Trainer(experiment, [Follower(seed) for seed in experiment.seeds], lambda **_: None, stages=stages), experiment, stages)


def _run(trainer: Trainer, experiment: Experiment | Joint, stages: int | None) -> Outcome:
    try:
        trainer.run()
    except Interrupted as stop:
        return Outcome("interrupted", 128 + stop.signal)
    except Diverged:
        return Outcome("diverged", EXIT_CODES["diverged"])
    return Outcome("finished" if stages is None or stages >= len(experiment.stages) else "paused", 0)


@contextlib.contextmanager
def locked(*folders: RunFolder, wait: float = 0.0) -> Iterator[None]:
    """Holds the locks of run folders and of their seeds'. Raises RunError if another process trains there, still after `wait` seconds."""
    held = [each for folder in folders for each in all_folders(folder)]
    for each in held:
        each.lock(wait=wait)
    try:
        yield
    finally:
        for each in held:
            each.unlock()


def all_folders(folder: RunFolder) -> list[RunFolder]:
    """The folder itself, and those of its seeds."""
    return list({f.path: f for f in (folder, *folder.members)}.values())


def _track(row: Row, resumed: bool) -> list[AbstractTracked]:
    """One seed's run at every tracker."""
    folder, facts = row.folder, row.folder.facts()
    own = row.configuration.alone(row.seed)
    info = RunInfo(
        folder=str(folder.path.absolute()),
        name=facts["name"],
        study=facts["study"],
        variant=facts.get("variant"),
        axes=facts.get("axes", {}),
        seed=facts["seed"],
        parameters=own.parameters(),
        config=own.operative,
        facts=facts,
        resumed=resumed,
    )
    return [tracker.start(info) for tracker in row.configuration.experiment.trackers]


def _close(members: Sequence[Member], tracked: Sequence[Sequence[AbstractTracked]], status: str, more: dict[str, Any]) -> None:
    """Every seed's outcome, in its folder and at its trackers."""
    for member, trackers in zip(members, tracked, strict=True):
        own = "diverged" if member.frozen else status
        result = summary(member.folder.record_path)
        member.folder.set_status(own, **result, **more)
        for tracker in trackers:
            tracker.close(own, {k: v for k, v in result.items() if math.isfinite(v)})
