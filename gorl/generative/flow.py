"""Flow matching on straight paths. Time runs from t = 1 (noise) to t = 0 (action)."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def interpolate(action: Float[Array, " D"], noise: Float[Array, " D"], t: Float[Array, ""]) -> Float[Array, " D"]:
    """Returns x_t = t noise + (1 - t) action."""
    return t * noise + (1.0 - t) * action


def flow_matching_loss(
    velocity: Float[Array, " D"], action: Float[Array, " D"], noise: Float[Array, " D"]
) -> Float[Array, ""]:
    """Returns the mean of |v - (noise - action)|² over the dimensions, where noise - action is d x_t / dt."""
    return jnp.mean((velocity - (noise - action)) ** 2)
