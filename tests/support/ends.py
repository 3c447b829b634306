"""What a stage left, made by hand: policies and decoders whose laws are known."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from gorl.environments.task import Task
from gorl.phases.base import PhaseContext, StageEnd
from gorl.state import RunState


class TwoPoints(eqx.Module):
    """Latents that are 0.5 or -0.5 in every dimension, with equal chances."""

    size: int

    def sample(self, obs: Any, *, key: Any) -> Any:
        return jnp.full((self.size,), jnp.where(jax.random.bernoulli(key), 0.5, -0.5)), None


class Scale(eqx.Module):
    """u = factor * latent."""

    factor: float
    latent_size: int

    def __call__(self, obs: Any, latent: Any) -> Any:
        return self.factor * latent


def task(environment: Any) -> Task:
    return Task(environment=environment, episode_length=20, staggered_starts=True, fresh_resets=True, action_bound=3.0)


def end(environment: Any, policy: Any, decoder: Any, stage: int = 0) -> StageEnd:
    return StageEnd(PhaseContext(task(environment), 0, stage, 1), RunState(decoder, policy), unit=7, env_steps=1000)


def pixels(path: Any) -> np.ndarray:
    import PIL.Image

    return np.asarray(PIL.Image.open(path).convert("RGB"))
