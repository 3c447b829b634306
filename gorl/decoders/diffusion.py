"""The diffusion decoder."""

from collections.abc import Callable

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.decoders.base import AbstractDecoder
from gorl.fields import require, structural
from gorl.generative.conditioned import AbstractConditioned
from gorl.generative.diffusion import clip_action, diffuse, regression_loss
from gorl.generative.predictions import AbstractPrediction
from gorl.generative.schedules import AbstractLevels, AbstractSchedule
from gorl.networks import AbstractNormalizer, FourierTime


@gin.register(module="gorl", denylist=["obs_size", "action_size", "key"])
class DiffusionDecoder(AbstractConditioned, AbstractDecoder):
    """A diffusion decoder: DDIM with eta = 0 from level T to the action at level 0.

    It is deterministic, with one network call per level. Source: Ho et al., arXiv 2006.11239; Song et al., arXiv
    2010.02502; as a GoRL decoder, arXiv 2512.02581. The network takes [normalized observation, x_t, embedding of t/T].
    `x0_clip` bounds every estimate of the action while sampling (1e999: not at all). An untrained network is not the
    identity: with noise prediction, an output of 0 scales the latent by 1 / sqrt(alphabar_T).
    """

    body: eqx.Module
    normalizer: AbstractNormalizer
    time_embedding: FourierTime
    schedule: AbstractSchedule
    levels: AbstractLevels
    prediction: AbstractPrediction
    x0_clip: float = structural()
    action_size: int = structural()

    def __init__(
        self,
        obs_size: int,
        action_size: int,
        *,
        body: Callable,
        normalizer: Callable,
        time_embedding: FourierTime,
        schedule: AbstractSchedule,
        levels: AbstractLevels,
        prediction: AbstractPrediction,
        x0_clip: float,
        key: PRNGKeyArray,
    ):
        require(x0_clip > 0, f"DiffusionDecoder.x0_clip = {x0_clip}: it must be > 0 (1e999: no clip).")
        levels.trained(schedule.steps)  # raises if there are too few
        self.body = body(obs_size + action_size + time_embedding.size, action_size, key=key)
        self.normalizer = normalizer(obs_size)
        self.time_embedding, self.schedule, self.levels, self.prediction = time_embedding, schedule, levels, prediction
        self.x0_clip, self.action_size = float(x0_clip), action_size

    @property
    def latent_size(self) -> int:
        return self.action_size

    @property
    def network_calls(self) -> int:
        return len(self.levels.sampled(self.schedule.steps))

    def _coefficients(self) -> tuple[Float[Array, " levels"], Float[Array, " levels"]]:
        """Returns (alpha, sigma) of the levels 0 .. T."""
        alphabar = self.schedule.alphabar()
        return jnp.asarray(np.sqrt(alphabar), jnp.float32), jnp.asarray(np.sqrt(1.0 - alphabar), jnp.float32)

    def output(self, obs: Float[Array, " D_o"], x: Float[Array, " D_a"], t: Float[Array, ""]) -> Float[Array, " D_a"]:
        """Returns the network's prediction at t = level / T."""
        return self.network(obs, x, t)

    def __call__(self, obs: Float[Array, " D_o"], latent: Float[Array, " D_z"]) -> Float[Array, " D_a"]:
        alphas, sigmas = self._coefficients()
        level = np.array(self.levels.sampled(self.schedule.steps))

        def step(x: Float[Array, " D_a"], at: tuple) -> tuple[Float[Array, " D_a"], None]:
            t, alpha, sigma, next_alpha, next_sigma = at
            estimate = self.prediction.estimate(self.output(obs, x, t), x, alpha, sigma)
            x0, eps = clip_action(*estimate, alpha, sigma, bound=self.x0_clip)
            return diffuse(x0, eps, next_alpha, next_sigma), None

        times = jnp.asarray(level / self.schedule.steps, jnp.float32)
        steps = (times, alphas[level], sigmas[level], alphas[level - 1], sigmas[level - 1])
        return jax.lax.scan(step, latent, steps)[0]

    def loss(
        self,
        obs: Float[Array, " D_o"],
        action: Float[Array, " D_a"],
        latent: Float[Array, " D_z"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        alphas, sigmas = self._coefficients()
        trained = self.levels.trained(self.schedule.steps)
        level = jax.random.randint(key, (), trained.start, trained.stop)
        alpha, sigma = alphas[level], sigmas[level]
        x = diffuse(action, latent, alpha, sigma)
        target = self.prediction.target(action, latent, alpha, sigma)
        return regression_loss(self.output(obs, x, level / self.schedule.steps), target)
