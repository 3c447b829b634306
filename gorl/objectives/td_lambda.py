"""Targets of the soft action value from one environment's consecutive steps."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gorl.fields import Scalar
from gorl.objectives.gae import discounted_sum


def soft_lambda_targets(
    reward: Float[Array, " T"],
    bonus: Float[Array, " T"],
    next_value: Float[Array, " T"],
    terminated: Bool[Array, " T"],
    truncated: Bool[Array, " T"],
    valid: Bool[Array, " T"],
    *,
    discount: Scalar,
    td_lambda: Scalar,
) -> Float[Array, " T"]:
    """Returns the TD(lambda) targets yₜ of the soft action value Q(sₜ, aₜ).

    yₜ = rₜ + γ (1 - terminatedₜ) [(1 - λₜ) Vₜ₊₁ + λₜ (yₜ₊₁ + bonusₜ₊₁)]. `bonus` is -α log π(aₜ|sₜ), the entropy's
    share of a step, which Q(sₜ, aₜ) itself does not contain. `next_value` is the soft V of the true next observation,
    before any reset. λₜ is λ where the same episode has a valid next step, and else 0: a truncated step, the last one
    and one before an invalid step bootstrap from `next_value` alone. The target of an invalid step is 0.
    Source: Voelcker et al., arXiv 2507.11019.
    """
    live = (valid & ~terminated).astype(jnp.float32)
    later = jnp.concatenate([valid[1:], jnp.zeros((1,), bool)])
    weight = td_lambda * (valid & ~terminated & ~truncated & later).astype(jnp.float32)
    reward, bonus = (jnp.where(valid, x, 0.0) for x in (reward, bonus))
    next_bonus = jnp.concatenate([bonus[1:], jnp.zeros((1,))])
    next_value = jnp.where(valid & ~terminated, next_value, 0.0)
    one_step = reward + discount * live * ((1.0 - weight) * next_value + weight * next_bonus)
    return discounted_sum(one_step, discount * weight)
