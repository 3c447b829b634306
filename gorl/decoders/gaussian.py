"""The Gaussian decoder, GoRL's control without a generative model."""

from collections.abc import Callable

import equinox as eqx
import gin
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.decoders.base import AbstractDecoder
from gorl.fields import structural
from gorl.generative.distributions import DiagonalGaussian, bounded_std, std_shift
from gorl.networks import AbstractNormalizer


@gin.register(module="gorl", denylist=["obs_size", "action_size", "key"])
class GaussianDecoder(AbstractDecoder):
    """A Gaussian decoder, u = mean(s) + std(s) latent, fitted by maximum likelihood.

    With latents from N(0, I) it is the nearest diagonal Gaussian. Source: the control of GoRL, arXiv 2512.02581. std is
    computed as in `GaussianPolicy`. The latent does not enter the loss.
    """

    body: eqx.Module
    normalizer: AbstractNormalizer
    min_std: float = structural()
    max_std: float = structural()
    shift: float = structural()
    action_size: int = structural()

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
        self.shift = std_shift("GaussianDecoder", min_std, initial_std, max_std)
        self.body = body(obs_size, 2 * action_size, key=key)
        self.normalizer = normalizer(obs_size)
        self.min_std, self.max_std = float(min_std), float(max_std)
        self.action_size = action_size

    @property
    def latent_size(self) -> int:
        return self.action_size

    def distribution(self, obs: Float[Array, " D_o"]) -> DiagonalGaussian:
        """Returns the distribution of u for latents from N(0, I)."""
        mean, raw = jnp.split(self.body(self.normalizer(obs)), 2)
        return DiagonalGaussian(mean, bounded_std(raw, shift=self.shift, min_std=self.min_std, max_std=self.max_std))

    def __call__(self, obs: Float[Array, " D_o"], latent: Float[Array, " D_z"]) -> Float[Array, " D_a"]:
        distribution = self.distribution(obs)
        return distribution.mean + distribution.std * latent

    def loss(
        self,
        obs: Float[Array, " D_o"],
        action: Float[Array, " D_a"],
        latent: Float[Array, " D_z"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        """Returns -log p(action) in nats."""
        del latent, key
        return -self.distribution(obs).log_prob(action)
