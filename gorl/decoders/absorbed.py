"""A decoder that has absorbed the encoder in front of it."""

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.decoders.base import AbstractDecoder
from gorl.policies.base import AbstractGaussianPolicy


class AbsorbedDecoder(AbstractDecoder):
    """A decoder and the encoder in front of it as one decoder: u = decoder(s, mean(s) + std(s) latent).

    With latents from the prior N(0, I) it acts exactly as the encoder did with the decoder, so a swap to it costs
    nothing. Nothing in it is fitted, and it grows with every swap: an action evaluates the networks of all stages.
    """

    decoder: AbstractDecoder
    encoder: AbstractGaussianPolicy

    @property
    def latent_size(self) -> int:
        return self.decoder.latent_size

    @property
    def network_calls(self) -> int:
        return self.decoder.network_calls + 1

    def __call__(self, obs: Float[Array, " D_o"], latent: Float[Array, " D_z"]) -> Float[Array, " D_a"]:
        return self.decoder(obs, self.encoder.distribution(obs).at(latent))

    def loss(
        self,
        obs: Float[Array, " D_o"],
        action: Float[Array, " D_a"],
        latent: Float[Array, " D_z"],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        """Returns 0, because there is nothing to fit."""
        del obs, action, latent, key
        return jnp.zeros(())

    def observe(self, obs: Float[Array, "N D_o"], weight: Float[Array, " N"]) -> "AbsorbedDecoder":
        """Returns the decoder as it is: other statistics would make it another function."""
        del obs, weight
        return self
