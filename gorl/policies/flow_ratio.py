"""Surrogates of flow policies' likelihood ratios, computed from their losses."""

import abc

import equinox as eqx
import gin
import jax.numpy as jnp
from jaxtyping import Array, Float

from gorl.fields import require, structural
from gorl.generative.flow import flow_matching_loss


class AbstractLossTarget(eqx.Module):
    """A regression target, which defines the flow-matching loss of a draw."""

    @abc.abstractmethod
    def loss(
        self, velocity: Float[Array, " D"], action: Float[Array, " D"], noise: Float[Array, " D"], t: Float[Array, ""]
    ) -> Float[Array, ""]:
        """Returns the loss of one draw (noise, t), where `velocity` is the prediction at x_t."""


@gin.register(module="gorl")
class VelocityTarget(AbstractLossTarget):
    """The loss on the velocity, mean |v - (noise - action)|². All times have the same weight."""

    def loss(
        self, velocity: Float[Array, " D"], action: Float[Array, " D"], noise: Float[Array, " D"], t: Float[Array, ""]
    ) -> Float[Array, ""]:
        del t
        return flow_matching_loss(velocity, action, noise)


@gin.register(module="gorl")
class NoiseTarget(AbstractLossTarget):
    """The loss on the noise, mean |noise - noise_hat|², where a velocity implies noise_hat = x_0 + v, x_0 = x_t - t v.

    Since noise - noise_hat = (1 - t) (noise - action - v), this is (1 - t)² times the loss on the velocity. It is
    computed in that form, so a draw at t = 1 has loss exactly 0 for any network. (FPO, arXiv 2507.21053, predicts
    noise.)
    """

    def loss(
        self, velocity: Float[Array, " D"], action: Float[Array, " D"], noise: Float[Array, " D"], t: Float[Array, ""]
    ) -> Float[Array, ""]:
        return (1.0 - t) ** 2 * flow_matching_loss(velocity, action, noise)


class AbstractFlowRatio(eqx.Module):
    """A surrogate of log pi(action) - log pi_old(action), from the losses of K draws under the old and new policy."""

    @abc.abstractmethod
    def __call__(self, old_loss: Float[Array, " K"], loss: Float[Array, " K"]) -> Float[Array, " J"]:
        """Returns J log-ratios."""


@gin.register(module="gorl")
class AveragedRatio(AbstractFlowRatio):
    """A single log-ratio, the mean over the draws of (old loss - loss). Source: FPO, arXiv 2507.21053."""

    def __call__(self, old_loss: Float[Array, " K"], loss: Float[Array, " K"]) -> Float[Array, " one"]:
        return jnp.mean(old_loss - loss)[None]


@gin.register(module="gorl")
class PerDrawRatio(AbstractFlowRatio):
    """One log-ratio per draw, clip(old loss - loss, -clip, clip), so that the trust region acts on each.

    Source: FPO++, arXiv 2602.02481.
    """

    clip: float = structural()

    def __check_init__(self):
        require(self.clip > 0, f"PerDrawRatio.clip = {self.clip}: it must be > 0 (1e999: no clip).")

    def __call__(self, old_loss: Float[Array, " K"], loss: Float[Array, " K"]) -> Float[Array, " K"]:
        return jnp.clip(old_loss - loss, -self.clip, self.clip)
