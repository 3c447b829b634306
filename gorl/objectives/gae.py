"""Advantages and value targets of one environment's consecutive steps."""

import abc

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gorl.fields import Scalar


class AbstractAdvantage(eqx.Module):
    """How rewards and values of T consecutive steps become advantages."""

    @abc.abstractmethod
    def __call__(
        self,
        reward: Float[Array, " T"],
        value: Float[Array, " T"],
        next_value: Float[Array, " T"],
        terminated: Bool[Array, " T"],
        truncated: Bool[Array, " T"],
        valid: Bool[Array, " T"],
        *,
        discount: Scalar,
        gae_lambda: Scalar,
    ) -> tuple[Float[Array, " T"], Float[Array, " T"]]:
        """(advantage, value target). `next_value` is V of the true next observation, before any reset."""


@gin.register(module="gorl")
class GeneralizedAdvantage(AbstractAdvantage):
    """Schulman et al., arXiv 1506.02438, equation 16, with truncation: see `generalized_advantage`."""

    def __call__(
        self,
        reward: Float[Array, " T"],
        value: Float[Array, " T"],
        next_value: Float[Array, " T"],
        terminated: Bool[Array, " T"],
        truncated: Bool[Array, " T"],
        valid: Bool[Array, " T"],
        *,
        discount: Scalar,
        gae_lambda: Scalar,
    ) -> tuple[Float[Array, " T"], Float[Array, " T"]]:
        return generalized_advantage(
            reward, value, next_value, terminated, truncated, valid, discount=discount, gae_lambda=gae_lambda
        )


@gin.register(module="gorl")
class BraxAdvantage(AbstractAdvantage):
    """A published defect, kept to measure what it does: the advantages of Brax's PPO (brax 0.14), after V-trace, arXiv 1802.01561.

    The targets vs are those of GAE, but that a truncated step's target is its own value. The advantage is then
    r + gamma vs_{t+1} - V(s_t), whose first step is not weighted by lambda: at lambda = 0 it looks two steps ahead where GAE
    looks one. A truncated step has advantage 0 and still enters the normalisation, where it pulls the mean towards 0.
    Use `GeneralizedAdvantage` for anything else.
    """

    def __call__(
        self,
        reward: Float[Array, " T"],
        value: Float[Array, " T"],
        next_value: Float[Array, " T"],
        terminated: Bool[Array, " T"],
        truncated: Bool[Array, " T"],
        valid: Bool[Array, " T"],
        *,
        discount: Scalar,
        gae_lambda: Scalar,
    ) -> tuple[Float[Array, " T"], Float[Array, " T"]]:
        counts = valid & ~truncated
        live = 1.0 - terminated.astype(jnp.float32)
        delta = jnp.where(counts, reward + discount * live * next_value - value, 0.0)
        carry_on = discount * gae_lambda * (counts & ~terminated).astype(jnp.float32)
        target = value + discounted_sum(delta, carry_on)
        next_target = jnp.concatenate([target[1:], next_value[-1:]])
        return jnp.where(counts, reward + discount * live * next_target - value, 0.0), target


def generalized_advantage(
    reward: Float[Array, " T"],
    value: Float[Array, " T"],
    next_value: Float[Array, " T"],
    terminated: Bool[Array, " T"],
    truncated: Bool[Array, " T"],
    valid: Bool[Array, " T"],
    *,
    discount: Scalar,
    gae_lambda: Scalar,
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
    advantage = discounted_sum(delta, carry_on)
    return advantage, advantage + value


def discounted_sum(x: Float[Array, " T"], factor: Float[Array, " T"]) -> Float[Array, " T"]:
    """yₜ = xₜ + factorₜ yₜ₊₁, from 0 beyond the end."""

    def step(later: Float[Array, ""], now: tuple) -> tuple[Float[Array, ""], Float[Array, ""]]:
        x_t, factor_t = now
        total = x_t + factor_t * later
        return total, total

    return jax.lax.scan(step, jnp.zeros(()), (x, factor), reverse=True)[1]
