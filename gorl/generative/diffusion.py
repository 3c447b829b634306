"""Diffusion in discrete levels, variance preserving. Level 0 is the action, the last one (almost) noise.

A level t is given by two numbers, alpha = sqrt(alphabar_t) and sigma = sqrt(1 - alphabar_t), so that neither is lost to
rounding where alphabar_t is near 1. Notation: x0 the action, x = x_t, eps the noise.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def diffuse(
    x0: Float[Array, " D"], eps: Float[Array, " D"], alpha: Float[Array, ""], sigma: Float[Array, ""]
) -> Float[Array, " D"]:
    """x_t = alpha x0 + sigma eps (Ho et al., arXiv 2006.11239, equation 4).

    With estimates of x0 and eps and the next level's alpha and sigma, this is DDIM's step with eta = 0 (Song et al., arXiv
    2010.02502, equation 12).
    """
    return alpha * x0 + sigma * eps


def velocity_target(
    x0: Float[Array, " D"], eps: Float[Array, " D"], alpha: Float[Array, ""], sigma: Float[Array, ""]
) -> Float[Array, " D"]:
    """v = alpha eps - sigma x0 (Salimans and Ho, arXiv 2202.00512, appendix D)."""
    return alpha * eps - sigma * x0


def from_noise(
    eps: Float[Array, " D"], x: Float[Array, " D"], alpha: Float[Array, ""], sigma: Float[Array, ""]
) -> Float[Array, " D"]:
    """x0 that goes with eps at x. An error of eps is multiplied by sigma / alpha: large at the last levels."""
    return (x - sigma * eps) / alpha


def from_velocity(
    v: Float[Array, " D"], x: Float[Array, " D"], alpha: Float[Array, ""], sigma: Float[Array, ""]
) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
    """(x0, eps) that go with v at x: the rotation (alpha, sigma) undone."""
    return alpha * x - sigma * v, sigma * x + alpha * v


def from_data(
    x0: Float[Array, " D"], x: Float[Array, " D"], alpha: Float[Array, ""], sigma: Float[Array, ""]
) -> Float[Array, " D"]:
    """eps that goes with x0 at x. Level 0 (sigma = 0) has none."""
    return (x - alpha * x0) / sigma


def clip_action(
    x0: Float[Array, " D"], eps: Float[Array, " D"], alpha: Float[Array, ""], sigma: Float[Array, ""], *, bound: float
) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
    """x0 clipped to [-bound, bound], and the eps with which it still makes the same x. Unclipped entries do not change."""
    clipped = jnp.clip(x0, -bound, bound)
    return clipped, eps + alpha / sigma * (x0 - clipped)


def regression_loss(output: Float[Array, " D"], target: Float[Array, " D"]) -> Float[Array, ""]:
    """mean |output - target|² over the dimensions."""
    return jnp.mean((output - target) ** 2)
