"""The diagonal Gaussian policy, which is both GoRL's encoder and PPO's policy."""

from collections.abc import Callable

import equinox as eqx
import gin
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.fields import structural
from gorl.generative.distributions import DiagonalGaussian, bounded_std, std_shift
from gorl.networks import AbstractNormalizer
from gorl.policies.base import AbstractGaussianPolicy


@gin.register(module="gorl", denylist=["obs_size", "action_size", "key"])
class GaussianPolicy(AbstractGaussianPolicy):
    """A Gaussian policy N(mean(s), std(s)²), with one network for mean and std.

    std = clip(softplus(x + c) + min_std, min_std, max_std), with c such that x = 0 gives `initial_std`. With
    `initial_std = 1` a latent policy starts near the N(0, I) that the decoder was fitted for.
    (The published code has c = 0, an initial std of 0.69.)
    """

    body: eqx.Module
    normalizer: AbstractNormalizer
    min_std: float = structural()
    max_std: float = structural()
    shift: float = structural()

    def __init__(
        self,
        obs_size: int,
        action_size: int,
        *,
        body: Callable,
        normalizer: Callable,
        min_std: float,
        max_std: float,
        initial_std: float,
        key: PRNGKeyArray,
    ):
        self.shift = std_shift("GaussianPolicy", min_std, initial_std, max_std)
        self.body = body(obs_size, 2 * action_size, key=key)
        self.normalizer = normalizer(obs_size)
        self.min_std, self.max_std = float(min_std), float(max_std)

    def distribution(self, obs: Float[Array, " D_o"]) -> DiagonalGaussian:
        mean, raw = jnp.split(self.body(self.normalizer(obs)), 2)
        return DiagonalGaussian(mean, bounded_std(raw, shift=self.shift, min_std=self.min_std, max_std=self.max_std))

    def sample(self, obs: Float[Array, " D_o"], *, key: PRNGKeyArray) -> tuple[Float[Array, " D_z"], Float[Array, ""]]:
        """Returns an action and, as extras, its log-probability."""
        distribution = self.distribution(obs)
        action = distribution.sample(key=key)
        return action, distribution.log_prob(action)

    def rescore(
        self, obs: Float[Array, " D_o"], action: Float[Array, " D_z"], extras: Float[Array, ""]
    ) -> Float[Array, ""]:
        """Returns the action's log-probability."""
        del extras
        return self.distribution(obs).log_prob(action)

    def mode(self, obs: Float[Array, " D_o"], *, key: PRNGKeyArray) -> Float[Array, " D_z"]:
        del key
        return self.distribution(obs).mean

    def log_ratio(
        self, obs: Float[Array, " D_o"], action: Float[Array, " D_z"], extras: Float[Array, ""], *, key: PRNGKeyArray
    ) -> Float[Array, " K"]:
        return self.log_ratio_and_distribution(obs, action, extras, key=key)[0]

    def log_ratio_and_distribution(
        self, obs: Float[Array, " D_o"], action: Float[Array, " D_z"], extras: Float[Array, ""], *, key: PRNGKeyArray
    ) -> tuple[Float[Array, " K"], DiagonalGaussian]:
        del key
        distribution = self.distribution(obs)
        return (distribution.log_prob(action) - extras)[None], distribution
