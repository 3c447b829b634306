"""Small real runs in this process: their programs compile once, so going on costs a second."""

import dataclasses
import logging
import pathlib

import jax
import numpy as np

from gorl import config, runs
from gorl.errors import GorlError
from gorl.runs.record import RecordEntry
from gorl.training import execution
from gorl.training.ensemble import Ensemble
from gorl.training.seed_run import Position, SeedRun
from gorl.training.trainer import Trainer

FILES = ["gorl_fm.gin", "parts/debug.gin"]
BINDINGS = [
    "Task.environment = @Slider()",
    "Experiment.stages = [@stage0/Stage(), @stage1/Stage()]",
    "Experiment.checkpoint_interval = 0.0",
    "Experiment.trackers = []",
    "critic/MLP.depth = 1",
    "policy/MLP.depth = 1",
    "decoder/MLP.depth = 1",
    "decoder/MLP.width = 16",
    "EPISODE_LENGTH = 20",
    "FIT_EPOCHS = 4",
]


class Crash(Exception):
    """Ends a run as a crash would: nothing more is saved."""


def begin(folder: pathlib.Path) -> None:
    runs.begin(config.build(FILES, BINDINGS), folder, study="test")


def go_on(folder: pathlib.Path, *, units: int | None = None) -> execution.Outcome:
    """Trains to the end, or to a Crash after so many units."""
    opened = runs.RunFolder.open(folder)
    watch = _watch([], units)
    with execution.locked(opened):
        configuration = config.build([str(opened.config_path)])
        return execution.execute(configuration, opened, progress=lambda **_: None, observers=[watch], resumed=True)


def train_here(
    configuration: config.Configuration | None, folder: pathlib.Path, *, units: int | None = None
) -> tuple[list[SeedRun], list[RecordEntry]]:
    """What the trainer alone does, to the end or to a Crash after so many units: (each seed's run, what was recorded).

    In a new folder, or from the newest checkpoint of the run there; `configuration` None takes that run's own.
    """
    opened = runs.RunFolder.open(folder) if folder.exists() else runs.begin(configuration, folder, study="test")
    experiment = (configuration or config.build([str(opened.config_path)])).experiment
    members = [SeedRun(seed, member) for seed, member in zip(experiment.seeds, opened.members, strict=True)]
    entries: list[RecordEntry] = []
    Trainer(Ensemble.of(experiment), members, lambda **_: None, [_watch(entries, units)]).run()
    return members, entries


def save_stage_end(folder: pathlib.Path, stage: int, value: float) -> None:
    """Writes the checkpoint that a run leaves at the end of a stage, with `value` in all of its arrays.

    Nothing is compiled.
    """
    experiment = config.build([str(folder / "config.gin")]).experiment
    end = sum(planned.stage <= stage for planned in experiment.planned_phases())
    fill = lambda x: np.full((1, *x.shape), value, x.dtype) if isinstance(x, jax.ShapeDtypeStruct) else x
    state = jax.tree.map(fill, experiment.template(end, False))
    store = runs.CheckpointStore(folder)
    meta = {"position": dataclasses.asdict(Position(index=end)), "elapsed": 1.0, "failures": 0, "frozen": False}
    store.save(end, state, meta, row=0)
    store.close()


def _watch(seen: list[RecordEntry], units: int | None):
    def watch(entry):
        seen.append(entry)
        if len(seen) == units:
            raise Crash

    return watch


def error_of(action) -> str:
    """The text of the error for the user that `action` raises."""
    try:
        action()
    except GorlError as err:
        return str(err)
    raise AssertionError("no error was raised")


def warnings(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING and r.name.startswith("gorl")]
