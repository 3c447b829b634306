"""State-value functions."""

import abc
from typing import Any

import equinox as eqx
import gin
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.networks import AbstractNormalizer


class AbstractCritic(eqx.Module):
    """A state-value function, constructed as `Critic(obs_size, key=key)`. Unbatched."""

    @abc.abstractmethod
    def __call__(self, obs: Float[Array, " D"]) -> Float[Array, ""]: ...

    @abc.abstractmethod
    def observe(self, obs: Float[Array, "N D"], weight: Float[Array, " N"]) -> "AbstractCritic":
        """The same critic with its normaliser's statistics updated."""


@gin.register(module="gorl", denylist=["obs_size", "key"])
class Critic(AbstractCritic):
    """V(s): a network on normalised observations. Unbatched."""

    body: eqx.Module
    normalizer: AbstractNormalizer

    def __init__(self, obs_size: int, *, body: Any, normalizer: Any, key: PRNGKeyArray):
        self.body, self.normalizer = body(obs_size, 1, key=key), normalizer(obs_size)

    def __call__(self, obs: Float[Array, " D"]) -> Float[Array, ""]:
        return self.body(self.normalizer(obs))[0]

    def observe(self, obs: Float[Array, "N D"], weight: Float[Array, " N"]) -> "Critic":
        return eqx.tree_at(lambda c: c.normalizer, self, self.normalizer.update(obs, weight))
