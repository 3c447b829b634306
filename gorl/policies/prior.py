"""The prior of GoRL's decoders as a policy."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.policies.base import AbstractActor


class PriorPolicy(AbstractActor):
    """The prior N(0, I) of latents, whatever the observation. It acts, and cannot be trained. Unbatched."""

    size: int = eqx.field(static=True)

    def sample(self, obs: Float[Array, " D_o"], *, key: PRNGKeyArray) -> tuple[Float[Array, " D_z"], None]:
        """Returns a latent from the prior, and no extras."""
        del obs
        return jax.random.normal(key, (self.size,)), None

    def mode(self, obs: Float[Array, " D_o"], *, key: PRNGKeyArray) -> Float[Array, " D_z"]:
        """Returns the prior's mode, 0."""
        del obs, key
        return jnp.zeros((self.size,))
