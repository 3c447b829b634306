"""The entropies that a temperature can regulate, and their targets."""

import abc
import math

import equinox as eqx
import gin
import jax.numpy as jnp
from jaxtyping import Array, Float

from gorl.fields import Scalar, hyperparameter, require
from gorl.generative.distributions import DiagonalGaussian, log_tanh_slope


class AbstractEntropy(eqx.Module):
    """An entropy, the mean of the negative log-density of the policy's samples, which a temperature holds at a target.

    The density is relative to a measure that depends on the class.
    """

    @abc.abstractmethod
    def log_prob(self, distribution: DiagonalGaussian, action: Float[Array, " D"]) -> Float[Array, ""]:
        """Returns the log-density of a sample of `distribution`, in nats."""

    @abc.abstractmethod
    def target(self, size: int) -> Float[Array, ""]:
        """Returns the target for a vector of `size` numbers, in nats."""


@gin.register(module="gorl")
class SquashedEntropy(AbstractEntropy):
    """The entropy of tanh(u), where u is the policy's Gaussian sample: log N(u) - sum log(1 - tanh² u).

    With the entropy of u instead, a policy gains entropy by saturation. Source: Haarnoja et al., arXiv 1812.05905,
    appendix C. The target is `per_dimension` times the number of dimensions (there -1 nat each, in Brax -0.5). The
    density is that of tanh(u) for the u that was drawn; it does not include the task's bound on |u|.
    """

    per_dimension: Scalar = hyperparameter()

    def log_prob(self, distribution: DiagonalGaussian, action: Float[Array, " D"]) -> Float[Array, ""]:
        return distribution.log_prob(action) - jnp.sum(log_tanh_slope(action))

    def target(self, size: int) -> Float[Array, ""]:
        return self.per_dimension * jnp.asarray(size, jnp.float32)


@gin.register(module="gorl")
class LatentEntropy(AbstractEntropy):
    """The entropy of the latent itself, log N(eps). The target is the entropy of N(., target_std² I).

    It constrains only the spread; the mean is free. Where a decoder maps distant latents to almost the same action, as
    the identity does before squashing, spread costs nothing and grows without bound.
    """

    target_std: Scalar = hyperparameter()

    def __check_init__(self):
        require(bool(self.target_std > 0), f"LatentEntropy.target_std = {self.target_std}: it must be > 0.")

    def log_prob(self, distribution: DiagonalGaussian, action: Float[Array, " D"]) -> Float[Array, ""]:
        return distribution.log_prob(action)

    def target(self, size: int) -> Float[Array, ""]:
        return jnp.asarray(size, jnp.float32) * (0.5 * math.log(2.0 * math.pi * math.e) + jnp.log(self.target_std))


@gin.register(module="gorl")
class RelativeEntropy(AbstractEntropy):
    """The entropy relative to the decoder's prior, log pi(eps) - log N(eps; 0, I), whose mean is KL(pi || N(0, I)).

    The target is a KL of `kl_per_dimension` nats times the number of dimensions. The policy spends it on a mean away
    from 0 and a spread below 1, as the critic prefers, and stays where the decoder was fitted. For comparison, SAC's
    usual target for an action in (-1, 1), an entropy of -1 nat, is 1.69 nats from the uniform distribution, and N(0,
    0.7²) is 0.10 nats from N(0, 1).
    """

    kl_per_dimension: Scalar = hyperparameter()

    def __check_init__(self):
        require(
            bool(self.kl_per_dimension > 0),
            f"RelativeEntropy.kl_per_dimension = {self.kl_per_dimension}: it must be > 0;"
            " at 0 the policy is the prior and learns nothing.",
        )

    def log_prob(self, distribution: DiagonalGaussian, action: Float[Array, " D"]) -> Float[Array, ""]:
        prior = DiagonalGaussian(jnp.zeros_like(action), jnp.ones_like(action))
        return distribution.log_prob(action) - prior.log_prob(action)

    def target(self, size: int) -> Float[Array, ""]:
        return -self.kl_per_dimension * jnp.asarray(size, jnp.float32)
