"""State-value and action-value functions."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.fields import structural
from gorl.networks import AbstractNormalizer, update_normalizers

VALUE_BATCH = {"cpu": 4096}
"""Rows of a rollout whose values are computed per batch, by platform. On a CPU the activations then stay in cache."""
DEFAULT_VALUE_BATCH = 2**17
"""The same on other platforms, where the activations of a whole rollout need not be in memory at once."""


class AbstractCritic(eqx.Module):
    """A state-value function, constructed as `Critic(obs_size, key=key)`. Unbatched."""

    @abc.abstractmethod
    def __call__(self, obs: Float[Array, " D"]) -> Float[Array, ""]: ...

    def observe(self, obs: Float[Array, "N D"], weight: Float[Array, " N"]) -> "AbstractCritic":
        """Returns the same critic with its normalizers' statistics updated."""
        return update_normalizers(self, obs, weight)


@gin.register(module="gorl", denylist=["obs_size", "key"])
class Critic(AbstractCritic):
    """V(s): a network on normalized observations. Unbatched."""

    body: eqx.Module
    normalizer: AbstractNormalizer

    def __init__(self, obs_size: int, *, body: Any, normalizer: Any, key: PRNGKeyArray):
        self.body, self.normalizer = body(obs_size, 1, key=key), normalizer(obs_size)

    def __call__(self, obs: Float[Array, " D"]) -> Float[Array, ""]:
        return self.body(self.normalizer(obs))[0]


def values_along(
    critic: Callable[[Array], Array], obs: Float[Array, "T B D"], next_obs: Float[Array, "T B D"]
) -> tuple[Float[Array, "T B"], Float[Array, "T B"]]:
    """Returns V before and after each of T steps of B lanes.

    A step's next observation is the observation of the following step, unless an episode ended between them. Only there
    is V(next_obs) computed separately, B rows at a time. Gradients flow through the first result only.
    """
    fixed = jax.tree.map(lambda x: jax.lax.stop_gradient(x) if eqx.is_array(x) else x, critic)
    lanes, last = obs.shape[1], next_obs[-1:]
    batch = max(1, VALUE_BATCH.get(jax.default_backend(), DEFAULT_VALUE_BATCH) // lanes)
    value = jax.lax.map(jax.vmap(critic), jnp.concatenate([obs, last]), batch_size=batch)
    differs = jnp.any(next_obs != jnp.concatenate([obs[1:], last]), axis=-1).reshape(-1)
    rows = jnp.nonzero(differs, size=differs.size, fill_value=differs.size)[0]
    next_rows, count = next_obs.reshape(-1, next_obs.shape[-1]), jnp.sum(differs)

    def compute_rows(carry: tuple) -> tuple:
        done, next_value = carry
        index = jax.lax.dynamic_slice_in_dim(rows, done, lanes)
        computed = jax.vmap(fixed)(next_rows.at[index].get(mode="clip"))
        return done + lanes, next_value.at[index].set(computed, mode="drop")

    start = jnp.zeros((), count.dtype), jax.lax.stop_gradient(value[1:]).reshape(-1)
    _, next_value = jax.lax.while_loop(lambda carry: carry[0] < count, compute_rows, start)
    return value[:-1], next_value.reshape(obs.shape[:2])


class AbstractActionCritic(eqx.Module):
    """An ensemble of estimates of Q(s, a), constructed as `Critic(obs_size, action_size, key=key)`. Unbatched."""

    @abc.abstractmethod
    def __call__(self, obs: Float[Array, " D"], action: Float[Array, " D_z"]) -> Float[Array, " C"]:
        """Returns the C estimates of Q(s, a)."""

    def loss(
        self, obs: Float[Array, " D"], action: Float[Array, " D_z"], target: Float[Array, ""]
    ) -> tuple[Float[Array, ""], Float[Array, " C"]]:
        """Returns the loss of the estimates against one target, and the estimates.

        By default it is half the squared error, summed over the estimates.
        """
        estimates = self(obs, action)
        return 0.5 * jnp.sum((estimates - target) ** 2), estimates

    def observe(self, obs: Float[Array, "N D"], weight: Float[Array, " N"]) -> "AbstractActionCritic":
        """Returns the same critic with its normalizers' statistics updated."""
        return update_normalizers(self, obs, weight)


@gin.register(module="gorl", denylist=["obs_size", "action_size", "key"])
class TwinCritic(AbstractActionCritic):
    """Two networks Q_1(s, a), Q_2(s, a) on [normalized s, a], whose minimum is the estimate of Q(s, a). Unbatched.

    This is clipped double Q-learning: Fujimoto et al., arXiv 1802.09477. With `squash`, the networks see tanh(a), which
    suits pre-squash actions, because the environment sees no difference between saturated ones. Otherwise they see a as
    it is, which suits latents.
    """

    bodies: eqx.Module  # both networks: every array has a leading axis of 2
    normalizer: AbstractNormalizer
    squash: bool = structural()

    def __init__(
        self,
        obs_size: int,
        action_size: int,
        *,
        body: Any,
        normalizer: Any,
        squash: bool,
        key: PRNGKeyArray,
    ):
        self.bodies = eqx.filter_vmap(lambda k: body(obs_size + action_size, 1, key=k))(jax.random.split(key))
        self.normalizer, self.squash = normalizer(obs_size), squash

    def __call__(self, obs: Float[Array, " D"], action: Float[Array, " D_z"]) -> Float[Array, " C"]:
        x = jnp.concatenate([self.normalizer(obs), jnp.tanh(action) if self.squash else action])
        return eqx.filter_vmap(lambda body: body(x)[0])(self.bodies)
