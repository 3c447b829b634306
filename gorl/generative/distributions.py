"""Distributions with closed forms."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.fields import require

_LOG_2PI = 1.8378770664093453


class DiagonalGaussian(eqx.Module):
    """The distribution N(mean, diag(std²)) of one vector."""

    mean: Float[Array, " D"]
    std: Float[Array, " D"]

    def sample(self, *, key: PRNGKeyArray) -> Float[Array, " D"]:
        return self.at(jax.random.normal(key, self.mean.shape))

    def at(self, noise: Float[Array, " D"]) -> Float[Array, " D"]:
        """Returns the sample mean + std noise that standard normal noise makes."""
        return self.mean + self.std * noise

    def noise_of(self, x: Float[Array, " D"]) -> Float[Array, " D"]:
        """Returns the noise that makes the sample x, the inverse of `at`."""
        return (x - self.mean) / self.std

    def log_prob(self, x: Float[Array, " D"]) -> Float[Array, ""]:
        return -0.5 * jnp.sum(self.noise_of(x) ** 2 + 2.0 * jnp.log(self.std) + _LOG_2PI)

    def entropy(self) -> Float[Array, ""]:
        """Returns the entropy in nats."""
        return jnp.sum(jnp.log(self.std) + 0.5 * (_LOG_2PI + 1.0))

    def kl_to_standard(self) -> Float[Array, ""]:
        """Returns KL(self || N(0, I)) in nats."""
        return 0.5 * jnp.sum(self.std**2 + self.mean**2 - 1.0 - 2.0 * jnp.log(self.std))

    def kl_to(self, other: "DiagonalGaussian") -> Float[Array, ""]:
        """Returns KL(self || other) in nats."""
        ratio, shift = self.std / other.std, (self.mean - other.mean) / other.std
        return 0.5 * jnp.sum(ratio**2 + shift**2 - 1.0 - 2.0 * jnp.log(ratio))


def std_shift(name: str, min_std: float, initial_std: float, max_std: float) -> float:
    """Returns the shift for which `bounded_std` of 0 is `initial_std`.

    Raises ConfigError unless 0 < min_std < initial_std <= max_std. `name` is the class that the message names.
    """
    require(
        0 < min_std < initial_std <= max_std,
        f"{name} needs 0 < min_std < initial_std <= max_std, got {min_std}, {initial_std}, {max_std}.",
    )
    return math.log(math.expm1(initial_std - min_std))


def bounded_std(raw: Float[Array, " D"], *, shift: float, min_std: float, max_std: float) -> Float[Array, " D"]:
    """Converts a network's output to a standard deviation, clip(softplus(raw + shift) + min_std, min_std, max_std)."""
    return jnp.clip(jax.nn.softplus(raw + shift) + min_std, min_std, max_std)


def log_tanh_slope(u: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
    """Returns log(1 - tanh² u) = log |d tanh u / du|, without cancellation at large |u|."""
    return 2.0 * (jnp.log(2.0) - u - jax.nn.softplus(-2.0 * u))
