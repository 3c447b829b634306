"""Trains what a run's folder declares, and writes the outcome to the folder and to the trackers."""

import contextlib
import dataclasses
import logging
import math
import os
import pathlib
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gorl import config
from gorl.config import Configuration
from gorl.errors import ConfigError
from gorl.experiment import Experiment
from gorl.pictures.album import Album
from gorl.reuse.identity import reuse_of
from gorl.reuse.results import Reuse
from gorl.runs.beginning import begin
from gorl.runs.folder import RunFolder, new_path
from gorl.runs.record import RecordEntry
from gorl.runs.soundness import UNSOUND, unsoundness
from gorl.runs.summary import summary
from gorl.runtime import compilation, signals
from gorl.runtime.compilation import totals
from gorl.runtime.signals import StopSignals
from gorl.runtime.streams import printable
from gorl.tracking.base import AbstractTracked, RunInfo
from gorl.training.changes import name_changes, require_unchanged
from gorl.training.delivery import Observer
from gorl.training.ensemble import Ensemble
from gorl.training.seed_run import SeedRun, SilentSeedRun
from gorl.training.trained import reopened
from gorl.training.trainer import Diverged, Interrupted, Trainer

Path = str | os.PathLike[str]
_log = logging.getLogger(__name__)

EXIT_CODES = {"finished": 0, "paused": 0, "diverged": 3, UNSOUND: 4}
"""The command's exit codes by a run's status. After a signal it is 128 + the signal's number, else 1."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The end of a run.

    `status` is 'finished', 'paused' (after the stages it was to run), 'interrupted', 'diverged' or 'unsound'.
    """

    status: str
    code: int


@dataclasses.dataclass(frozen=True)
class DeclaredRun:
    """One seed of one configuration, and its folder."""

    configuration: Configuration
    folder: RunFolder
    seed: int


def declared(files: Sequence[str], bindings: Sequence[str] = (), plugins: Sequence[str] = ()) -> Configuration:
    """Builds the configuration of a run that is about to begin on this machine. Raises ConfigError."""
    configuration = config.build_here(files, bindings, plugins)
    if configuration.study is not None:
        raise ConfigError(
            f"{' '.join(files)} declares a study: {configuration.study}, which one run would ignore. Run the study:"
            f" gorl sweep {' '.join(files)}. One run of it is a file that includes the same and binds no Study."
        )
    config.trace_phases(configuration)
    _ = configuration.experiment.task.environment.action_size  # builds the simulator's model before a folder is made
    return configuration


def begin_run(configuration: Configuration, files: Sequence[str], path: Path | None, **facts: Any) -> RunFolder:
    """Makes the folder of a new run, at `path` or, where it is None, below runs/ by the name of the first file."""
    stem = pathlib.Path(files[0]).stem
    place = pathlib.Path(path) if path else new_path(pathlib.Path("runs"), stem)
    return begin(configuration, place, study=stem, asked=configuration.asked, **facts)


def train(
    files: Sequence[str],
    bindings: Sequence[str] = (),
    plugins: Sequence[str] = (),
    *,
    run_dir: Path | None = None,
    resume: bool = False,
    track: bool = True,
    reuse: bool = False,
) -> RunFolder:
    """Trains without a word; see `gorl.train`."""
    compilation.use_persistent_cache()
    if resume:
        if run_dir is None or files or bindings:
            raise ConfigError("resume=True goes on with the run in run_dir, and takes no files and no bindings.")
        folder = RunFolder.open(pathlib.Path(run_dir))
        configuration = reopened(folder, plugins)
        require_unchanged(folder, configuration)
        name_changes(folder, configuration, _log.warning)
    else:
        configuration = declared(files, bindings, plugins)
        folder = begin_run(configuration, files, run_dir)
    phases = reuse_of(configuration) if reuse else None
    with locked(folder):
        outcome = execute(configuration, folder, progress=lambda **_: None, resumed=resume, track=track, reuse=phases)
    if outcome.status == "interrupted":
        raise KeyboardInterrupt
    return folder


