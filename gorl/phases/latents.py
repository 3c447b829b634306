"""Where the latents come from that a decoder is fitted with."""

import abc
from typing import Any

import equinox as eqx
import gin
import jax
from jaxtyping import Array, Float, PRNGKeyArray


class AbstractLatents(eqx.Module):
    """Where the latents come from that a decoder is fitted with."""

    @abc.abstractmethod
    def sample(
        self, policy: Any, obs: Float[Array, " D_o"], size: int, *, key: PRNGKeyArray
    ) -> Float[Array, " D_z"]: ...


@gin.register(module="gorl")
class PriorLatents(AbstractLatents):
    """The fixed prior N(0, I), whatever the encoder does (GoRL)."""

    def sample(self, policy: Any, obs: Float[Array, " D_o"], size: int, *, key: PRNGKeyArray) -> Float[Array, " D_z"]:
        del policy, obs
        return jax.random.normal(key, (size,))


@gin.register(module="gorl")
class EncoderLatents(AbstractLatents):
    """The encoder's latents, as it samples them at the same observation: a control. What the decoder learns then depends on
    where the encoder happens to be."""

    def sample(self, policy: Any, obs: Float[Array, " D_o"], size: int, *, key: PRNGKeyArray) -> Float[Array, " D_z"]:
        return policy.sample(obs, key=key)[0].reshape(size)
