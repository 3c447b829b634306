"""A task: an environment, its time limit, and the range of actions."""

import equinox as eqx
import gin

from gorl.environments.base import AbstractEnvironment
from gorl.environments.wrappers import SquashedEnvironment
from gorl.errors import ConfigError
from gorl.fields import Scalar, hyperparameter, require, structural


class EpisodeRules(eqx.Module):
    """How long training episodes are, when they begin, and from which states.

    `length`: steps until an episode is cut off. `staggered`: the first episodes begin at clocks spread over the length,
    so that a batch does not see one slice of an episode only. `fresh_resets`: every episode begins in its own state.
    """

    length: int = eqx.field(static=True)
    staggered: bool = eqx.field(static=True)
    fresh_resets: bool = eqx.field(static=True)


@gin.register(module="gorl")
class Task(eqx.Module):
    """`episode_length`: control steps until an episode is cut off (a truncation, not a termination).

    `staggered_starts`: in training the first episodes begin at spread clocks. `fresh_resets`: in training every episode begins
    in a state of its own (False: each lane goes back to its first one, a published defect, for ablations).
    `action_bound`: pre-squash actions u are clipped to ± this, for the policy and as regression targets (tanh 3 = 0.995).
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
                f"Task.environment: the fields of {type(self.environment).__name__} must be plain settings, or equal environments would"
                f" not share compiled programs, but there is an {err}. Declare them with gorl.fields.structural()."
            ) from err
        require(self.episode_length >= 1, f"Task.episode_length = {self.episode_length}: it must be >= 1.")
        require(bool(self.action_bound > 0), f"Task.action_bound = {self.action_bound}: it must be > 0.")

    @property
    def episodes(self) -> EpisodeRules:
        """Those of training. Evaluation and collection run whole episodes from fresh resets."""
        return EpisodeRules(self.episode_length, self.staggered_starts, self.fresh_resets)

    @property
    def squashed(self) -> SquashedEnvironment:
        return SquashedEnvironment(self.environment, self.action_bound)
