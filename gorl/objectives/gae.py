"""Generalised advantage estimation."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def generalized_advantage(
    reward: Float[Array, " T"],
    value: Float[Array, " T"],
    next_value: Float[Array, " T"],
    terminated: Bool[Array, " T"],
    truncated: Bool[Array, " T"],
    valid: Bool[Array, " T"],
    *,
    discount: Float[Array, ""],
    gae_lambda: Float[Array, ""],
) -> tuple[Float[Array, " T"], Float[Array, " T"]]:
    """Advantages and value targets of one environment's steps. Schulman et al., arXiv 1506.02438, equation 16.

    δₜ = rₜ + γ (1 - terminatedₜ) V(sₜ₊₁) - V(sₜ);  Aₜ = δₜ + γλ Aₜ₊₁, where the sum is cut at every episode's end.
    `next_value` is V of the true next observation, before any reset: a truncated step bootstraps from it, a terminated
    one does not. A step that is not valid has advantage 0, target V(sₜ), and cuts the sum.
    Returns (advantage, target = advantage + value).
    """
    live = 1.0 - terminated.astype(jnp.float32)
    delta = jnp.where(valid, reward + discount * live * next_value - value, 0.0)
    carry_on = discount * gae_lambda * (valid & ~terminated & ~truncated).astype(jnp.float32)

    def step(advantage: Float[Array, ""], x: tuple) -> tuple[Float[Array, ""], Float[Array, ""]]:
        delta_t, carry_t = x
        advantage = delta_t + carry_t * advantage
        return advantage, advantage

    _, advantage = jax.lax.scan(step, jnp.zeros(()), (delta, carry_on), reverse=True)
    return advantage, advantage + value
