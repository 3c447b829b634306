"""Embeddings of flow and diffusion times."""

import equinox as eqx
import gin
import jax.numpy as jnp
from jaxtyping import Array, Float

from gorl.fields import require, structural


@gin.register(module="gorl")
class FourierTime(eqx.Module):
    """A Fourier embedding of time, t -> [cos(2^k t), sin(2^k t)] for k = 0 .. frequencies - 1.

    Source: GoRL, arXiv 2512.02581, which has 8 numbers and no factor pi.
    """

    frequencies: int = structural()

    def __check_init__(self):
        # From 2^128 on a frequency is infinite in float32, and its cosine NaN.
        require(
            1 <= self.frequencies <= 128,
            f"FourierTime.frequencies = {self.frequencies}: it must be >= 1 and at most 128.",
        )

    @property
    def size(self) -> int:
        """Length of the embedding."""
        return 2 * self.frequencies

    def __call__(self, t: Float[Array, ""]) -> Float[Array, " size"]:
        angles = t * 2.0 ** jnp.arange(self.frequencies, dtype=jnp.float32)
        return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)])
