"""Tasks with known solutions. The five probes follow Andy Jones' "Debugging RL, without the agonizing pain".

Each probe isolates one thing that an algorithm must get right and takes seconds, so a failing probe shows which part is
broken.
"""

import abc
from typing import Any

import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from gorl.environments.base import AbstractEnvironment, make_state
from gorl.state import EnvState

Move = tuple[Float[Array, " D_o"], Float[Array, ""], Bool[Array, ""]]


class AbstractToy(AbstractEnvironment):
    """A task with one action whose simulator state is (obs, clock) and which is deterministic after the reset."""

    @property
    def action_size(self) -> int:
        return 1

    def reset(self, key: PRNGKeyArray) -> EnvState:
        obs = self.first(key)
        return _state(obs, jnp.zeros((), jnp.int32), jnp.zeros(()), jnp.zeros((), bool))

    def step(self, state: EnvState, action: Float[Array, " D_a"]) -> EnvState:
        obs, clock = state.sim
        new, reward, done = self.move(obs, clock, action)
        return _state(new, clock + 1, reward, done)

    def describe(self) -> dict[str, Any]:
        return {"library": "gorl", "name": type(self).__name__, "impl": "jax"}

    @abc.abstractmethod
    def first(self, key: PRNGKeyArray) -> Float[Array, " D_o"]: ...

    @abc.abstractmethod
    def move(self, obs: Float[Array, " D_o"], clock: Int[Array, ""], action: Float[Array, " D_a"]) -> Move:
        """Returns (next observation, reward, terminated)."""


def _state(obs: Array, clock: Array, reward: Array, done: Array) -> EnvState:
    return make_state((obs, clock), obs, reward, done, obs_key=None, critic_obs_key=None)


def _sign(key: PRNGKeyArray) -> Float[Array, " one"]:
    return jnp.where(jax.random.bernoulli(key, shape=(1,)), 1.0, -1.0)


@gin.register(module="gorl")
class ConstantReward(AbstractToy):
    """A probe of one step with a constant observation and reward 1: V = 1. Tests the value loss."""

    def first(self, key: PRNGKeyArray) -> Float[Array, " D_o"]:
        del key
        return jnp.zeros((1,))

    def move(self, obs: Float[Array, " D_o"], clock: Int[Array, ""], action: Float[Array, " D_a"]) -> Move:
        del clock, action
        return obs, jnp.ones(()), jnp.ones((), bool)


@gin.register(module="gorl")
class RewardFromObservation(AbstractToy):
    """A probe of one step whose observation s = ±1 is the reward: V(s) = s. Tests the gradient in the critic."""

    def first(self, key: PRNGKeyArray) -> Float[Array, " D_o"]:
        return _sign(key)

    def move(self, obs: Float[Array, " D_o"], clock: Int[Array, ""], action: Float[Array, " D_a"]) -> Move:
        del clock, action
        return obs, obs[0], jnp.ones((), bool)


@gin.register(module="gorl")
class DelayedReward(AbstractToy):
    """A probe of two steps, observation 0 then 1, with reward 1 at the end: V = (discount, 1). Tests discounting."""

    def first(self, key: PRNGKeyArray) -> Float[Array, " D_o"]:
        del key
        return jnp.zeros((1,))

    def move(self, obs: Float[Array, " D_o"], clock: Int[Array, ""], action: Float[Array, " D_a"]) -> Move:
        del action
        last = clock >= 1
        return jnp.ones_like(obs), last.astype(jnp.float32), last


@gin.register(module="gorl")
class RewardFromAction(AbstractToy):
    """A probe of one step with reward 1 - (a - 0.5)²: the best action is 0.5. Tests the policy's objective."""

    def first(self, key: PRNGKeyArray) -> Float[Array, " D_o"]:
        del key
        return jnp.zeros((1,))

    def move(self, obs: Float[Array, " D_o"], clock: Int[Array, ""], action: Float[Array, " D_a"]) -> Move:
        del clock
        return obs, 1.0 - (action[0] - 0.5) ** 2, jnp.ones((), bool)


@gin.register(module="gorl")
class RewardFromBoth(AbstractToy):
    """A probe of one step with observation s = ±1 and reward 1 - (a - 0.5 s)²: the best action is 0.5 s."""

    def first(self, key: PRNGKeyArray) -> Float[Array, " D_o"]:
        return _sign(key)

    def move(self, obs: Float[Array, " D_o"], clock: Int[Array, ""], action: Float[Array, " D_a"]) -> Move:
        del clock
        return obs, 1.0 - (action[0] - 0.5 * obs[0]) ** 2, jnp.ones((), bool)


@gin.register(module="gorl")
class Slider(AbstractToy):
    """A unit point mass on a line, rewarded for being at the origin: x'' = a, dt = 0.1, reward 1 - min(x², 1).

    The observation is [x, v], and episodes never terminate. Training through every phase takes seconds on a CPU.
    """

    def first(self, key: PRNGKeyArray) -> Float[Array, " D_o"]:
        return jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)

    def move(self, obs: Float[Array, " D_o"], clock: Int[Array, ""], action: Float[Array, " D_a"]) -> Move:
        del clock
        x, v = obs
        v = jnp.clip(v + 0.1 * action[0], -2.0, 2.0)
        x = jnp.clip(x + 0.1 * v, -2.0, 2.0)
        return jnp.stack([x, v]), 1.0 - jnp.minimum(x**2, 1.0), jnp.zeros((), bool)


@gin.register(module="gorl")
class TwoGoals(AbstractToy):
    """A task of one step with two equally good actions around a bad mean: reward exp(-(|a| - 0.6)² / (2 · 0.1²)).

    The observation is constant. A Gaussian that covers both goals has its mean, and most of its mass, between them,
    where the reward is 0; a narrow one reaches one goal only. The optimal policies are the mixtures of the two actions.
    """

    def first(self, key: PRNGKeyArray) -> Float[Array, " D_o"]:
        del key
        return jnp.zeros((1,))

    def move(self, obs: Float[Array, " D_o"], clock: Int[Array, ""], action: Float[Array, " D_a"]) -> Move:
        del clock
        return obs, jnp.exp(-0.5 * ((jnp.abs(action[0]) - 0.6) / 0.1) ** 2), jnp.ones((), bool)
