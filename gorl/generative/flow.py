"""Flow matching on straight paths, and the likelihood surrogates made of its loss. Time runs from t = 1 (noise) to t = 0 (action)."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def interpolate(action: Float[Array, " D"], noise: Float[Array, " D"], t: Float[Array, ""]) -> Float[Array, " D"]:
    """x_t = t noise + (1 - t) action."""
    return t * noise + (1.0 - t) * action


def flow_matching_loss(
    velocity: Float[Array, " D"], action: Float[Array, " D"], noise: Float[Array, " D"]
) -> Float[Array, ""]:
    """mean |v - (noise - action)|² over the dimensions: noise - action is d x_t / dt."""
    return jnp.mean((velocity - (noise - action)) ** 2)
