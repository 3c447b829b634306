"""The interface of a decoder."""

import abc

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.networks import observed


class AbstractDecoder(eqx.Module):
    """A conditional generative model of actions, deterministic once the latent is given. Unbatched.

    A decoder is constructed as `Decoder(obs_size, action_size, key=key)` with everything else bound.
    """

    @property
    @abc.abstractmethod
    def latent_size(self) -> int:
        """D_z."""

    @property
    def network_calls(self) -> int:
        """How often one action evaluates the network: once, unless the class says otherwise."""
        return 1

    @abc.abstractmethod
    def __call__(self, obs: Float[Array, " D_o"], latent: Float[Array, " D_z"]) -> Float[Array, " D_a"]:
        """The pre-squash action u."""

    @abc.abstractmethod
    def loss(
        self,
        obs: Float[Array, " D_o"],
        action: Float[Array, " D_a"],
        latent: Float[Array, " D_z"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        """The regression loss for one sample (obs, u) and one latent drawn for it, whose gradient a fit descends."""

    def validation_loss(
        self,
        obs: Float[Array, " D_o"],
        action: Float[Array, " D_a"],
        latent: Float[Array, " D_z"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        """What weights are chosen by: the loss, unless the class says otherwise because the loss rises while the network learns."""
        return self.loss(obs, action, latent, key=key)

    def observe(self, obs: Float[Array, "N D_o"], weight: Float[Array, " N"]) -> "AbstractDecoder":
        """Returns the same decoder with its normalizers' statistics taken from these observations."""
        return observed(self, obs, weight)
