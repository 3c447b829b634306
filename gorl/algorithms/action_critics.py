"""Action-value functions with one network: by a number, or by a categorical distribution over values."""

import math
from typing import Any

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.algorithms.critics import AbstractActionCritic
from gorl.fields import require, structural
from gorl.networks import AbstractNormalizer


@gin.register(module="gorl", denylist=["obs_size", "action_size", "key"])
class ActionCritic(AbstractActionCritic):
    """One network Q(s, a) on [normalized s, a], trained by the squared error. Unbatched.

    `squash` is that of `TwinCritic`.
    """

    body: eqx.Module
    normalizer: AbstractNormalizer
    squash: bool = structural()

    def __init__(self, obs_size: int, action_size: int, *, body: Any, normalizer: Any, squash: bool, key: PRNGKeyArray):
        self.body = body(obs_size + action_size, 1, key=key)
        self.normalizer, self.squash = normalizer(obs_size), squash

    def __call__(self, obs: Float[Array, " D"], action: Float[Array, " D_z"]) -> Float[Array, " C"]:
        return self.body(jnp.concatenate([self.normalizer(obs), jnp.tanh(action) if self.squash else action]))


@gin.register(module="gorl", denylist=["obs_size", "action_size", "key"])
class CategoricalCritic(AbstractActionCritic):
    """Q(s, a) as the mean of a categorical distribution over `num_bins` values, trained by HL-Gauss. Unbatched.

    The bins' centers are equidistant from `v_min` to `v_max`, in scaled rewards. A target y is encoded as the mass of
    N(y, sigma²) in every bin, where sigma is `bin_std` widths of a bin. The loss is the cross entropy, whose gradient
    does not grow with the error. A target outside [v_min, v_max] counts as the nearer end, so these must enclose the
    returns: for rewards of at most 1, v_max >= 1 / (1 - discount). Before training the distribution is about the code
    of 0, which has a weight of 1 - `initial_uniform`. `squash` is that of `TwinCritic`. Source: Imani and White, 2018;
    Farebrother et al., arXiv 2403.03950.
    """

    body: eqx.Module
    normalizer: AbstractNormalizer
    squash: bool = structural()
    v_min: float = structural()
    v_max: float = structural()
    num_bins: int = structural()
    bin_std: float = structural()
    initial_uniform: float = structural()

    def __init__(
        self,
        obs_size: int,
        action_size: int,
        *,
        body: Any,
        normalizer: Any,
        squash: bool,
        v_min: float,
        v_max: float,
        num_bins: int,
        bin_std: float,
        initial_uniform: float,
        key: PRNGKeyArray,
    ):
        name = type(self).__name__
        require(num_bins >= 2, f"{name}.num_bins = {num_bins}: it must be >= 2.")
        require(
            math.isfinite(v_min) and math.isfinite(v_max) and v_min < v_max,
            f"{name}.v_min = {v_min}, {name}.v_max = {v_max}: v_min must be below v_max, and both finite.",
        )
        require(0 < bin_std < math.inf, f"{name}.bin_std = {bin_std}: it must be > 0 and finite.")
        require(0 < initial_uniform <= 1, f"{name}.initial_uniform = {initial_uniform}: it must be in (0, 1].")
        self.body = body(obs_size + action_size, num_bins, key=key)
        self.normalizer, self.squash = normalizer(obs_size), squash
        self.v_min, self.v_max, self.num_bins = float(v_min), float(v_max), num_bins
        self.bin_std, self.initial_uniform = float(bin_std), float(initial_uniform)

    @property
    def width(self) -> float:
        """The distance between two bins' centers."""
        return (self.v_max - self.v_min) / (self.num_bins - 1)

    def encode(self, target: Float[Array, ""]) -> Float[Array, " bins"]:
        """Returns the probabilities of the bins that stand for a target."""
        target = jnp.clip(target, self.v_min, self.v_max)
        half = 0.5 * self.width
        edges = jnp.linspace(self.v_min - half, self.v_max + half, self.num_bins + 1)
        below = jax.scipy.stats.norm.cdf((edges - target) / (self.bin_std * self.width))
        return jnp.diff(below) / (below[-1] - below[0])

    def logits(self, obs: Float[Array, " D"], action: Float[Array, " D_z"]) -> Float[Array, " bins"]:
        """Returns the log-probabilities of the bins, up to a constant."""
        x = jnp.concatenate([self.normalizer(obs), jnp.tanh(action) if self.squash else action])
        zero, uniform = self.encode(jnp.zeros(())), self.initial_uniform
        return self.body(x) + jnp.log((1.0 - uniform) * zero + uniform / self.num_bins)

    def mean(self, logits: Float[Array, " bins"]) -> Float[Array, ""]:
        """Returns the mean of the distribution with these logits."""
        return jnp.sum(jax.nn.softmax(logits) * jnp.linspace(self.v_min, self.v_max, self.num_bins))

    def __call__(self, obs: Float[Array, " D"], action: Float[Array, " D_z"]) -> Float[Array, " C"]:
        return self.mean(self.logits(obs, action))[None]

    def loss(
        self, obs: Float[Array, " D"], action: Float[Array, " D_z"], target: Float[Array, ""]
    ) -> tuple[Float[Array, ""], Float[Array, " C"]]:
        """Returns the cross entropy of the encoded target and the distribution, in nats, and the distribution's mean.

        The loss is NaN where the target is not finite.
        """
        logits = self.logits(obs, action)
        loss = -jnp.sum(self.encode(target) * jax.nn.log_softmax(logits))
        return jnp.where(jnp.isfinite(target), loss, jnp.nan), self.mean(logits)[None]
