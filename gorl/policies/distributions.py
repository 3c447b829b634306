"""Distributions with closed forms."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

_LOG_2PI = 1.8378770664093453


class DiagonalGaussian(eqx.Module):
    """N(mean, diag(std²)) on one vector."""

    mean: Float[Array, " D"]
    std: Float[Array, " D"]

    def sample(self, *, key: PRNGKeyArray) -> Float[Array, " D"]:
        return self.mean + self.std * jax.random.normal(key, self.mean.shape)

    def log_prob(self, x: Float[Array, " D"]) -> Float[Array, ""]:
        z = (x - self.mean) / self.std
        return -0.5 * jnp.sum(z**2 + 2.0 * jnp.log(self.std) + _LOG_2PI)

    def entropy(self) -> Float[Array, ""]:
        """In nats."""
        return jnp.sum(jnp.log(self.std) + 0.5 * (_LOG_2PI + 1.0))

    def kl_to_standard(self) -> Float[Array, ""]:
        """KL(self || N(0, I)) in nats."""
        return 0.5 * jnp.sum(self.std**2 + self.mean**2 - 1.0 - 2.0 * jnp.log(self.std))


def log_tanh_slope(u: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
    """log(1 - tanh² u) = log |d tanh u / du|, without the cancellation at large |u|."""
    return 2.0 * (jnp.log(2.0) - u - jax.nn.softplus(-2.0 * u))
