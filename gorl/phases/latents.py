"""Sources of the latents that a decoder is fitted with."""

import abc

import equinox as eqx
import gin
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.state import PyTree


class AbstractLatents(eqx.Module):
    """A source of the latents that a decoder is fitted with."""

    @abc.abstractmethod
    def sample(
        self, policy: PyTree, obs: Float[Array, " D_o"], size: int, *, key: PRNGKeyArray
    ) -> Float[Array, " D_z"]:
        """Samples a latent of `size` numbers for an observation. Unbatched."""


@gin.register(module="gorl")
class PriorLatents(AbstractLatents):
    """Latents from the fixed prior N(0, I), independent of the encoder (GoRL)."""

    def sample(
        self, policy: PyTree, obs: Float[Array, " D_o"], size: int, *, key: PRNGKeyArray
    ) -> Float[Array, " D_z"]:
        del policy, obs
        return jax.random.normal(key, (size,))


@gin.register(module="gorl")
class EncoderLatents(AbstractLatents):
    """The encoder's latents, sampled at the same observation (an ablation). The decoder then depends on the encoder."""

    def sample(
        self, policy: PyTree, obs: Float[Array, " D_o"], size: int, *, key: PRNGKeyArray
    ) -> Float[Array, " D_z"]:
        return policy.sample(obs, key=key)[0].reshape(size)
