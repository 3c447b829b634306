"""Distributions with flows and diffusions in closed form, as references for samplers and decoders."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Mixture(eqx.Module):
    """The mixture sum_k weight_k N(mean_k, std²) on the line. Its methods act on each entry of a vector separately."""

    weights: tuple[float, ...] = eqx.field(static=True)
    means: tuple[float, ...] = eqx.field(static=True)
    std: float = eqx.field(static=True)

    def posterior(
        self, x: Float[Array, " D"], signal: Float[Array, ""], noise: Float[Array, ""]
    ) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
        """Returns (E[a | x], E[eps | x]) for x = signal a + noise eps, a from this mixture and eps from N(0, 1)."""
        mean, weight = jnp.array(self.means)[:, None], jnp.array(self.weights)[:, None]
        variance = signal**2 * self.std**2 + noise**2
        off = x[None] - signal * mean
        share = jax.nn.softmax(jnp.log(weight) - off**2 / (2.0 * variance), axis=0)
        action = jnp.sum(share * (mean + signal * self.std**2 / variance * off), axis=0)
        return action, jnp.sum(share * (noise / variance * off), axis=0)

    def velocity(self, x: Float[Array, " D"], t: Float[Array, ""]) -> Float[Array, " D"]:
        """Returns E[eps - a | x_t = x] on straight paths, which is the field that flow matching learns."""
        action, eps = self.posterior(x, 1.0 - t, t)
        return eps - action

    def cdf(self, x: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        z = (np.asarray(x)[None] - np.array(self.means)[:, None]) / (self.std * math.sqrt(2.0))
        return np.sum(np.array(self.weights)[:, None] * 0.5 * (1.0 + np.vectorize(math.erf)(z)), axis=0)

    def quantiles(self, levels: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        """Returns the inverse of the cdf, computed by bisection."""
        low = np.full(len(levels), min(self.means) - 10.0 * self.std)
        high = np.full(len(levels), max(self.means) + 10.0 * self.std)
        for _ in range(60):
            middle = 0.5 * (low + high)
            below = self.cdf(middle) < levels
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return 0.5 * (low + high)


STANDARD = Mixture((1.0,), (0.0,), 1.0)


def levels(count: int) -> Float[np.ndarray, " N"]:
    """Returns (i + 1/2) / count. Means over the quantiles at these levels are expectations without random draws."""
    return (np.arange(count) + 0.5) / count


def errors(mixture: Mixture, samples: Float[Array | np.ndarray, " N"]) -> dict[str, float]:
    """Returns how samples, decoded from the prior's quantiles at `levels`, differ from `mixture`.

    `mean` is a difference, `std` a relative difference, `mass` the difference of the probability to be above 0, and
    `w1` the Wasserstein-1 distance. The distribution is represented by as many quantiles as there are samples, so its
    own samples have no error.
    """
    found, true = np.sort(np.asarray(samples, np.float64)), mixture.quantiles(levels(len(samples)))
    return {
        "mean": float(found.mean() - true.mean()),
        "std": float(found.std() / true.std() - 1.0),
        "mass": float((found > 0).mean() - (true > 0).mean()),
        "w1": float(np.abs(found - true).mean()),
    }
