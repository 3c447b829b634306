"""Distributions of the times at which a loss is evaluated, between action (t = 0) and noise (t = 1)."""

import abc

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.fields import require, require_steps, structural


class AbstractTimes(eqx.Module):
    """A distribution of times in [0, 1]."""

    @abc.abstractmethod
    def sample(self, *, key: PRNGKeyArray) -> Float[Array, ""]:
        """Returns one time."""


@gin.register(module="gorl")
class UniformTimes(AbstractTimes):
    """The uniform distribution, t ~ U[0, 1)."""

    def sample(self, *, key: PRNGKeyArray) -> Float[Array, ""]:
        return jax.random.uniform(key)


@gin.register(module="gorl")
class DiscreteTimes(AbstractTimes):
    """The uniform distribution over 1/steps, 2/steps, ..., 1.

    A sampler of `steps` uniform Euler steps evaluates its field at these times.
    """

    steps: int = structural()

    def __check_init__(self):
        require_steps(self.steps, "DiscreteTimes.steps")

    def sample(self, *, key: PRNGKeyArray) -> Float[Array, ""]:
        return jax.random.randint(key, (), 1, self.steps + 1).astype(jnp.float32) / self.steps


@gin.register(module="gorl")
class ArcsineTimes(AbstractTimes):
    """The arcsine distribution, t = (1 - cos(pi u)) / 2 with u ~ U[0, 1].

    Both ends are more likely than the middle: the density is 1 / (pi sqrt(t (1 - t))).
    """

    def sample(self, *, key: PRNGKeyArray) -> Float[Array, ""]:
        return 0.5 * (1.0 - jnp.cos(jnp.pi * jax.random.uniform(key)))


@gin.register(module="gorl")
class LogitNormalTimes(AbstractTimes):
    """The logit-normal distribution, t = sigmoid(n) with n ~ N(mean, std²).

    The middle is more likely than the ends, and a negative mean favors the action's side. Source: Esser et al., arXiv
    2403.03206, section 3.1; MeanFlow (Geng et al., arXiv 2505.13447) has mean -0.4, std 1.
    """

    mean: float = structural()
    std: float = structural()

    def __check_init__(self):
        require(self.std > 0, f"LogitNormalTimes.std = {self.std}: it must be > 0.")

    def sample(self, *, key: PRNGKeyArray) -> Float[Array, ""]:
        return jax.nn.sigmoid(self.mean + self.std * jax.random.normal(key))
