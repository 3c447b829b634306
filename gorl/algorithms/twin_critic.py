"""Action-value functions."""

import abc
from typing import Any

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.fields import structural
from gorl.networks import AbstractNormalizer


class AbstractActionCritic(eqx.Module):
    """Several independent estimates of Q(s, a), constructed as `Critic(obs_size, action_size, key=key)`. Unbatched."""

    @abc.abstractmethod
    def __call__(self, obs: Float[Array, " D"], action: Float[Array, " D_z"]) -> Float[Array, " C"]:
        """One number for each estimate."""

    @abc.abstractmethod
    def observe(self, obs: Float[Array, "N D"], weight: Float[Array, " N"]) -> "AbstractActionCritic":
        """The same critic with its normaliser's statistics updated."""


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

    def observe(self, obs: Float[Array, "N D"], weight: Float[Array, " N"]) -> "TwinCritic":
        return eqx.tree_at(lambda c: c.normalizer, self, self.normalizer.update(obs, weight))
