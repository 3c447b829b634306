"""Which flow times a decoder is trained at."""

import abc

import equinox as eqx
import gin
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.fields import require, structural


class AbstractTimes(eqx.Module):
    """A law on [0, 1]: 0 is the action, 1 the noise."""

    @abc.abstractmethod
    def sample(self, *, key: PRNGKeyArray) -> Float[Array, ""]: ...


@gin.register(module="gorl")
class UniformTimes(AbstractTimes):
    """t ~ U[0, 1]."""

    def sample(self, *, key: PRNGKeyArray) -> Float[Array, ""]:
        return jax.random.uniform(key)


@gin.register(module="gorl")
class LogitNormalTimes(AbstractTimes):
    """t = sigmoid(n), n ~ N(mean, std²): the middle more often than the ends. A negative mean favours the action's side.

    Source: Esser et al., arXiv 2403.03206, section 3.1; MeanFlow (Geng et al., arXiv 2505.13447) has mean -0.4, std 1.
    """

    mean: float = structural()
    std: float = structural()

    def __check_init__(self):
        require(self.std > 0, f"LogitNormalTimes.std = {self.std}: it must be > 0.")

    def sample(self, *, key: PRNGKeyArray) -> Float[Array, ""]:
        return jax.nn.sigmoid(self.mean + self.std * jax.random.normal(key))
