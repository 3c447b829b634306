"""A policy and its decoder, together: what acts in an environment."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.decoders.base import AbstractDecoder
from gorl.fields import Scalar
from gorl.policies.base import AbstractPolicy


class Agent(eqx.Module):
    """observation -> latent (policy) -> pre-squash action u (decoder) -> tanh. Unbatched.

    The latent is sampled, or the policy's mode where `deterministic`.
    """

    policy: AbstractPolicy
    decoder: AbstractDecoder
    action_bound: Scalar
    deterministic: bool = eqx.field(static=True)

    def control(self, obs: Float[Array, " D_o"], *, key: PRNGKeyArray) -> Float[Array, " D_a"]:
        """The pre-squash action u, clipped to [-action_bound, action_bound]."""
        if self.deterministic:
            latent = self.policy.mode(obs, key=key)
        else:
            latent, _ = self.policy.sample(obs, key=key)
        return bounded(self.decoder(obs, latent), self.action_bound)

    def act(self, obs: Float[Array, " D_o"], *, key: PRNGKeyArray) -> Float[Array, " D_a"]:
        """The action in (-1, 1)."""
        return jnp.tanh(self.control(obs, key=key))


def bounded(u: Float[Array, "*batch D_a"], bound: Any) -> Float[Array, "*batch D_a"]:
    """Clips a pre-squash action: a saturated policy makes |u| huge, and tanh cannot tell."""
    return jnp.clip(u, -bound, bound)
