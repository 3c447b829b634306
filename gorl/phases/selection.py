"""Selections of the collected episodes that a decoder is fitted to, and weights of their steps."""

import abc
import math

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gorl.fields import Scalar, hyperparameter, require, structural
from gorl.objectives.gae import generalized_advantage
from gorl.state import Episodes


class AbstractSelection(eqx.Module):
    """A choice of episodes (all of them by default) and a weight for each of their steps."""

    def count(self, episodes: int) -> int:
        """Returns how many of `episodes` episodes are chosen."""
        return episodes

    def choose(self, episodes: Episodes) -> Int[Array, " C"]:
        """Returns the indices of the chosen episodes."""
        return jnp.arange(episodes.valid.shape[0], dtype=jnp.int32)

    @abc.abstractmethod
    def weight(self, episodes: Episodes) -> Float[Array, "E L"]:
        """Returns the weight of every step, 0 where it is not valid. The mean over valid steps is near 1."""


def episode_returns(episodes: Episodes) -> Float[Array, " E"]:
    """Returns every episode's undiscounted sum of rewards."""
    return jnp.sum(jnp.where(episodes.valid, episodes.reward, 0.0), axis=1)


def episode_advantages(
    episodes: Episodes, discount: Scalar, gae_lambda: Scalar, reward_scale: Scalar
) -> tuple[Float[Array, "E L"], Float[Array, "E L"]]:
    """Returns the advantage and the value target of every step, by GAE with the values that were collected.

    An episode that reached its time limit bootstraps from the value of its last state.
    """
    value, valid = episodes.value, episodes.valid
    next_value = jnp.concatenate([value[:, 1:], value[:, -1:]], axis=1)
    next_valid = jnp.concatenate([valid[:, 1:], valid[:, -1:]], axis=1)
    terminated = valid & ~next_valid  # a step before the time limit that has no successor
    at_limit = jnp.zeros_like(valid).at[:, -1].set(True)
    constants = {"discount": jnp.asarray(discount), "gae_lambda": jnp.asarray(gae_lambda)}
    estimate = lambda *row: generalized_advantage(*row, **constants)
    return jax.vmap(estimate)(episodes.reward * reward_scale, value, next_value, terminated, at_limit, valid)


def _valid(episodes: Episodes) -> Float[Array, "E L"]:
    return episodes.valid.astype(jnp.float32)


def _exponential(
    score: Float[Array, "E L"], episodes: Episodes, temperature: Scalar, limit: Scalar
) -> Float[Array, "E L"]:
    """Returns min(exp(standardized score / temperature), limit), scaled to a mean of 1 over the valid steps."""
    valid = _valid(episodes)
    mean = lambda x: jnp.sum(valid * x) / jnp.maximum(jnp.sum(valid), 1.0)
    centered = jnp.where(episodes.valid, score - mean(score), 0.0)
    deviation = jnp.sqrt(mean(centered**2))
    standardized = centered / jnp.where(deviation > 0, deviation, 1.0)
    weight = valid * jnp.minimum(jnp.exp(standardized / temperature), limit)
    return weight / jnp.where(mean(weight) > 0, mean(weight), 1.0)


@gin.register(module="gorl")
class AllEpisodes(AbstractSelection):
    """All episodes, with weight 1 for every step (GoRL)."""

    def weight(self, episodes: Episodes) -> Float[Array, "E L"]:
        return _valid(episodes)


@gin.register(module="gorl")
class TopEpisodes(AbstractSelection):
    """The `fraction` of the episodes with the highest returns (rounded up), with weight 1 for every step."""

    fraction: float = structural()

    def __check_init__(self):
        require(0 < self.fraction <= 1, f"TopEpisodes.fraction = {self.fraction}: it must be in (0, 1].")

    def count(self, episodes: int) -> int:
        return math.ceil(self.fraction * episodes)

    def choose(self, episodes: Episodes) -> Int[Array, " C"]:
        order = jnp.argsort(-episode_returns(episodes), stable=True)
        return order[: self.count(order.shape[0])].astype(jnp.int32)

    def weight(self, episodes: Episodes) -> Float[Array, "E L"]:
        return _valid(episodes)


@gin.register(module="gorl")
class ReturnWeighted(AbstractSelection):
    """All episodes, with weight exp(standardized return / `temperature`) for the steps of each.

    Weights are limited to `max_weight` and then scaled to a mean of 1. Peters and Schaal (2007), reward-weighted
    regression.
    """

    temperature: Scalar = hyperparameter()
    max_weight: Scalar = hyperparameter()

    def __check_init__(self):
        _check_weights(self)

    def weight(self, episodes: Episodes) -> Float[Array, "E L"]:
        score = jnp.broadcast_to(episode_returns(episodes)[:, None], episodes.valid.shape)
        return _exponential(score, episodes, self.temperature, self.max_weight)


@gin.register(module="gorl")
class AdvantageWeighted(AbstractSelection):
    """All episodes, with weight exp(standardized advantage / `temperature`) for each step.

    Weights are limited to `max_weight` and then scaled to a mean of 1. Peng et al., arXiv 1910.00177. Advantages are
    GAE's, from the values of the learner that collected the episodes, so `discount` and `reward_scale` should equal the
    learner's. An episode that reached its time limit bootstraps from the value of its last state.
    """

    temperature: Scalar = hyperparameter()
    max_weight: Scalar = hyperparameter()
    discount: Scalar = hyperparameter()
    gae_lambda: Scalar = hyperparameter()
    reward_scale: Scalar = hyperparameter()

    def __check_init__(self):
        _check_weights(self)

    def weight(self, episodes: Episodes) -> Float[Array, "E L"]:
        return _exponential(self.advantages(episodes), episodes, self.temperature, self.max_weight)

    def advantages(self, episodes: Episodes) -> Float[Array, "E L"]:
        """Returns the advantage of every step."""
        return episode_advantages(episodes, self.discount, self.gae_lambda, self.reward_scale)[0]


def _check_weights(selection: ReturnWeighted | AdvantageWeighted) -> None:
    for name in ("temperature", "max_weight"):
        value = getattr(selection, name)
        require(bool(value > 0), f"{type(selection).__name__}.{name} = {value}: it must be > 0.")
