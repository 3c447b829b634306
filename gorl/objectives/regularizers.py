"""Costs added to a policy's objective. Each is c times a quantity of the policy's Gaussian at one observation.

The entropy bonus is of the latent Gaussian, or of the squashed action. An L2 cost c (mean mu² + mean sigma²) beside an
entropy bonus c_H sum(log sigma) settles at sigma = sqrt(c_H D / (2 c)); a KL to N(0, I) says directly where the latents
should be (with an entropy coefficient of 0).
"""

import abc

import equinox as eqx
import gin
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.fields import Scalar, hyperparameter, require
from gorl.generative.distributions import DiagonalGaussian, log_tanh_slope
from gorl.policies.base import AbstractGaussianPolicy, AbstractPolicy


class AbstractRegularizer(eqx.Module):
    """A cost to minimise beside the policy's objective."""

    coefficient: eqx.AbstractVar[Scalar]

    def __check_init__(self):
        name = type(self).__name__
        require(
            bool(np.isfinite(self.coefficient)), f"{name}.coefficient = {self.coefficient}: it must be finite (0: off)."
        )

    def check(self, policy: AbstractPolicy) -> None:
        """Raises ConfigError if the policy does not have what the cost speaks of: here, a Gaussian."""
        name, kind = type(self).__name__, type(policy).__name__
        require(
            isinstance(policy, AbstractGaussianPolicy),
            f"OnPolicy.regularizers has @{name}(), which needs a Gaussian policy, but OnPolicy.policy builds {kind}, whose density"
            f" has no closed form. Remove @{name}() (OnPolicy.regularizers = [] for none), or bind OnPolicy.policy = @GaussianPolicy.",
        )

    @abc.abstractmethod
    def cost(self, distribution: DiagonalGaussian, *, key: PRNGKeyArray) -> Float[Array, ""]:
        """Before multiplication by the coefficient."""


@gin.register(module="gorl")
class EntropyBonus(AbstractRegularizer):
    """-H of the policy's Gaussian, in nats."""

    coefficient: Scalar = hyperparameter()

    def cost(self, distribution: DiagonalGaussian, *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return -distribution.entropy()


@gin.register(module="gorl")
class SquashedEntropyBonus(AbstractRegularizer):
    """-H of tanh(u) where u is the policy's Gaussian: H(N) + E[sum log(1 - tanh² u)], the mean over one sample."""

    coefficient: Scalar = hyperparameter()

    def cost(self, distribution: DiagonalGaussian, *, key: PRNGKeyArray) -> Float[Array, ""]:
        u = distribution.sample(key=key)
        return -(distribution.entropy() + jnp.sum(log_tanh_slope(u)))


@gin.register(module="gorl")
class LatentL2(AbstractRegularizer):
    """mean(mu²) + mean(sigma²) over the latent's dimensions (GoRL's released code)."""

    coefficient: Scalar = hyperparameter()

    def cost(self, distribution: DiagonalGaussian, *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return jnp.mean(distribution.mean**2) + jnp.mean(distribution.std**2)


@gin.register(module="gorl")
class LatentKL(AbstractRegularizer):
    """KL(pi(. | s) || N(0, I)) in nats (GoRL, arXiv 2512.02581v1)."""

    coefficient: Scalar = hyperparameter()

    def cost(self, distribution: DiagonalGaussian, *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return distribution.kl_to_standard()
