"""The denoising policy of DPPO, whose every sampling step is a step of a Markov decision process with a likelihood."""

from collections.abc import Callable

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.fields import require, require_steps, structural
from gorl.generative.conditioned import AbstractConditioned
from gorl.generative.distributions import DiagonalGaussian
from gorl.networks import AbstractNormalizer, FourierTime
from gorl.policies.base import AbstractPolicy


class DenoisingExtras(eqx.Module):
    """The trained part of a chain, and its steps' log-likelihoods under the policy that acted."""

    chain: Float[Array, "*batch states D_z"]  # F + 1 states; the last one is the action
    log_likelihood: Float[Array, "*batch F"]


@gin.register(module="gorl", denylist=["obs_size", "action_size", "key"])
class DenoisingPolicy(AbstractConditioned, AbstractPolicy):
    """A chain of `steps` noisy, uniform denoising steps from t = 1 (noise) to t = 0 (action).

    One step is x' = x + (t_next - t) v(s, x, t) + sigma n with n ~ N(0, I). It has the likelihood N(x + (t_next - t) v,
    sigma² I) and its own log-ratio, summed over action dimensions; all steps share the advantage of the environment's
    step. Only the last `final_steps` steps are trained: the others have no ratio and no gradient. The mode is the chain
    without any noise, from x = 0. Source: DPPO, Ren et al., arXiv 2409.00588, on a flow instead of a diffusion. The
    network takes [normalized observation, x, time embedding], and v is its output times `velocity_scale`.
    """

    body: eqx.Module
    normalizer: AbstractNormalizer
    time_embedding: FourierTime
    velocity_scale: float = structural()
    sigma: float = structural()
    steps: int = structural()
    final_steps: int = structural()
    action_size: int = structural()

    def __init__(
        self,
        obs_size: int,
        action_size: int,
        *,
        body: Callable,
        normalizer: Callable,
        time_embedding: FourierTime,
        velocity_scale: float,
        sigma: float,
        steps: int,
        final_steps: int,
        key: PRNGKeyArray,
    ):
        require(velocity_scale > 0, f"DenoisingPolicy.velocity_scale = {velocity_scale}: it must be > 0.")
        require(sigma > 0, f"DenoisingPolicy.sigma = {sigma}: it must be > 0, or a step has no likelihood.")
        require_steps(steps, "DenoisingPolicy.steps")
        require(
            1 <= final_steps <= steps,
            f"DenoisingPolicy.final_steps = {final_steps}: it must be in [1, steps],"
            f" where DenoisingPolicy.steps = {steps}.",
        )
        self.body = body(obs_size + action_size + time_embedding.size, action_size, key=key)
        self.normalizer = normalizer(obs_size)
        self.time_embedding = time_embedding
        self.velocity_scale, self.sigma = float(velocity_scale), float(sigma)
        self.steps, self.final_steps, self.action_size = steps, final_steps, action_size

    def velocity(self, obs: Float[Array, " D_o"], x: Float[Array, " D_z"], t: Float[Array, ""]) -> Float[Array, " D_z"]:
        """Returns v(s, x, t)."""
        return self.velocity_scale * self.network(obs, x, t)

    def _times(self) -> Float[Array, " N"]:
        """Returns the time at which each step begins: 1, ..., 1 / steps."""
        return 1.0 - jnp.arange(self.steps, dtype=jnp.float32) / self.steps

    def mean(self, obs: Float[Array, " D_o"], x: Float[Array, " D_z"], t: Float[Array, ""]) -> Float[Array, " D_z"]:
        """Returns the mean of x' after a step from x at t, where t_next - t = -1 / steps."""
        return x - self.velocity(obs, x, t) / self.steps

    def _chain(
        self, obs: Float[Array, " D_o"], start: Float[Array, " D_z"], noise: Float[Array, "N D_z"]
    ) -> Float[Array, "states D_z"]:
        """Returns all states from the start to the action, for given standard normal noise."""

        def step(x: Float[Array, " D_z"], drawn: tuple) -> tuple[Float[Array, " D_z"], Float[Array, " D_z"]]:
            t, n = drawn
            x = self.mean(obs, x, t) + self.sigma * n
            return x, x

        _, states = jax.lax.scan(step, start, (self._times(), noise))
        return jnp.concatenate([start[None], states])

    def log_likelihood(self, obs: Float[Array, " D_o"], chain: Float[Array, "states D_z"]) -> Float[Array, " F"]:
        """Returns the log-likelihood of each of the last F denoising steps.

        Acting and learning both compute it here, from the stored states. Computed from the noise it would differ by the
        rounding of x', which sigma magnifies, and the ratio before an update would not be 1.
        """

        def likelihood(
            x: Float[Array, " D_z"], following: Float[Array, " D_z"], t: Float[Array, ""]
        ) -> Float[Array, ""]:
            return DiagonalGaussian(self.mean(obs, x, t), jnp.full((self.action_size,), self.sigma)).log_prob(following)

        return jax.vmap(likelihood)(chain[:-1], chain[1:], self._times()[-self.final_steps :])

    def sample(self, obs: Float[Array, " D_o"], *, key: PRNGKeyArray) -> tuple[Float[Array, " D_z"], DenoisingExtras]:
        start_key, step_key = jax.random.split(key)
        start = jax.random.normal(start_key, (self.action_size,))
        chain = self._chain(obs, start, jax.random.normal(step_key, (self.steps, self.action_size)))
        trained = chain[-self.final_steps - 1 :]
        return chain[-1], DenoisingExtras(trained, self.log_likelihood(obs, trained))

    def rescore(
        self, obs: Float[Array, " D_o"], action: Float[Array, " D_z"], extras: DenoisingExtras
    ) -> DenoisingExtras:
        """Returns the same chain with the log-likelihoods of its steps."""
        del action  # the chain's last state
        return DenoisingExtras(extras.chain, self.log_likelihood(obs, extras.chain))

    def mode(self, obs: Float[Array, " D_o"], *, key: PRNGKeyArray) -> Float[Array, " D_z"]:
        del key
        return self._chain(obs, jnp.zeros((self.action_size,)), jnp.zeros((self.steps, self.action_size)))[-1]

    def log_ratio(
        self, obs: Float[Array, " D_o"], action: Float[Array, " D_z"], extras: DenoisingExtras, *, key: PRNGKeyArray
    ) -> Float[Array, " F"]:
        """Returns one log-ratio per trained step. Their sum is the log-ratio of the chain."""
        del action, key  # the action is the chain's last state
        return self.log_likelihood(obs, extras.chain) - extras.log_likelihood
