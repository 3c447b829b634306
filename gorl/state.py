"""The pytrees that a run updates, with the shape of every field.

Names of axes: T time steps, B environments, E episodes, L steps of an episode, D_o observation, D_a action, D_z latent.
"""

import equinox as eqx
import numpy as np
from jaxtyping import Array as JaxArray, Bool, Float, Int

from gorl.runtime.devices import Sharded
from gorl.runtime.trees import PyTree as PyTree

Array = JaxArray | np.ndarray  # a state begins on the host


class Spaces(eqx.Module):
    """Sizes of an environment's observations and actions."""

    observation: int = eqx.field(static=True)
    critic_observation: int = eqx.field(static=True)
    action: int = eqx.field(static=True)
    decoded: int | None = eqx.field(static=True, default=None)  # of the u that a decoder makes of an action


class AbstractObserved(eqx.Module):
    """A mix-in for states with an observation for the policy and, optionally, another one for the critic."""

    obs: eqx.AbstractVar[Float[Array, "*batch D_o"]]
    critic_obs: eqx.AbstractVar[Float[Array, "*batch D_c"] | None]  # None: the critic sees `obs`

    @property
    def for_critic(self) -> Float[Array, "*batch D"]:
        """The critic's observation."""
        return self.obs if self.critic_obs is None else self.critic_obs


class EnvState(AbstractObserved):
    """One environment after a reset or a step.

    `sim` is the physics library's state. `terminated` means that the task ended, with no value after it. `invalid`
    means that the step produced a number that is not finite: the transition must be ignored and the environment reset.
    """

    sim: PyTree
    obs: Float[Array, "*batch D_o"]
    critic_obs: Float[Array, "*batch D_c"] | None  # None: the critic sees `obs`
    reward: Float[Array, "*batch"]
    terminated: Bool[Array, "*batch"]
    invalid: Bool[Array, "*batch"]


class Lanes(Sharded):
    """A batch of environments that reset themselves, each from a fresh initial state (see acting/lanes.py)."""

    env: EnvState  # [B, ...]
    needs_reset: Bool[Array, " B"]
    clock: Int[Array, " B"]  # steps since the episode began
    start_clock: Int[Array, " B"]  # clock after the next reset: > 0 only for the staggered first episode
    partial: Bool[Array, " B"]  # the episode began with a clock > 0 and is excluded from statistics
    episode_return: Float[Array, " B"]
    pool: EnvState  # [P, ...] initial states not yet used
    pool_used: Int[Array, ""]
    key: JaxArray


class Transition(AbstractObserved):
    """One step of a batch of environments, as learning uses it. Its leading axes are [T, B] after a rollout."""

    obs: Float[Array, "*batch D_o"]
    critic_obs: Float[Array, "*batch D_c"] | None
    action: Float[Array, "*batch D_z"]
    extras: PyTree  # what the policy stored while sampling, such as log-probabilities
    reward: Float[Array, "*batch"]
    next_critic_obs: Float[Array, "*batch D"]  # before any reset
    terminated: Bool[Array, "*batch"]
    truncated: Bool[Array, "*batch"]
    valid: Bool[Array, "*batch"]
    finished: Bool[Array, "*batch"]  # a whole episode ended here
    episode_return: Float[Array, "*batch"]  # its return where finished


class Episodes(eqx.Module):
    """Whole episodes, one per row, each from a fresh reset. `valid` is False after an episode's end."""

    obs: Float[Array, "E L D_o"]
    action: Float[Array, "E L D_a"]  # pre-squash u
    reward: Float[Array, "E L"]
    value: Float[Array, "E L"]  # estimated by the learner that collected, in its scaled rewards
    valid: Bool[Array, "E L"]
    noise: Float[Array, "E L D_z"] | None = None  # standard normal, of the latent that was decoded to the action


class Dataset(eqx.Module):
    """Collected episodes, which no longer change. A checkpoint stores them once and refers to them by their hash."""

    episodes: Episodes


class Snapshot(eqx.Module):
    """The best policy of a phase so far. `value` is -inf until the first evaluation."""

    policy: PyTree
    value: Float[Array, ""]
    iteration: Int[Array, ""]


class Gain(eqx.Module):
    """The gain of an ImprovePolicy phase with an end rule. `value` is the evaluation of its best policy."""

    found: Bool[Array, ""]  # False: its best policy is its first one
    value: Float[Array, ""]


class RunState(eqx.Module):
    """The state that one phase passes to the next."""

    decoder: PyTree
    policy: PyTree | None = None  # the best or the last one, as the phase is configured
    best: PyTree | None = None
    learner: PyTree | None = None  # the algorithm's modules after the last update
    dataset: Dataset | None = None
    gain: Gain | None = None  # of the last phase, if that improved the policy and had an end rule
    replay: PyTree | None = None  # what the algorithm stored, where that holds for the next decoder

    @property
    def is_without_gain(self) -> bool:
        """Whether no seed [S] has anything new to collect and fit. Waits for the device if there is an end rule."""
        return self.gain is not None and not bool(np.any(np.asarray(self.gain.found)))
