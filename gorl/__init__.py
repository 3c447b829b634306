"""gorl: declarative experiments in online reinforcement learning with generative policies."""

from gorl.errors import ConfigError as ConfigError, GorlError as GorlError, RunError as RunError


def load(run, *, which: str = "selected", plugins=()):
    """Loads the trained policy of a run folder; see `gorl.training.trained.load`."""
    from gorl.training.trained import load as _load

    return _load(run, which=which, plugins=plugins)
