"""State-value functions."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.fields import structural
from gorl.networks import AbstractNormalizer, observed

ROWS = {True: 4096, False: 2**17}
"""Of a rollout, those whose values are computed at a time, on a CPU (activations then stay in its cache) or another device (they need not all be in memory)."""


class AbstractCritic(eqx.Module):
    """A state-value function, constructed as `Critic(obs_size, key=key)`. Unbatched."""

    @abc.abstractmethod
    def __call__(self, obs: Float[Array, " D"]) -> Float[Array, ""]: ...

    def observe(self, obs: Float[Array, "N D"], weight: Float[Array, " N"]) -> "AbstractCritic":
        """Returns the same critic with its normalizers' statistics updated."""
        return observed(self, obs, weight)


@gin.register(module="gorl", denylist=["obs_size", "key"])
class Critic(AbstractCritic):
    """V(s): a network on normalised observations. Unbatched."""

    body: eqx.Module
    normalizer: AbstractNormalizer

    def __init__(self, obs_size: int, *, body: Any, normalizer: Any, key: PRNGKeyArray):
        self.body, self.normalizer = body(obs_size, 1, key=key), normalizer(obs_size)

    def __call__(self, obs: Float[Array, " D"]) -> Float[Array, ""]:
        return self.body(self.normalizer(obs))[0]


def values_along(
    critic: Callable[[Array], Array], obs: Float[Array, "T B D"], next_obs: Float[Array, "T B D"]
) -> tuple[Float[Array, "T B"], Float[Array, "T B"]]:
    """V before and after each of T steps of B lanes.

    What a step leads to is what the next one begins with, unless an episode ended between them: only there V(next_obs) is computed
    by itself, B rows at a time. Gradients go through the first result alone.
    """
    fixed = jax.tree.map(lambda x: jax.lax.stop_gradient(x) if eqx.is_array(x) else x, critic)
    lanes, last = obs.shape[1], next_obs[-1:]
    value = jax.lax.map(
        jax.vmap(critic), jnp.concatenate([obs, last]), batch_size=max(1, ROWS[jax.default_backend() == "cpu"] // lanes)
    )
    apart = jnp.any(next_obs != jnp.concatenate([obs[1:], last]), axis=-1).reshape(-1)
    rows = jnp.nonzero(apart, size=apart.size, fill_value=apart.size)[0]
    ends, count = next_obs.reshape(-1, next_obs.shape[-1]), jnp.sum(apart)

    def more(carry: tuple) -> tuple:
        done, then = carry
        some = jax.lax.dynamic_slice_in_dim(rows, done, lanes)
        return done + lanes, then.at[some].set(jax.vmap(fixed)(ends.at[some].get(mode="clip")), mode="drop")

    _, then = jax.lax.while_loop(
        lambda carry: carry[0] < count, more, (jnp.zeros((), count.dtype), jax.lax.stop_gradient(value[1:]).reshape(-1))
    )
    return value[:-1], then.reshape(obs.shape[:2])


class AbstractActionCritic(eqx.Module):
    """Several independent estimates of Q(s, a), constructed as `Critic(obs_size, action_size, key=key)`. Unbatched."""

    @abc.abstractmethod
    def __call__(self, obs: Float[Array, " D"], action: Float[Array, " D_z"]) -> Float[Array, " C"]:
        """One number for each estimate."""

    def observe(self, obs: Float[Array, "N D"], weight: Float[Array, " N"]) -> "AbstractActionCritic":
        """Returns the same critic with its normalizers' statistics updated."""
        return observed(self, obs, weight)


@gin.register(module="gorl", denylist=["obs_size", "action_size", "key"])
class TwinCritic(AbstractActionCritic):
    """[Q_1(s, a), Q_2(s, a)]: two networks on [normalised s, a], whose minimum is what one believes (Fujimoto et al., arXiv
    1802.09477). Unbatched.

    `squash`: the networks see tanh(a), as fits actions before tanh, beyond whose range nothing changes; or the latent as it is.
    """

    bodies: eqx.Module  # both in one: every array has a leading axis of 2
    normalizer: AbstractNormalizer
    squash: bool = structural()

    def __init__(self, obs_size: int, action_size: int, *, body: Any, normalizer: Any, squash: bool, key: PRNGKeyArray):
        self.bodies = eqx.filter_vmap(lambda k: body(obs_size + action_size, 1, key=k))(jax.random.split(key))
        self.normalizer, self.squash = normalizer(obs_size), squash

    def __call__(self, obs: Float[Array, " D"], action: Float[Array, " D_z"]) -> Float[Array, " C"]:
        seen = jnp.concatenate([self.normalizer(obs), jnp.tanh(action) if self.squash else action])
        return eqx.filter_vmap(lambda body: body(seen)[0])(self.bodies)
