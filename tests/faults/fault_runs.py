"""Small real runs in this process, to be damaged: their programs compile once, so going on costs a second."""

import logging
import pathlib

from gorl import config, runs
from gorl.errors import GorlError
from gorl.training import execution

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
    execution.begin(config.build(FILES, BINDINGS), folder, study="test")


def go_on(folder: pathlib.Path, *, units: int | None = None) -> execution.Outcome:
    """Trains to the end, or to a Crash after so many units."""
    opened = runs.RunFolder.open(folder)
    seen = []

    def watch(entry):
        seen.append(entry)
        if len(seen) == units:
            raise Crash

    with execution.locked(opened):
        configuration = config.build([str(opened.config_path)])
        return execution.execute(configuration, opened, progress=lambda **_: None, observers=[watch], resumed=True)


def error_of(action) -> str:
    """The text of the error for the user that `action` raises."""
    try:
        action()
    except GorlError as err:
        return str(err)
    raise AssertionError("no error was raised")


def warnings(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING and r.name.startswith("gorl")]