def execute(configuration: Configuration, folder: RunFolder, **settings: Any) -> Outcome:
    """Trains in a locked folder of one or several seeds. `settings` are those of `execute_together`."""
    seeds = configuration.experiment.seeds
    runs = [DeclaredRun(configuration, member, seed) for member, seed in zip(folder.members, seeds, strict=True)]
    return execute_together(runs, [folder] if len(runs) > 1 else [], **settings)


def execute_together(
    runs: Sequence[DeclaredRun],
    around: Sequence[RunFolder] = (),
    *,
    progress: Callable[..., None],
    observers: Sequence[Observer] = (),
    resumed: bool,
    track: bool = True,
    reuse: Reuse | None = None,
    stages: int | None = None,
) -> Outcome:
    """Trains runs in one program.

    `around`: folders that hold the runs' folders, and share their status. `track`: whether the configurations' trackers
    are told too. `reuse`: results of phases to take or store. `stages`: how many to run (None: all).
    """
    with _stopping([*around, *(run.folder for run in runs)]) as stop:
        settings = {"progress": progress, "observers": observers, "resumed": resumed, "track": track}
        return _execute(runs, around, stop, reuse=reuse, stages=stages, **settings)


@contextlib.contextmanager
def _stopping(folders: Sequence[RunFolder]) -> Iterator[StopSignals]:
    """Context manager in which signals ask the runs in `folders` to save and end, wherever they are."""

    def say(number: int) -> None:
        print(
            f"gorl: {signals.name(number)}: the run saves its state and ends once its unit is done, and what is being"
            " compiled is compiled. Ctrl-C again ends it at once, at its last checkpoint.",
            file=sys.stderr,
        )

    def leave(number: int) -> None:
        for folder in folders:
            if folder.status()["status"] == "running":
                folder.set_status("interrupted")
        path = printable(shlex.quote(str(folders[0].path)))
        print(f"interrupted at once: {path}\nresume:    gorl train --resume {path}", file=sys.stderr)

    with StopSignals(say=say, leave=leave) as stop:
        yield stop


def _execute(
    runs: Sequence[DeclaredRun],
    around: Sequence[RunFolder],
    stop: StopSignals,
    *,
    progress: Callable[..., None],
    observers: Sequence[Observer],
    resumed: bool,
    track: bool,
    reuse: Reuse | None,
    stages: int | None,
) -> Outcome:
    ensemble = Ensemble([(run.configuration.experiment, run.seed) for run in runs])
    start_up = StartUp()
    tracked = [_track(run, resumed) if track else [] for run in runs]
    failed: set[str] = set()
    albums = [
        Album(run.configuration.experiment.pictures, run.folder.path, trackers, failed)
        for run, trackers in zip(runs, tracked, strict=True)
    ]
    seed_runs = [
        SeedRun(run.seed, run.folder, [t.log for t in trackers], [album] if album.pictures else [])
        for run, trackers, album in zip(runs, tracked, albums, strict=True)
    ]
    for folder in (*around, *(run.folder for run in runs)):
        folder.set_status("running", pid=os.getpid())
    outcome = Outcome("failed", 1)
    try:
        settings = {"reuse": reuse, "stages": stages, "signals": stop}
        outcome = _run(Trainer(ensemble, seed_runs, progress, [start_up, *observers], **settings), ensemble, stages)
    except KeyboardInterrupt:
        outcome = Outcome("interrupted", 130)
        raise
    finally:
        more: dict[str, Any] = {"start_up": start_up.result, "compilation": totals()}
        if outcome.code == 0:
            more["stages_done"] = min(stages or ensemble.stages, ensemble.stages)
        if any(album.pictures for album in albums):
            more["pictures_s"] = round(sum(album.seconds for album in albums), 3)
        if reuse is not None:
            more["reused"] = reuse.totals
        ends = _close(seed_runs, tracked, outcome.status, more)
        if outcome.status == "finished" and set(ends) == {UNSOUND}:
            outcome = Outcome(UNSOUND, EXIT_CODES[UNSOUND])
        for folder in around:
            folder.set_status(outcome.status, **more)
    return outcome


