"""The identity decoder, whose action is the latent: GoRL's stage 0, and every baseline."""

import equinox as eqx
import gin
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.decoders.base import AbstractDecoder


@gin.register(module="gorl", denylist=["obs_size", "action_size", "key"])
class IdentityDecoder(AbstractDecoder):
    """The identity decoder, u = latent."""

    action_size: int = eqx.field(static=True)

    def __init__(self, obs_size: int, action_size: int, *, key: PRNGKeyArray):
        del obs_size, key
        self.action_size = action_size

    @property
    def latent_size(self) -> int:
        return self.action_size

    @property
    def network_calls(self) -> int:
        return 0

    def __call__(self, obs: Float[Array, " D_o"], latent: Float[Array, " D_z"]) -> Float[Array, " D_a"]:
        del obs
        return latent

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
