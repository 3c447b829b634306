"""The interface of a policy."""

import abc
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.generative.distributions import DiagonalGaussian
from gorl.networks import AbstractNormalizer, observed


class AbstractPolicy(eqx.Module):
    """A distribution over (latent) actions, with what an on-policy objective needs. Unbatched.

    A policy is constructed as `Policy(obs_size, action_size, key=key)` with everything else bound.
    """

    normalizer: eqx.AbstractVar[AbstractNormalizer]

    @abc.abstractmethod
    def sample(self, obs: Float[Array, " D_o"], *, key: PRNGKeyArray) -> tuple[Float[Array, " D_z"], Any]:
        """An action, and the extras that `log_ratio` will need about it."""

    @abc.abstractmethod
    def mode(self, obs: Float[Array, " D_o"], *, key: PRNGKeyArray) -> Float[Array, " D_z"]:
        """The most likely action, or the policy's deterministic stand-in for it. A generative policy has no closed form of its
        mode: there it is the zero-noise action."""

    def zero_noise(self, obs: Float[Array, " D_o"], *, key: PRNGKeyArray) -> Float[Array, " D_z"]:
        """The action when every noise that sampling would draw is at its mean, 0. Where the mode is that, it need not be redefined."""
        return self.mode(obs, key=key)

    @abc.abstractmethod
    def log_ratio(
        self, obs: Float[Array, " D_o"], action: Float[Array, " D_z"], extras: Any, *, key: PRNGKeyArray
    ) -> Float[Array, " K"]:
        """log pi(action | obs) - log pi_old(action | obs), or K surrogates of it; 0 where nothing has changed."""

    def log_ratio_and_distribution(
        self, obs: Float[Array, " D_o"], action: Float[Array, " D_z"], extras: Any, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, " K"], DiagonalGaussian | None]:
        """`log_ratio`, and the distribution at `obs` if it is a Gaussian, else None. To be redefined where one pass of the network gives both."""
        return self.log_ratio(obs, action, extras, key=key), None

    def observe(self, obs: Float[Array, "N D_o"], weight: Float[Array, " N"]) -> "AbstractPolicy":
        """Returns the same policy with its normalizer's statistics updated. Never call it between sampling and `log_ratio`."""
        return observed(self, obs, weight)


class AbstractGaussianPolicy(AbstractPolicy):
    """A policy whose (latent) action is a diagonal Gaussian: it has an entropy, and a divergence from N(0, I)."""

    @abc.abstractmethod
    def distribution(self, obs: Float[Array, " D_o"]) -> DiagonalGaussian: ...

    def log_ratio_and_distribution(
        self, obs: Float[Array, " D_o"], action: Float[Array, " D_z"], extras: Any, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, " K"], DiagonalGaussian]:
        return self.log_ratio(obs, action, extras, key=key), self.distribution(obs)
