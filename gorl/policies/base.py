"""The interface of a policy."""

import abc

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.errors import ConfigError
from gorl.generative.distributions import DiagonalGaussian
from gorl.networks import AbstractNormalizer, update_normalizers
from gorl.state import PyTree


class AbstractActor(eqx.Module):
    """A distribution over (latent) actions that can act. Unbatched."""

    @abc.abstractmethod
    def sample(self, obs: Float[Array, " D_o"], *, key: PRNGKeyArray) -> tuple[Float[Array, " D_z"], PyTree]:
        """Returns an action and the extras that a policy's `log_ratio` needs for it."""

    @abc.abstractmethod
    def mode(self, obs: Float[Array, " D_o"], *, key: PRNGKeyArray) -> Float[Array, " D_z"]:
        """Returns the most likely action, or a deterministic substitute.

        The mode of a generative policy has no closed form; the zero-noise action is returned instead.
        """

    def zero_noise(self, obs: Float[Array, " D_o"], *, key: PRNGKeyArray) -> Float[Array, " D_z"]:
        """Returns the action for which all noise that sampling would draw is at its mean, 0.

        Override it where that is not the mode.
        """
        return self.mode(obs, key=key)


class AbstractPolicy(AbstractActor):
    """A distribution over (latent) actions, with the likelihood ratios that on-policy objectives need. Unbatched.

    A policy is constructed as `Policy(obs_size, action_size, key=key)` with everything else bound.
    """

    normalizer: eqx.AbstractVar[AbstractNormalizer]

    @abc.abstractmethod
    def log_ratio(
        self, obs: Float[Array, " D_o"], action: Float[Array, " D_z"], extras: PyTree, *, key: PRNGKeyArray
    ) -> Float[Array, " K"]:
        """Returns log pi(action | obs) - log pi_old(action | obs), or K surrogates of it: 0 for an unchanged policy."""

    def log_ratio_and_distribution(
        self, obs: Float[Array, " D_o"], action: Float[Array, " D_z"], extras: PyTree, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, " K"], DiagonalGaussian | None]:
        """Returns `log_ratio` and the distribution at `obs`, or None where that is not a Gaussian.

        Override it where one pass of the network gives both.
        """
        return self.log_ratio(obs, action, extras, key=key), None

    def kl_to_prior(self, obs: Float[Array, " D_o"]) -> Float[Array, ""]:
        """Returns KL(pi(. | obs) || N(0, I)) in nats, or NaN where it has no closed form."""
        del obs
        return jnp.asarray(jnp.nan)

    def noise_of(self, obs: Float[Array, " D_o"], action: Float[Array, " D_z"]) -> Float[Array, " D_z"]:
        """Returns the standard normal noise that makes this sample, or NaN where a policy has no such form."""
        del obs
        return jnp.full_like(action, jnp.nan)

    def rescore(self, obs: Float[Array, " D_o"], action: Float[Array, " D_z"], extras: PyTree) -> PyTree:
        """Returns the extras with which `log_ratio` of this policy is 0: the same draws, with its own likelihoods.

        `OnPolicy.statistics = 'first'` needs it. Raises ConfigError where a policy does not override it.
        """
        del obs, action, extras
        raise ConfigError(
            f"{type(self).__name__} has no method rescore, which OnPolicy.statistics = 'first' needs."
            " Write one, or bind OnPolicy.statistics = 'after'."
        )

    def observe(self, obs: Float[Array, "N D_o"], weight: Float[Array, " N"]) -> "AbstractPolicy":
        """Returns the policy with its normalizer's statistics updated.

        Never call it between `sample` and `log_ratio`, unless `rescore` follows.
        """
        return update_normalizers(self, obs, weight)


class AbstractGaussianPolicy(AbstractPolicy):
    """A policy whose (latent) action is a diagonal Gaussian, with an entropy and a divergence from N(0, I)."""

    @abc.abstractmethod
    def distribution(self, obs: Float[Array, " D_o"]) -> DiagonalGaussian:
        """Returns the distribution of the action at `obs`."""

    def kl_to_prior(self, obs: Float[Array, " D_o"]) -> Float[Array, ""]:
        return self.distribution(obs).kl_to_standard()

    def noise_of(self, obs: Float[Array, " D_o"], action: Float[Array, " D_z"]) -> Float[Array, " D_z"]:
        return self.distribution(obs).noise_of(action)

    def log_ratio_and_distribution(
        self, obs: Float[Array, " D_o"], action: Float[Array, " D_z"], extras: PyTree, *, key: PRNGKeyArray
    ) -> tuple[Float[Array, " K"], DiagonalGaussian]:
        return self.log_ratio(obs, action, extras, key=key), self.distribution(obs)
