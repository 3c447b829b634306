"""The interface of a decoder."""

import abc
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.fields import require
from gorl.networks import update_normalizers


class AbstractDecoder(eqx.Module):
    """A conditional generative model of actions, deterministic given the latent. Unbatched.

    A decoder is constructed as `Decoder(obs_size, action_size, key=key)` with everything else bound.
    """

    @property
    @abc.abstractmethod
    def latent_size(self) -> int:
        """Size of the latent, D_z."""

    @property
    def network_calls(self) -> int:
        """Number of times one action evaluates the network. Override it if that is not once."""
        return 1

    @abc.abstractmethod
    def __call__(self, obs: Float[Array, " D_o"], latent: Float[Array, " D_z"]) -> Float[Array, " D_a"]:
        """Returns the pre-squash action u."""

    @abc.abstractmethod
    def loss(
        self,
        obs: Float[Array, " D_o"],
        action: Float[Array, " D_a"],
        latent: Float[Array, " D_z"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        """Returns the regression loss of one sample (obs, u) and one latent drawn for it, which a fit minimizes."""

    def validation_loss(
        self,
        obs: Float[Array, " D_o"],
        action: Float[Array, " D_a"],
        latent: Float[Array, " D_z"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        """Returns the loss by which weights are selected.

        Override it if `loss` rises while the network learns.
        """
        return self.loss(obs, action, latent, key=key)

    def observe(self, obs: Float[Array, "N D_o"], weight: Float[Array, " N"]) -> "AbstractDecoder":
        """Returns the decoder with its normalizers' statistics updated by these observations."""
        return update_normalizers(self, obs, weight)


def require_decoder(module: Any, where: str) -> AbstractDecoder:
    """Returns the module. Raises ConfigError, with `where` it was bound, if it is no decoder."""
    require(isinstance(module, AbstractDecoder), f"{where} builds {type(module).__name__}, which is not a decoder.")
    return module
