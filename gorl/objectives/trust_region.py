"""How far an update may move a policy: objectives of a probability ratio r = exp(log-ratio) and an advantage A."""

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
        return _clipped(jnp.exp(log_ratio), advantage, self.epsilon)

    def outside(self, log_ratio: Float[Array, ""]) -> Bool[Array, ""]:
        return _beyond(log_ratio, self.epsilon)


@gin.register(module="gorl")
class SPO(AbstractTrustRegion):
    """r A - |A| (r - 1)² / (2 epsilon). Xie et al., Simple Policy Optimization, arXiv 2401.16025.

    A parabola in r, greatest at r = 1 + epsilon where A > 0 and at r = 1 - epsilon where A < 0: a ratio that has gone too far
    is pulled back, where Clip has no gradient any more.
    """

    epsilon: Scalar = hyperparameter()

    def __check_init__(self):
        require(0 < self.epsilon < jnp.inf, f"SPO.epsilon = {self.epsilon}: it must be > 0 and finite.")

    def objective(self, log_ratio: Float[Array, ""], advantage: Float[Array, ""]) -> Float[Array, ""]:
        return _parabola(jnp.exp(log_ratio), advantage, self.epsilon)

    def outside(self, log_ratio: Float[Array, ""]) -> Bool[Array, ""]:
        """Beyond either maximum."""
        return _beyond(log_ratio, self.epsilon)


@gin.register(module="gorl")
class ASPO(AbstractTrustRegion):
    """Clip's objective where A >= 0, SPO's where A < 0. FPO++'s asymmetric trust region, arXiv 2602.02481.

    What made things worse keeps a gradient that pulls its ratio back to 1 - epsilon, so an action's likelihood is not driven
    down without bound.
    """

    epsilon: Scalar = hyperparameter()

    def __check_init__(self):
        require(0 < self.epsilon < jnp.inf, f"ASPO.epsilon = {self.epsilon}: it must be > 0 and finite.")

    def objective(self, log_ratio: Float[Array, ""], advantage: Float[Array, ""]) -> Float[Array, ""]:
        ratio = jnp.exp(log_ratio)
        good = advantage >= 0
        # The branch that is not taken sees r = 1: there (r - 1)² could overflow, and 0 times infinity in its gradient is NaN.
        return jnp.where(
            good,
            _clipped(ratio, advantage, self.epsilon),
            _parabola(jnp.where(good, 1.0, ratio), advantage, self.epsilon),
        )

    def outside(self, log_ratio: Float[Array, ""]) -> Bool[Array, ""]:
        return _beyond(log_ratio, self.epsilon)


def _clipped(ratio: Float[Array, ""], advantage: Float[Array, ""], epsilon: Scalar) -> Float[Array, ""]:
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1.0 - epsilon, 1.0 + epsilon) * advantage)


def _parabola(ratio: Float[Array, ""], advantage: Float[Array, ""], epsilon: Scalar) -> Float[Array, ""]:
    return ratio * advantage - jnp.abs(advantage) / (2.0 * epsilon) * (ratio - 1.0) ** 2


def _beyond(log_ratio: Float[Array, ""], epsilon: Scalar) -> Bool[Array, ""]:
    return jnp.abs(jnp.exp(log_ratio) - 1.0) > epsilon
