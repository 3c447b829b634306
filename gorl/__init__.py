"""gorl: declarative experiments in online reinforcement learning with generative policies.

The four functions here do in Python what the commands of the same names do. Everything they need is imported when one
is called, so that `import gorl` is instant.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gorl.errors import ConfigError as ConfigError, GorlError as GorlError, RunError as RunError
from gorl.version import __version__ as __version__

if TYPE_CHECKING:
    from gorl.config import Configuration
    from gorl.runs import RunFolder
    from gorl.training.trained import Evaluation, TrainedPolicy

Path = str | os.PathLike[str]


def train(
    *files: Path,
    bindings: Sequence[str] = (),
    plugins: Sequence[str] = (),
    run_dir: Path | None = None,
    resume: bool = False,
    track: bool = True,
    reuse: bool = False,
) -> "RunFolder":
    """Trains what gin files declare, and returns the run's folder, which `load` and `evaluate` take.

    `files` are read in order, then `bindings` such as "SEED = 3". `run_dir`: the new run's folder; None makes one below
    runs/. `resume`: goes on with the run in `run_dir` instead, with its own configuration and no files or bindings.
    `track`: whether the trackers that the configuration names are told. `reuse`: takes phases that another run has
    computed, and stores this run's for others.

    Raises ConfigError, before anything is compiled, for a configuration that cannot run. After SIGINT it saves the
    state and raises KeyboardInterrupt. Reading a configuration replaces gin's global one.
    """
    from gorl.training import execution

    names = [os.fspath(file) for file in files]
    return execution.train(names, bindings, plugins, run_dir=run_dir, resume=resume, track=track, reuse=reuse)


def load(run: Path, *, which: str = "best", stage: int | None = None, plugins: Sequence[str] = ()) -> "TrainedPolicy":
    """Loads the best policy of all stages of a run's folder, or another; see `gorl.training.trained.load`."""
    from gorl.training import trained

    return trained.load(run, which=which, stage=stage, plugins=plugins)


def evaluate(
    run: Path,
    *,
    episodes: int = 128,
    seed: int = 1_000_003,
    rule: str = "mode",
    plugins: Sequence[str] = (),
    physics: str | None = None,
    stage: int | None = None,
) -> "list[Evaluation]":
    """Evaluates the best policy of all stages and the newest one; see `gorl.training.trained.evaluate`."""
    from gorl.training import trained

    return trained.evaluate(run, episodes=episodes, seed=seed, rule=rule, plugins=plugins, physics=physics, stage=stage)


def check(*files: Path, bindings: Sequence[str] = (), plugins: Sequence[str] = ()) -> "Configuration":
    """Reads, builds and checks a configuration, without running it or starting a device. Raises ConfigError."""
    from gorl import config

    configuration = config.build([os.fspath(file) for file in files], bindings, plugins)
    config.trace_phases(configuration)
    return configuration
