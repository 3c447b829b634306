"""How far an update may move a policy: objectives of a probability ratio and an advantage."""

import abc

import equinox as eqx
import gin
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gorl.fields import Scalar, hyperparameter, require


class AbstractTrustRegion(eqx.Module):
    """An objective to maximise, for one log-ratio and one advantage."""

    @abc.abstractmethod
    def objective(self, log_ratio: Float[Array, ""], advantage: Float[Array, ""]) -> Float[Array, ""]: ...

    @abc.abstractmethod
    def outside(self, log_ratio: Float[Array, ""]) -> Bool[Array, ""]:
        """Whether the ratio has left the region."""


@gin.register(module="gorl")
class Clip(AbstractTrustRegion):
    """min(r A, clip(r, 1 - epsilon, 1 + epsilon) A). Schulman et al., arXiv 1707.06347, equation 7."""

    epsilon: Scalar = hyperparameter()

    def __check_init__(self):
        require(self.epsilon > 0, f"Clip.epsilon = {self.epsilon}: it must be > 0.")

    def objective(self, log_ratio: Float[Array, ""], advantage: Float[Array, ""]) -> Float[Array, ""]:
        ratio = jnp.exp(log_ratio)
        clipped = jnp.clip(ratio, 1.0 - self.epsilon, 1.0 + self.epsilon)
        return jnp.minimum(ratio * advantage, clipped * advantage)

    def outside(self, log_ratio: Float[Array, ""]) -> Bool[Array, ""]:
        return jnp.abs(jnp.exp(log_ratio) - 1.0) > self.epsilon
