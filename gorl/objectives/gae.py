"""Advantages and value targets of one environment's consecutive steps."""

import abc

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gorl.fields import Scalar


class AbstractAdvantage(eqx.Module):
    """An estimator of advantages from the rewards and values of T consecutive steps."""

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
        """Returns (advantage, value target). `next_value` is V of the true next observation, before any reset."""


@gin.register(module="gorl")
class GeneralizedAdvantage(AbstractAdvantage):
    """Generalized advantage estimation with truncation: see `generalized_advantage`.

    Source: Schulman et al., arXiv 1506.02438, equation 16.
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
        return generalized_advantage(
            reward, value, next_value, terminated, truncated, valid, discount=discount, gae_lambda=gae_lambda
        )


@gin.register(module="gorl")
class BraxAdvantage(AbstractAdvantage):
    """A published defect, kept to measure its effect: the advantages of Brax's PPO (brax 0.14), after V-trace.

    The targets vs are those of GAE, except that a truncated step's target is its own value. The advantage is r + gamma
    vs_{t+1} - V(s_t), whose first step is not weighted by lambda: at lambda = 0 it looks two steps ahead, where GAE
    looks one. A truncated step has advantage 0 but still enters the normalization, where it pulls the mean toward 0.
    Source of V-trace: arXiv 1802.01561. Use `GeneralizedAdvantage` for anything else.
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
        decay = discount * gae_lambda * (counts & ~terminated).astype(jnp.float32)
        target = value + discounted_sum(delta, decay)
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
    """Returns (advantage, value target = advantage + value) of one environment's consecutive steps.

    δₜ = rₜ + γ (1 - terminatedₜ) V(sₜ₊₁) - V(sₜ);  Aₜ = δₜ + γλ Aₜ₊₁, where the sum is cut at every episode's end.
    `next_value` is V of the true next observation, before any reset: a truncated step bootstraps from it, a terminated
    one does not. An invalid step has advantage 0, target V(sₜ), and cuts the sum.
    Source: Schulman et al., arXiv 1506.02438, equation 16.
    """
    live = 1.0 - terminated.astype(jnp.float32)
    delta = jnp.where(valid, reward + discount * live * next_value - value, 0.0)
    decay = discount * gae_lambda * (valid & ~terminated & ~truncated).astype(jnp.float32)
    advantage = discounted_sum(delta, decay)
    return advantage, advantage + value


def discounted_sum(x: Float[Array, " T"], factor: Float[Array, " T"]) -> Float[Array, " T"]:
    """Returns yₜ = xₜ + factorₜ yₜ₊₁, where y is 0 after the last step."""

    def step(later: Float[Array, ""], now: tuple) -> tuple[Float[Array, ""], Float[Array, ""]]:
        x_t, factor_t = now
        total = x_t + factor_t * later
        return total, total

    return jax.lax.scan(step, jnp.zeros(()), (x, factor), reverse=True)[1]
