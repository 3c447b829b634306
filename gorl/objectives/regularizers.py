"""Costs added to a policy's objective. Each is c times a quantity of the policy's Gaussian at one observation.

The entropy bonus concerns the latent Gaussian or the squashed action. An L2 cost c (mean mu² + mean sigma²) with an
entropy bonus c_H sum(log sigma) has its optimum at sigma = sqrt(c_H D / (2 c)). A KL to N(0, I) prescribes directly
where the latents should be (with an entropy coefficient of 0).
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
    """A cost that is minimized in addition to the policy's objective."""

    coefficient: eqx.AbstractVar[Scalar]

    def __check_init__(self):
        name = type(self).__name__
        require(
            bool(np.isfinite(self.coefficient)), f"{name}.coefficient = {self.coefficient}: it must be finite (0: off)."
        )

    def check(self, policy: AbstractPolicy) -> None:
        """Raises ConfigError if the policy lacks what the cost needs, which is a Gaussian distribution by default."""
        name, kind = type(self).__name__, type(policy).__name__
        require(
            isinstance(policy, AbstractGaussianPolicy),
            f"OnPolicy.regularizers has @{name}(), which needs a Gaussian policy, but OnPolicy.policy builds {kind},"
            f" whose density has no closed form. Remove @{name}() (OnPolicy.regularizers = [] for none), or bind"
            " OnPolicy.policy = @GaussianPolicy.",
        )

    @abc.abstractmethod
    def cost(self, distribution: DiagonalGaussian, *, key: PRNGKeyArray) -> Float[Array, ""]:
        """Returns the cost before multiplication by the coefficient."""


@gin.register(module="gorl")
class EntropyBonus(AbstractRegularizer):
    """The negative entropy of the policy's Gaussian, -H, in nats."""

    coefficient: Scalar = hyperparameter()

    def cost(self, distribution: DiagonalGaussian, *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return -distribution.entropy()


@gin.register(module="gorl")
class SquashedEntropyBonus(AbstractRegularizer):
    """The negative entropy of tanh(u), where u is the policy's Gaussian sample.

    H = H(N) + E[sum log(1 - tanh² u)], where one sample estimates the mean.
    """

    coefficient: Scalar = hyperparameter()

    def cost(self, distribution: DiagonalGaussian, *, key: PRNGKeyArray) -> Float[Array, ""]:
        u = distribution.sample(key=key)
        return -(distribution.entropy() + jnp.sum(log_tanh_slope(u)))


@gin.register(module="gorl")
class LatentL2(AbstractRegularizer):
    """An L2 cost, mean(mu²) + mean(sigma²) over the latent's dimensions (GoRL's released code)."""

    coefficient: Scalar = hyperparameter()

    def cost(self, distribution: DiagonalGaussian, *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return jnp.mean(distribution.mean**2) + jnp.mean(distribution.std**2)


@gin.register(module="gorl")
class LatentKL(AbstractRegularizer):
    """The divergence from the prior, KL(pi(. | s) || N(0, I)), in nats (GoRL, arXiv 2512.02581v1)."""

    coefficient: Scalar = hyperparameter()

    def cost(self, distribution: DiagonalGaussian, *, key: PRNGKeyArray) -> Float[Array, ""]:
        del key
        return distribution.kl_to_standard()
