"""Variance-preserving diffusion in discrete levels. Level 0 is the action, the last level is (almost) noise.

A level t is given by two numbers, alpha = sqrt(alphabar_t) and sigma = sqrt(1 - alphabar_t), so that neither is lost to
rounding where alphabar_t is near 1. Notation: x0 is the action, x = x_t, eps is the noise.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def diffuse(
    x0: Float[Array, " D"], eps: Float[Array, " D"], alpha: Float[Array, ""], sigma: Float[Array, ""]
) -> Float[Array, " D"]:
    """Returns x_t = alpha x0 + sigma eps (Ho et al., arXiv 2006.11239, equation 4).

    With estimates of x0 and eps and the next level's alpha and sigma, this is DDIM's step with eta = 0 (Song et al.,
    arXiv 2010.02502, equation 12).
    """
    return alpha * x0 + sigma * eps


def velocity_target(
    x0: Float[Array, " D"], eps: Float[Array, " D"], alpha: Float[Array, ""], sigma: Float[Array, ""]
) -> Float[Array, " D"]:
    """Returns v = alpha eps - sigma x0 (Salimans and Ho, arXiv 2202.00512, appendix D)."""
    return alpha * eps - sigma * x0


def from_noise(
    eps: Float[Array, " D"], x: Float[Array, " D"], alpha: Float[Array, ""], sigma: Float[Array, ""]
) -> Float[Array, " D"]:
    """Returns the x0 that eps implies at x. Errors of eps are multiplied by sigma / alpha, large at the last levels."""
    return (x - sigma * eps) / alpha


def from_velocity(
    v: Float[Array, " D"], x: Float[Array, " D"], alpha: Float[Array, ""], sigma: Float[Array, ""]
) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
    """Returns the (x0, eps) that v implies at x, by inverting the rotation (alpha, sigma)."""
    return alpha * x - sigma * v, sigma * x + alpha * v


def from_data(
    x0: Float[Array, " D"], x: Float[Array, " D"], alpha: Float[Array, ""], sigma: Float[Array, ""]
) -> Float[Array, " D"]:
    """Returns the eps that x0 implies at x. Undefined at level 0, where sigma = 0."""
    return (x - alpha * x0) / sigma


def clip_action(
    x0: Float[Array, " D"], eps: Float[Array, " D"], alpha: Float[Array, ""], sigma: Float[Array, ""], *, bound: float
) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
    """Clips x0 to [-bound, bound] and returns it with the eps that keeps x the same. Other entries do not change."""
    clipped = jnp.clip(x0, -bound, bound)
    return clipped, eps + alpha / sigma * (x0 - clipped)


def regression_loss(output: Float[Array, " D"], target: Float[Array, " D"]) -> Float[Array, ""]:
    """Returns the mean of |output - target|² over the dimensions."""
    return jnp.mean((output - target) ** 2)
