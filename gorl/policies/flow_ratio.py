"""Surrogates of the likelihood ratio of flow policies, made of their losses."""

import abc

import equinox as eqx
import gin
import jax.numpy as jnp
from jaxtyping import Array, Float

from gorl.fields import require, structural
from gorl.generative.flow import flow_matching_loss


class AbstractLossTarget(eqx.Module):
    """What a predicted velocity is compared with."""

    @abc.abstractmethod
    def loss(
        self, velocity: Float[Array, " D"], action: Float[Array, " D"], noise: Float[Array, " D"], t: Float[Array, ""]
    ) -> Float[Array, ""]:
        """The loss of one draw (noise, t), where `velocity` is the prediction at x_t."""


@gin.register(module="gorl")
class VelocityTarget(AbstractLossTarget):
    """mean |v - (noise - action)|²: every time weighs the same."""

    def loss(
        self, velocity: Float[Array, " D"], action: Float[Array, " D"], noise: Float[Array, " D"], t: Float[Array, ""]
    ) -> Float[Array, ""]:
        del t
        return flow_matching_loss(velocity, action, noise)


@gin.register(module="gorl")
class NoiseTarget(AbstractLossTarget):
    """mean |noise - noise_hat|², with the noise that a velocity implies: noise_hat = x_0 + v, x_0 = x_t - t v.

    Since noise - noise_hat = (1 - t) (noise - action - v), this is (1 - t)² times the loss on the velocity. It is computed
    so: a draw at t = 1 then has loss 0 exactly, whatever the network. (FPO, arXiv 2507.21053, predicts noise.)
    """

    def loss(
        self, velocity: Float[Array, " D"], action: Float[Array, " D"], noise: Float[Array, " D"], t: Float[Array, ""]
    ) -> Float[Array, ""]:
        return (1.0 - t) ** 2 * flow_matching_loss(velocity, action, noise)


class AbstractFlowRatio(eqx.Module):
    """A surrogate of log pi(action) - log pi_old(action), from the losses of K draws before and now."""

    @abc.abstractmethod
    def __call__(self, old_loss: Float[Array, " K"], loss: Float[Array, " K"]) -> Float[Array, " J"]: ...


@gin.register(module="gorl")
class AveragedRatio(AbstractFlowRatio):
    """One log-ratio, mean over the draws of (old loss - loss). FPO, arXiv 2507.21053."""

    def __call__(self, old_loss: Float[Array, " K"], loss: Float[Array, " K"]) -> Float[Array, " one"]:
        return jnp.mean(old_loss - loss)[None]


@gin.register(module="gorl")
class PerDrawRatio(AbstractFlowRatio):
    """A log-ratio for each draw, clip(old loss - loss, -clip, clip), so that the trust region acts on each. FPO++, arXiv 2602.02481."""

    clip: float = structural()

    def __check_init__(self):
        require(self.clip > 0, f"PerDrawRatio.clip = {self.clip}: it must be > 0 (1e999: no clip).")

    def __call__(self, old_loss: Float[Array, " K"], loss: Float[Array, " K"]) -> Float[Array, " K"]:
        return jnp.clip(old_loss - loss, -self.clip, self.clip)
