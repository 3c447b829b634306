"""Surrogates of flow policies' likelihood ratios, computed from their losses."""

import abc
import math

import equinox as eqx
import gin
import jax
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
    """A single log-ratio, the mean over the draws of (old loss - loss). Source: FPO, arXiv 2507.21053.

    `clip` is a guard that FPO does not have: clip(mean, -clip, clip) (1e999: no guard). Losses have no upper bound, so
    exp(old loss - loss) has none either, and for A < 0 neither has the objective of Clip: one bad action whose ratio
    has become huge outweighs the whole batch. Beyond the guard an action has no gradient, so that it leaves the batch;
    on the side of A < 0 that is the second clip of Ye et al., arXiv 1912.09729. The gradient must not pass, as it does
    in `PerDrawRatio`: that of a loss grows with the loss itself, so the actions that are farthest away would pull
    hardest, and those with A > 0 and a ratio of almost 0 would pull exp(-clip) times as hard as any other instead of
    not at all.
    """

    # Not in gin alone, as a setting should be: runs saved without the guard resume without it.
    clip: float = structural(default=math.inf)

    def __check_init__(self):
        _require_clip(self)

    def __call__(self, old_loss: Float[Array, " K"], loss: Float[Array, " K"]) -> Float[Array, " one"]:
        return jnp.clip(jnp.mean(old_loss - loss), -self.clip, self.clip)[None]


@gin.register(module="gorl")
class PerDrawRatio(AbstractFlowRatio):
    """One log-ratio per draw, clip(old loss - loss, -clip, clip), so that the trust region acts on each.

    The gradient passes the clip, as `bounded` says. ASPO pulls an action with A < 0 back to the ratio 1 - epsilon from
    wherever it is; a clip that stopped the gradient would end that pull beyond exp(clip) and below exp(-clip), where it
    is needed most. Source: FPO++, arXiv 2602.02481.
    """

    clip: float = structural()

    def __check_init__(self):
        _require_clip(self)

    def __call__(self, old_loss: Float[Array, " K"], loss: Float[Array, " K"]) -> Float[Array, " K"]:
        return bounded(old_loss - loss, self.clip)


def bounded(x: Float[Array, "*batch"], bound: float) -> Float[Array, "*batch"]:
    """Returns clip(x, -bound, bound) with the gradient of x itself (a straight-through estimator).

    Source: Bengio et al., arXiv 1308.3432.
    """
    fixed = jax.lax.stop_gradient(x)
    return jnp.clip(fixed, -bound, bound) + (x - fixed)  # the second term is exactly 0


def _require_clip(ratio: AveragedRatio | PerDrawRatio) -> None:
    name = type(ratio).__name__
    require(ratio.clip > 0, f"{name}.clip = {ratio.clip}: it must be > 0 (1e999: no clip).")
