"""The flow policy of FPO and FPO++, whose likelihood ratio is a difference of flow-matching losses."""

from collections.abc import Callable

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.fields import require, structural
from gorl.generative.conditioned import AbstractConditioned
from gorl.generative.flow import interpolate
from gorl.generative.samplers import AbstractSampler
from gorl.generative.times import AbstractTimes
from gorl.networks import AbstractNormalizer, FourierTime
from gorl.policies.base import AbstractPolicy
from gorl.policies.flow_ratio import AbstractFlowRatio, AbstractLossTarget


class FlowExtras(eqx.Module):
    """The draws at which a ratio is evaluated, and their losses under the policy that acted."""

    noise: Float[Array, "*batch K D_z"]
    t: Float[Array, "*batch K"]
    loss: Float[Array, "*batch K"]


@gin.register(module="gorl", denylist=["obs_size", "action_size", "key"])
class FlowPolicy(AbstractConditioned, AbstractPolicy):
    """A flow policy, whose sampler carries noise (t = 1) to an action (t = 0) along a velocity field v(s, x, t).

    Its likelihood is not known, so the ratio is a surrogate. For each action `draws` pairs (noise_i, t_i) are drawn and
    the action's flow-matching loss at each, l_i, is stored; exp(l_old - l) replaces pi / pi_old. `target` is the loss,
    `times` the distribution of t, and `ratio` turns K differences into log-ratios. Sources: FPO, McAllister et al.,
    arXiv 2507.21053; FPO++, Yi et al., arXiv 2602.02481. The mode is the flow's image of zero noise ("zero sampling" in
    FPO++). The network takes [normalized observation, x_t, time embedding], and v is its output times `velocity_scale`.
    """

    body: eqx.Module
    normalizer: AbstractNormalizer
    time_embedding: FourierTime
    sampler: AbstractSampler
    target: AbstractLossTarget
    times: AbstractTimes
    ratio: AbstractFlowRatio
    velocity_scale: float = structural()
    draws: int = structural()
    action_size: int = structural()

    def __init__(
        self,
        obs_size: int,
        action_size: int,
        *,
        body: Callable,
        normalizer: Callable,
        time_embedding: FourierTime,
        sampler: AbstractSampler,
        target: AbstractLossTarget,
        times: AbstractTimes,
        ratio: AbstractFlowRatio,
        velocity_scale: float,
        draws: int,
        key: PRNGKeyArray,
    ):
        require(draws >= 1, f"FlowPolicy.draws = {draws}: it must be >= 1.")
        require(velocity_scale > 0, f"FlowPolicy.velocity_scale = {velocity_scale}: it must be > 0.")
        self.body = body(obs_size + action_size + time_embedding.size, action_size, key=key)
        self.normalizer = normalizer(obs_size)
        self.time_embedding, self.sampler = time_embedding, sampler
        self.target, self.times, self.ratio = target, times, ratio
        self.velocity_scale, self.draws, self.action_size = float(velocity_scale), draws, action_size

    def velocity(self, obs: Float[Array, " D_o"], x: Float[Array, " D_z"], t: Float[Array, ""]) -> Float[Array, " D_z"]:
        """Returns v(s, x, t)."""
        return self.velocity_scale * self.network(obs, x, t)

    def transport(self, obs: Float[Array, " D_o"], noise: Float[Array, " D_z"]) -> Float[Array, " D_z"]:
        """Returns the flow's image of the noise, which is an action."""
        return self.sampler(lambda x, t: self.velocity(obs, x, t), noise)

    def losses(
        self,
        obs: Float[Array, " D_o"],
        action: Float[Array, " D_z"],
        noise: Float[Array, "K D_z"],
        t: Float[Array, " K"],
    ) -> Float[Array, " K"]:
        """Returns the action's flow-matching loss at each draw."""

        def loss(noise: Float[Array, " D_z"], t: Float[Array, ""]) -> Float[Array, ""]:
            return self.target.loss(self.velocity(obs, interpolate(action, noise, t), t), action, noise, t)

        return jax.vmap(loss)(noise, t)

    def sample(self, obs: Float[Array, " D_o"], *, key: PRNGKeyArray) -> tuple[Float[Array, " D_z"], FlowExtras]:
        action_key, noise_key, time_key = jax.random.split(key, 3)
        action = self.transport(obs, jax.random.normal(action_key, (self.action_size,)))
        noise = jax.random.normal(noise_key, (self.draws, self.action_size))
        t = jax.vmap(lambda k: self.times.sample(key=k))(jax.random.split(time_key, self.draws))
        return action, FlowExtras(noise, t, self.losses(obs, action, noise, t))

    def rescore(self, obs: Float[Array, " D_o"], action: Float[Array, " D_z"], extras: FlowExtras) -> FlowExtras:
        """Returns the same draws with their losses."""
        return FlowExtras(extras.noise, extras.t, self.losses(obs, action, extras.noise, extras.t))

    def mode(self, obs: Float[Array, " D_o"], *, key: PRNGKeyArray) -> Float[Array, " D_z"]:
        del key
        return self.transport(obs, jnp.zeros((self.action_size,)))

    def log_ratio(
        self, obs: Float[Array, " D_o"], action: Float[Array, " D_z"], extras: FlowExtras, *, key: PRNGKeyArray
    ) -> Float[Array, " K"]:
        del key
        return self.ratio(extras.loss, self.losses(obs, action, extras.noise, extras.t))
