"""Tasks whose answers are known. The five probes follow Andy Jones' "Debugging RL, without the agonizing pain".

Each isolates one thing an algorithm must get right, in seconds: if a probe fails, it says which part is broken.
"""

import abc
from typing import Any

import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.environments.base import AbstractEnvironment, make_state
from gorl.state import EnvState


class AbstractToy(AbstractEnvironment):
    """A task with one action whose simulator state is (obs, clock) and that draws nothing after the reset."""

    @property
    def action_size(self) -> int:
        return 1

    def reset(self, key: PRNGKeyArray) -> EnvState:
        obs = self.first(key)
        return _state(obs, jnp.zeros((), jnp.int32), obs, jnp.zeros(()), jnp.zeros((), bool))

    def step(self, state: EnvState, action: Float[Array, " D_a"]) -> EnvState:
        obs, clock = state.sim
        new, reward, done = self.move(obs, clock, action)
        return _state(new, clock + 1, new, reward, done)

    def describe(self) -> dict[str, Any]:
        return {"library": "gorl", "name": type(self).__name__, "impl": "jax"}

    @abc.abstractmethod
    def first(self, key: PRNGKeyArray) -> Float[Array, " D_o"]: ...

    @abc.abstractmethod
    def move(self, obs: Float[Array, " D_o"], clock: Any, action: Float[Array, " D_a"]) -> tuple[Any, Any, Any]:
        """(next observation, reward, terminated)."""


def _state(obs: Any, clock: Any, seen: Any, reward: Any, done: Any) -> EnvState:
    return make_state((obs, clock), seen, reward, done, obs_key=None, critic_obs_key=None)


def _sign(key: PRNGKeyArray) -> Float[Array, " one"]:
    return jnp.where(jax.random.bernoulli(key, shape=(1,)), 1.0, -1.0)


@gin.register(module="gorl")
class ConstantReward(AbstractToy):
    """One step, reward 1, nothing to see: V = 1. Tests the value loss."""

    def first(self, key: PRNGKeyArray) -> Float[Array, " D_o"]:
        del key
        return jnp.zeros((1,))

    def move(self, obs: Float[Array, " D_o"], clock: Any, action: Float[Array, " D_a"]) -> tuple[Any, Any, Any]:
        del clock, action
        return obs, jnp.ones(()), jnp.ones((), bool)


@gin.register(module="gorl")
class RewardFromObservation(AbstractToy):
    """One step, observation ±1 is the reward: V(s) = s. Tests that gradients reach the critic's input."""

    def first(self, key: PRNGKeyArray) -> Float[Array, " D_o"]:
        return _sign(key)

    def move(self, obs: Float[Array, " D_o"], clock: Any, action: Float[Array, " D_a"]) -> tuple[Any, Any, Any]:
        del clock, action
        return obs, obs[0], jnp.ones((), bool)


@gin.register(module="gorl")
class DelayedReward(AbstractToy):
    """Two steps, observation 0 then 1, reward 1 at the end: V = (discount, 1). Tests discounting."""

    def first(self, key: PRNGKeyArray) -> Float[Array, " D_o"]:
        del key
        return jnp.zeros((1,))

    def move(self, obs: Float[Array, " D_o"], clock: Any, action: Float[Array, " D_a"]) -> tuple[Any, Any, Any]:
        del action
        last = clock >= 1
        return jnp.ones_like(obs), last.astype(jnp.float32), last


@gin.register(module="gorl")
class RewardFromAction(AbstractToy):
    """One step, reward 1 - (a - 0.5)²: the best action is 0.5. Tests the policy's objective."""

    def first(self, key: PRNGKeyArray) -> Float[Array, " D_o"]:
        del key
        return jnp.zeros((1,))

    def move(self, obs: Float[Array, " D_o"], clock: Any, action: Float[Array, " D_a"]) -> tuple[Any, Any, Any]:
        del clock
        return obs, 1.0 - (action[0] - 0.5) ** 2, jnp.ones((), bool)


@gin.register(module="gorl")
class RewardFromBoth(AbstractToy):
    """One step, observation ±1, reward 1 - (a - 0.5 s)²: the best action follows the observation."""

    def first(self, key: PRNGKeyArray) -> Float[Array, " D_o"]:
        return _sign(key)

    def move(self, obs: Float[Array, " D_o"], clock: Any, action: Float[Array, " D_a"]) -> tuple[Any, Any, Any]:
        del clock
        return obs, 1.0 - (action[0] - 0.5 * obs[0]) ** 2, jnp.ones((), bool)


@gin.register(module="gorl")
class Slider(AbstractToy):
    """A unit point mass on a line, pushed towards the origin: x'' = a, dt = 0.1, reward 1 - min(x², 1). Never ends.

    Observation [x, v]. Cheap enough to train through every phase in seconds on a CPU.
    """

    def first(self, key: PRNGKeyArray) -> Float[Array, " D_o"]:
        return jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)

    def move(self, obs: Float[Array, " D_o"], clock: Any, action: Float[Array, " D_a"]) -> tuple[Any, Any, Any]:
        del clock
        x, v = obs
        v = jnp.clip(v + 0.1 * action[0], -2.0, 2.0)
        x = jnp.clip(x + 0.1 * v, -2.0, 2.0)
        return jnp.stack([x, v]), 1.0 - jnp.minimum(x**2, 1.0), jnp.zeros((), bool)


@gin.register(module="gorl")
class TwoGoals(AbstractToy):
    """One step, nothing to see, two equally good actions around a bad mean: reward exp(-(|a| - 0.6)² / (2 · 0.1²)).

    A Gaussian that covers both goals has its mean, and most of its mass, between them, where the reward is 0; one that is
    sharp has one goal. The best law is any mixture of the two.
    """

    def first(self, key: PRNGKeyArray) -> Float[Array, " D_o"]:
        del key
        return jnp.zeros((1,))

    def move(self, obs: Float[Array, " D_o"], clock: Any, action: Float[Array, " D_a"]) -> tuple[Any, Any, Any]:
        del clock
        return obs, jnp.exp(-0.5 * ((jnp.abs(action[0]) - 0.6) / 0.1) ** 2), jnp.ones((), bool)
