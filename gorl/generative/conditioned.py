"""Networks that take an observation, a noisy action and times."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from gorl.networks import AbstractNormalizer, FourierTime


class AbstractConditioned(eqx.Module):
    """A mix-in for modules whose network `body` takes [normalized observation, x, embedding of each time].

    Unbatched.
    """

    body: eqx.AbstractVar[eqx.Module]
    normalizer: eqx.AbstractVar[AbstractNormalizer]
    time_embedding: eqx.AbstractVar[FourierTime]

    def network(
        self, obs: Float[Array, " D_o"], x: Float[Array, " D_a"], *times: Float[Array, ""]
    ) -> Float[Array, " D_a"]:
        """Returns the network's output at `x`, conditioned on the observation and the times."""
        return self.body(jnp.concatenate([self.normalizer(obs), x, *(self.time_embedding(t) for t in times)]))