def follow(experiment: Experiment, *, stages: int | None = None) -> Outcome:
    """Trains in a process that writes nothing, as one of several (`gorl.runtime.hosts`)."""
    ensemble = Ensemble.of(experiment)
    silent = [SilentSeedRun(seed) for seed in experiment.seeds]
    with StopSignals() as stop:
        return _run(Trainer(ensemble, silent, lambda **_: None, stages=stages, signals=stop), ensemble, stages)


def _run(trainer: Trainer, ensemble: Ensemble, stages: int | None) -> Outcome:
    try:
        trainer.run()
    except Interrupted as stop:
        return Outcome("interrupted", 128 + stop.signal)
    except Diverged:
        return Outcome("diverged", EXIT_CODES["diverged"])
    return Outcome("finished" if stages is None or stages >= ensemble.stages else "paused", 0)


@contextlib.contextmanager
def locked(*folders: RunFolder, wait: float = 0.0) -> Iterator[None]:
    """Context manager that holds the locks of run folders and of their seeds' folders.

    Raises RunError if another process still trains there after `wait` seconds.
    """
    held = [member for folder in folders for member in all_folders(folder)]
    for folder in held:
        folder.lock(wait=wait)
    try:
        yield
    finally:
        for folder in held:
            folder.unlock()


def all_folders(folder: RunFolder) -> list[RunFolder]:
    """Returns the folder itself and those of its seeds."""
    return list({f.path: f for f in (folder, *folder.members)}.values())


def _track(run: DeclaredRun, resumed: bool) -> list[AbstractTracked]:
    """Begins to track one seed's run with every tracker."""
    folder, facts = run.folder, run.folder.facts()
    own = run.configuration.for_seed(run.seed)
    info = RunInfo(
        folder=str(folder.path.absolute()),
        name=folder.name,
        study=facts["study"],
        variant=facts.get("variant"),
        axes=facts.get("axes", {}),
        seed=facts["seed"],
        parameters=own.parameters(),
        config=own.operative,
        facts=facts,
        resumed=resumed,
    )
    return [tracker.start(info) for tracker in run.configuration.experiment.trackers]


def _close(
    seed_runs: Sequence[SeedRun], tracked: Sequence[Sequence[AbstractTracked]], status: str, more: dict[str, Any]
) -> list[str]:
    """Writes every seed's outcome to its folder and its trackers. Returns the seeds' statuses."""
    ends = []
    for run, trackers in zip(seed_runs, tracked, strict=True):
        own = "diverged" if run.frozen else status
        result, about = summary(run.folder.record_path), dict(more)
        if own == "finished" and (why := unsoundness(run.folder.record_path)) is not None:
            own, about = UNSOUND, {**more, "reason": why}
            _log.warning(
                "the run of seed %s came to its end without a result: %s. See: gorl inspect %s",
                run.seed,
                why,
                run.folder.path,
            )
        ends.append(own)
        run.folder.set_status(own, **result, **about)
        for tracker in trackers:
            tracker.close(own, {k: v for k, v in result.items() if math.isfinite(v)})
    return ends


class StartUp:
    """An observer that measures how long this process took to its first training step.

    `first_training_step_s` counts from this object's creation, after all imports. `trace_s`, `lower_s` and
    `compile_or_load_s` are the parts of it that went into programs; `load_s` is the part of the last one that read the
    cache.
    """

    def __init__(self):
        self._began = time.monotonic()
        self.result: dict[str, float] = {}

    def __call__(self, entry: RecordEntry) -> None:
        if not self.result and entry.kind == "iterate":
            self.result = {"first_training_step_s": round(time.monotonic() - self._began, 3), **totals()}
