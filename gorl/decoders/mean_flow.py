"""The MeanFlow decoder, which takes one step."""

import abc
from collections.abc import Callable

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.decoders.base import AbstractDecoder
from gorl.fields import require, structural
from gorl.generative.conditioned import AbstractConditioned
from gorl.generative.flow import interpolate
from gorl.generative.mean_flow import adaptive_loss, mean_flow_residual
from gorl.generative.times import AbstractTimes
from gorl.networks import AbstractNormalizer, FourierTime


class AbstractTangent(eqx.Module):
    """The direction dz/dt in which MeanFlow's target differentiates the network."""

    @abc.abstractmethod
    def __call__(self, path: Float[Array, " D"], predict: Callable[[], Float[Array, " D"]]) -> Float[Array, " D"]:
        """Returns dz/dt.

        `path` is the velocity of this sample's path, and `predict()` the network's estimate of the flow's velocity.
        """


@gin.register(module="gorl")
class PathTangent(AbstractTangent):
    """The velocity of the sample's path, noise - action (Geng et al., arXiv 2505.13447)."""

    def __call__(self, path: Float[Array, " D"], predict: Callable[[], Float[Array, " D"]]) -> Float[Array, " D"]:
        del predict
        return path


@gin.register(module="gorl")
class PredictedTangent(AbstractTangent):
    """The network's velocity, u(z, t, t) (improved MeanFlow, Geng et al., arXiv 2512.02012).

    Its targets have the same mean and scatter less, at the cost of one more forward pass.
    """

    def __call__(self, path: Float[Array, " D"], predict: Callable[[], Float[Array, " D"]]) -> Float[Array, " D"]:
        del path
        return jax.lax.stop_gradient(predict())


@gin.register(module="gorl", denylist=["obs_size", "action_size", "key"])
class MeanFlowDecoder(AbstractConditioned, AbstractDecoder):
    """A MeanFlow decoder: u(s, z, r, t) is the average velocity from t to r, and the action is z - u(s, z, 0, 1).

    An action takes one network call. Source: Geng et al., arXiv 2505.13447. The network takes [normalized observation,
    z, embedding of t, embedding of t - r]. t and r are the larger and the smaller of two draws from `times`.
    `interval_share` is the share of samples with r < t; the others have r = t and train the velocity itself, as in flow
    matching. `to_action_share` is the share of intervals that end at r = 0, as the one used for acting does. (It is 0
    in the paper; with it a small network learns the whole step sooner.) For `loss_power` and `loss_constant` see
    `adaptive_loss`.
    """

    body: eqx.Module
    normalizer: AbstractNormalizer
    time_embedding: FourierTime
    times: AbstractTimes
    tangent: AbstractTangent
    interval_share: float = structural()
    to_action_share: float = structural()
    loss_power: float = structural()
    loss_constant: float = structural()
    action_size: int = structural()

    def __init__(
        self,
        obs_size: int,
        action_size: int,
        *,
        body: Callable,
        normalizer: Callable,
        time_embedding: FourierTime,
        times: AbstractTimes,
        tangent: AbstractTangent,
        interval_share: float,
        to_action_share: float,
        loss_power: float,
        loss_constant: float,
        key: PRNGKeyArray,
    ):
        require(
            0 < interval_share <= 1,
            f"MeanFlowDecoder.interval_share = {interval_share}: it must be in (0, 1];"
            " at 0 the step from t = 1 to 0 is never trained.",
        )
        require(
            0 <= to_action_share <= 1, f"MeanFlowDecoder.to_action_share = {to_action_share}: it must be in [0, 1]."
        )
        require(loss_power >= 0, f"MeanFlowDecoder.loss_power = {loss_power}: it must be >= 0 (0: least squares).")
        require(loss_constant > 0, f"MeanFlowDecoder.loss_constant = {loss_constant}: it must be > 0.")
        self.body = body(obs_size + action_size + 2 * time_embedding.size, action_size, key=key)
        self.normalizer = normalizer(obs_size)
        self.time_embedding, self.times, self.tangent = time_embedding, times, tangent
        self.interval_share, self.to_action_share = float(interval_share), float(to_action_share)
        self.loss_power, self.loss_constant = float(loss_power), float(loss_constant)
        self.action_size = action_size

    @property
    def latent_size(self) -> int:
        return self.action_size

    def average_velocity(
        self, obs: Float[Array, " D_o"], z: Float[Array, " D_a"], r: Float[Array, ""], t: Float[Array, ""]
    ) -> Float[Array, " D_a"]:
        """Returns u(s, z, r, t)."""
        return self.network(obs, z, t, t - r)

    def __call__(self, obs: Float[Array, " D_o"], latent: Float[Array, " D_z"]) -> Float[Array, " D_a"]:
        return latent - self.average_velocity(obs, latent, jnp.zeros(()), jnp.ones(()))

    def _interval(self, key: PRNGKeyArray) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Draws (r, t)."""
        one_key, other_key, interval_key, action_key = jax.random.split(key, 4)
        one, other = self.times.sample(key=one_key), self.times.sample(key=other_key)
        t = jnp.maximum(one, other)
        r = jnp.where(jax.random.bernoulli(action_key, self.to_action_share), 0.0, jnp.minimum(one, other))
        return jnp.where(jax.random.bernoulli(interval_key, self.interval_share), r, t), t

    def loss(
        self,
        obs: Float[Array, " D_o"],
        action: Float[Array, " D_a"],
        latent: Float[Array, " D_z"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        return self._loss(self.tangent, obs, action, latent, key)

    def validation_loss(
        self,
        obs: Float[Array, " D_o"],
        action: Float[Array, " D_a"],
        latent: Float[Array, " D_z"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        """Returns the loss along the predicted tangent, whatever `tangent` is.

        Along paths' own tangents the targets scatter more the better the network gets. The loss would rise while it
        learns, and the first weights would have the smallest loss.
        """
        return self._loss(PredictedTangent(), obs, action, latent, key)

    def _loss(
        self,
        tangent: AbstractTangent,
        obs: Float[Array, " D_o"],
        action: Float[Array, " D_a"],
        latent: Float[Array, " D_z"],
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        r, t = self._interval(key)
        z, path = interpolate(action, latent, t), latent - action
        average = lambda z, r, t: self.average_velocity(obs, z, r, t)
        residual = mean_flow_residual(average, z, r, t, path, tangent(path, lambda: average(z, t, t)))
        return adaptive_loss(residual, power=self.loss_power, constant=self.loss_constant)
