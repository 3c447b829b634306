"""MeanFlow: regression on the average velocity of a flow.

Source: Geng et al., arXiv 2505.13447. Time runs as in gorl/generative/flow.py.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

AverageVelocity = Callable[[Float[Array, " D"], Float[Array, ""], Float[Array, ""]], Float[Array, " D"]]


def mean_flow_residual(
    average: AverageVelocity,
    z: Float[Array, " D"],
    r: Float[Array, ""],
    t: Float[Array, ""],
    velocity: Float[Array, " D"],
    tangent: Float[Array, " D"],
) -> Float[Array, " D"]:
    """Returns u(z, r, t) - [v - (t - r) du/dt], where du/dt is the total derivative along dz/dt = `tangent`.

    Source: equations 6 to 11. The residual is 0 for u = (z_t - z_r) / (t - r), the average velocity from r to t, if
    `velocity` and `tangent` are those of the flow. It is 0 in the mean over samples if they are those of one sample's
    path. No gradient flows through the bracket.
    """
    u, derivative = jax.jvp(average, (z, r, t), (tangent, jnp.zeros_like(r), jnp.ones_like(t)))
    return u - jax.lax.stop_gradient(velocity - (t - r) * derivative)


def adaptive_loss(residual: Float[Array, " D"], *, power: float, constant: float) -> Float[Array, ""]:
    """Returns w m, where m = mean residual² over the dimensions and w = (m + constant)^-power has no gradient.

    Source: equation 22. Power 0 is least squares, whose optimum is the mean. Where single targets scatter, as those of
    one or a few dimensions do, w depends on the scatter and the optimum shifts toward the most frequent targets.
    """
    error = jnp.mean(residual**2)
    return error * jax.lax.stop_gradient((error + constant) ** -power)
