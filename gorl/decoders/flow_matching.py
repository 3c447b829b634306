"""The flow-matching decoder."""

from collections.abc import Callable

import equinox as eqx
import gin
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.decoders.base import AbstractDecoder
from gorl.fields import structural
from gorl.generative.conditioned import AbstractConditioned
from gorl.generative.flow import flow_matching_loss, interpolate
from gorl.generative.samplers import AbstractSampler
from gorl.generative.times import AbstractTimes
from gorl.networks import AbstractNormalizer, FourierTime


@gin.register(module="gorl", denylist=["obs_size", "action_size", "key"])
class FlowMatchingDecoder(AbstractConditioned, AbstractDecoder):
    """A flow-matching decoder: a velocity field v(s, x, t) along straight paths from noise (t = 1) to action (t = 0).

    Source: Lipman et al., arXiv 2210.02747; as a GoRL decoder, arXiv 2512.02581. The network takes [normalized
    observation, x_t, time embedding]. `times` is the distribution of t in the loss.
    """

    body: eqx.Module
    normalizer: AbstractNormalizer
    time_embedding: FourierTime
    times: AbstractTimes
    sampler: AbstractSampler
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
        sampler: AbstractSampler,
        key: PRNGKeyArray,
    ):
        self.body = body(obs_size + action_size + time_embedding.size, action_size, key=key)
        self.normalizer = normalizer(obs_size)
        self.time_embedding, self.times, self.sampler = time_embedding, times, sampler
        self.action_size = action_size

    @property
    def latent_size(self) -> int:
        return self.action_size

    @property
    def network_calls(self) -> int:
        return self.sampler.network_calls

    def velocity(self, obs: Float[Array, " D_o"], x: Float[Array, " D_a"], t: Float[Array, ""]) -> Float[Array, " D_a"]:
        """Returns v(s, x, t)."""
        return self.network(obs, x, t)

    def __call__(self, obs: Float[Array, " D_o"], latent: Float[Array, " D_z"]) -> Float[Array, " D_a"]:
        return self.sampler(lambda x, t: self.velocity(obs, x, t), latent)

    def loss(
        self,
        obs: Float[Array, " D_o"],
        action: Float[Array, " D_a"],
        latent: Float[Array, " D_z"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        t = self.times.sample(key=key)
        return flow_matching_loss(self.velocity(obs, interpolate(action, latent, t), t), action, latent)
