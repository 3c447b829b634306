"""Which entropy soft actor-critic keeps up, and at what value."""

import abc
import math

import equinox as eqx
import gin
import jax.numpy as jnp
from jaxtyping import Array, Float

from gorl.fields import Scalar, hyperparameter, require
from gorl.generative.distributions import DiagonalGaussian, log_tanh_slope


class AbstractEntropy(eqx.Module):
    """A density of the policy's samples, with respect to some measure, whose mean negative logarithm is held at a target."""

    @abc.abstractmethod
    def log_prob(self, distribution: DiagonalGaussian, action: Float[Array, " D"]) -> Float[Array, ""]:
        """The log-density of a sample of `distribution`, in nats."""

    @abc.abstractmethod
    def target(self, size: int) -> Float[Array, ""]:
        """The entropy to hold for a vector of `size` numbers, in nats."""


@gin.register(module="gorl")
class SquashedEntropy(AbstractEntropy):
    """Of tanh(u), where the policy's Gaussian is that of u: log N(u) - sum log(1 - tanh² u).

    With the entropy of u instead, a policy buys entropy by saturation. Haarnoja et al., arXiv 1812.05905, appendix C; the
    target is `per_dimension` times the number of dimensions (there: -1 nat each; Brax: -0.5). The density is that of
    tanh(u) for the u that was drawn: the task's bound on |u| is not part of it.
    """

    per_dimension: Scalar = hyperparameter()

    def log_prob(self, distribution: DiagonalGaussian, action: Float[Array, " D"]) -> Float[Array, ""]:
        return distribution.log_prob(action) - jnp.sum(log_tanh_slope(action))

    def target(self, size: int) -> Float[Array, ""]:
        return self.per_dimension * jnp.asarray(size, jnp.float32)


@gin.register(module="gorl")
class LatentEntropy(AbstractEntropy):
    """Of the latent itself: log N(eps). The target is the entropy of N(., target_std² I).

    Only the spread is held, the mean may go anywhere; and where a decoder does not tell far latents apart, as the identity before
    a squashed action does not, spread costs nothing and grows without end.
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
    """Relative to the decoder's prior: log pi(eps) - log N(eps; 0, I), whose mean is KL(pi || N(0, I)).

    Held at `kl_per_dimension` nats times the number of dimensions: the policy spends them on a mean away from 0 and a spread
    below 1 as the critic asks, and stays where the decoder was fitted. For comparison, -1 nat of entropy of an action in (-1, 1),
    SAC's usual target, is 1.69 nats from the uniform law, and N(0, 0.7²) is 0.10 from N(0, 1).
    """

    kl_per_dimension: Scalar = hyperparameter()

    def __check_init__(self):
        require(
            bool(self.kl_per_dimension > 0),
            f"RelativeEntropy.kl_per_dimension = {self.kl_per_dimension}: it must be > 0; at 0 the policy is the prior and learns nothing.",
        )

    def log_prob(self, distribution: DiagonalGaussian, action: Float[Array, " D"]) -> Float[Array, ""]:
        prior = DiagonalGaussian(jnp.zeros_like(action), jnp.ones_like(action))
        return distribution.log_prob(action) - prior.log_prob(action)

    def target(self, size: int) -> Float[Array, ""]:
        return -self.kl_per_dimension * jnp.asarray(size, jnp.float32)
