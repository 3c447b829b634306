"""Where on the path between action (t = 0) and noise (t = 1) a flow's loss is taken."""

import abc

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.fields import require, structural


class AbstractTimes(eqx.Module):
    """A distribution of times in [0, 1]."""

    @abc.abstractmethod
    def sample(self, key: PRNGKeyArray) -> Float[Array, ""]: ...


@gin.register(module="gorl")
class UniformTimes(AbstractTimes):
    """t ~ U[0, 1)."""

    def sample(self, key: PRNGKeyArray) -> Float[Array, ""]:
        return jax.random.uniform(key)


@gin.register(module="gorl")
class DiscreteTimes(AbstractTimes):
    """t uniform over 1/steps, 2/steps, ..., 1: where a sampler of `steps` uniform Euler steps evaluates its field."""

    steps: int = structural()

    def __check_init__(self):
        require(self.steps >= 1, f"DiscreteTimes.steps = {self.steps}: it must be >= 1.")

    def sample(self, key: PRNGKeyArray) -> Float[Array, ""]:
        return jax.random.randint(key, (), 1, self.steps + 1).astype(jnp.float32) / self.steps
