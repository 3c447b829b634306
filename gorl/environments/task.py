"""A task: an environment, its time limit, and the range of actions."""

import dataclasses
from typing import Any

import equinox as eqx
import gin

from gorl.environments.base import AbstractEnvironment
from gorl.environments.wrappers import SquashedEnvironment
from gorl.errors import ConfigError
from gorl.fields import Scalar, hyperparameter, require, structural


class EpisodeRules(eqx.Module):
    """How long training episodes are, when they begin, and from which states.

    `length` is the number of steps after which an episode is truncated. With `staggered`, the clocks of the first
    episodes are spread over that length, so that a batch covers all parts of an episode. With `fresh_resets`, every
    episode begins in its own initial state.
    """

    length: int = eqx.field(static=True)
    staggered: bool = eqx.field(static=True)
    fresh_resets: bool = eqx.field(static=True)


@gin.register(module="gorl")
class Task(eqx.Module):
    """A task: an environment, its time limit, and the range of its actions.

    `episode_length` is the number of control steps after which an episode is truncated (not terminated). With
    `staggered_starts`, the clocks of the first training episodes are spread over that length. With `fresh_resets`,
    every training episode begins in its own initial state (False: each lane returns to its first one, a published
    defect, for ablations). Pre-squash actions u are clipped to ±`action_bound`, both when the policy acts and as
    regression targets (tanh 3 = 0.995).
    """

    environment: AbstractEnvironment
    episode_length: int = structural()
    staggered_starts: bool = structural()
    fresh_resets: bool = structural()
    action_bound: Scalar = hyperparameter()

    def __check_init__(self):
        if not isinstance(self.environment, AbstractEnvironment):
            raise ConfigError(
                f"Task.environment is {self.environment!r}, not an environment; did you forget '()' after its name?"
            )
        try:
            hash(self.environment)
        except TypeError as err:
            raise ConfigError(
                f"Task.environment: the fields of {type(self.environment).__name__} must be plain settings, or equal"
                f" environments would not share compiled programs, but there is an {err}. Declare them with"
                " gorl.fields.structural()."
            ) from err
        require(self.episode_length >= 1, f"Task.episode_length = {self.episode_length}: it must be >= 1.")
        require(bool(self.action_bound > 0), f"Task.action_bound = {self.action_bound}: it must be > 0.")

    def with_physics(self, implementation: str) -> "Task":
        """Returns the task under another implementation of its environment's physics. Raises ConfigError for none."""
        return dataclasses.replace(self, environment=self.environment.with_physics(implementation))

    def describe(self) -> dict[str, Any]:
        """Returns what a run records about the environment, as JSON. Every environment has a `name`."""
        kind = type(self.environment)
        return {"library": kind.__module__.partition(".")[0], "name": kind.__name__, **self.environment.describe()}

    def content(self) -> dict[str, str]:
        """Returns a hash of the environment's model, if it has one of its own. Builds the model."""
        found = self.environment.model_hash()
        return {} if found is None else {"model_sha256": found}

    @property
    def episodes(self) -> EpisodeRules:
        """The rules of training episodes. Evaluation and collection run whole episodes from fresh resets."""
        return EpisodeRules(self.episode_length, self.staggered_starts, self.fresh_resets)

    @property
    def squashed(self) -> SquashedEnvironment:
        return SquashedEnvironment(self.environment, self.action_bound)
