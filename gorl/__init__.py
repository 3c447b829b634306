"""gorl: declarative experiments in online reinforcement learning with generative policies."""

__version__ = "0.1.0"

from gorl.errors import ConfigError as ConfigError, GorlError as GorlError, RunError as RunError


def load(run, *, which: str = "selected", plugins=()):
    """Loads the trained policy of a run folder; see `gorl.runs.load`."""
    from gorl.runs import load as _load

    return _load(run, which=which, plugins=plugins)
