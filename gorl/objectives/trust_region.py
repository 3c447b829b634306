"""Trust regions: objectives of a probability ratio r = exp(log-ratio) and an advantage A that limit an update."""

import abc

import equinox as eqx
import gin
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from gorl.fields import Scalar, hyperparameter, require


class AbstractTrustRegion(eqx.Module):
    """An objective to maximize, for one log-ratio and one advantage."""

    @abc.abstractmethod
    def objective(self, log_ratio: Float[Array, ""], advantage: Float[Array, ""]) -> Float[Array, ""]:
        """Returns the objective."""

    @abc.abstractmethod
    def outside(self, log_ratio: Float[Array, ""]) -> Bool[Array, ""]:
        """Whether the ratio is outside the region."""


@gin.register(module="gorl")
class Clip(AbstractTrustRegion):
    """PPO's clipped objective, min(r A, clip(r, 1 - epsilon, 1 + epsilon) A).

    Source: Schulman et al., arXiv 1707.06347, equation 7.
    """

    epsilon: Scalar = hyperparameter()

    def __check_init__(self):
        require(self.epsilon > 0, f"Clip.epsilon = {self.epsilon}: it must be > 0.")

    def objective(self, log_ratio: Float[Array, ""], advantage: Float[Array, ""]) -> Float[Array, ""]:
        return _clipped(jnp.exp(log_ratio), advantage, self.epsilon)

    def outside(self, log_ratio: Float[Array, ""]) -> Bool[Array, ""]:
        return _is_outside(log_ratio, self.epsilon)


@gin.register(module="gorl")
class SPO(AbstractTrustRegion):
    """The objective of Simple Policy Optimization, r A - |A| (r - 1)² / (2 epsilon).

    It is a parabola in r, with its maximum at r = 1 + epsilon where A > 0 and at r = 1 - epsilon where A < 0. A ratio
    outside the region is pulled back, where Clip has no gradient. Source: Xie et al., arXiv 2401.16025.
    """

    epsilon: Scalar = hyperparameter()

    def __check_init__(self):
        require(0 < self.epsilon < jnp.inf, f"SPO.epsilon = {self.epsilon}: it must be > 0 and finite.")

    def objective(self, log_ratio: Float[Array, ""], advantage: Float[Array, ""]) -> Float[Array, ""]:
        return _parabola(jnp.exp(log_ratio), advantage, self.epsilon)

    def outside(self, log_ratio: Float[Array, ""]) -> Bool[Array, ""]:
        """Whether the ratio is beyond either maximum."""
        return _is_outside(log_ratio, self.epsilon)


@gin.register(module="gorl")
class ASPO(AbstractTrustRegion):
    """FPO++'s asymmetric trust region: the objective of Clip where A >= 0, and of SPO where A < 0.

    An action with A < 0 keeps a gradient that pulls its ratio back to 1 - epsilon, so its likelihood does not decrease
    without bound. Source: arXiv 2602.02481.
    """

    epsilon: Scalar = hyperparameter()

    def __check_init__(self):
        require(0 < self.epsilon < jnp.inf, f"ASPO.epsilon = {self.epsilon}: it must be > 0 and finite.")

    def objective(self, log_ratio: Float[Array, ""], advantage: Float[Array, ""]) -> Float[Array, ""]:
        ratio = jnp.exp(log_ratio)
        good = advantage >= 0
        # The branch that is not taken gets r = 1, since (r - 1)² could overflow, and 0 times infinity in its gradient
        # is NaN.
        return jnp.where(
            good,
            _clipped(ratio, advantage, self.epsilon),
            _parabola(jnp.where(good, 1.0, ratio), advantage, self.epsilon),
        )

    def outside(self, log_ratio: Float[Array, ""]) -> Bool[Array, ""]:
        return _is_outside(log_ratio, self.epsilon)


def _clipped(ratio: Float[Array, ""], advantage: Float[Array, ""], epsilon: Scalar) -> Float[Array, ""]:
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1.0 - epsilon, 1.0 + epsilon) * advantage)


def _parabola(ratio: Float[Array, ""], advantage: Float[Array, ""], epsilon: Scalar) -> Float[Array, ""]:
    return ratio * advantage - jnp.abs(advantage) / (2.0 * epsilon) * (ratio - 1.0) ** 2


def _is_outside(log_ratio: Float[Array, ""], epsilon: Scalar) -> Bool[Array, ""]:
    return jnp.abs(jnp.exp(log_ratio) - 1.0) > epsilon
