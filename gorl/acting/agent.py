"""An agent: a policy and its decoder, which together act in an environment."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.decoders.base import AbstractDecoder
from gorl.environments.wrappers import bounded
from gorl.errors import did_you_mean
from gorl.fields import Scalar, require
from gorl.policies.base import AbstractActor

RULES: dict[str, Callable] = {
    "mode": lambda policy, obs, key: policy.mode(obs, key=key),
    "zero_noise": lambda policy, obs, key: policy.zero_noise(obs, key=key),
    "stochastic": lambda policy, obs, key: policy.sample(obs, key=key)[0],
}
"""The rules by which a policy may act. A name means the same for every method."""


def check_rule(rule: str, where: str) -> None:
    """Raises ConfigError, naming the binding `where`, for a rule that does not exist."""
    require(
        rule in RULES, f"{where} = {rule!r}: it is one of {', '.join(map(repr, RULES))}.{did_you_mean(rule, RULES)}"
    )


class Agent(eqx.Module):
    """A policy and its decoder: observation -> latent (policy, by `rule`) -> u (decoder) -> tanh(u). Unbatched."""

    policy: AbstractActor
    decoder: AbstractDecoder
    action_bound: Scalar
    rule: str = eqx.field(static=True)

    def latent(self, obs: Float[Array, " D_o"], *, key: PRNGKeyArray) -> Float[Array, " D_z"]:
        """Returns the policy's latent."""
        return RULES[self.rule](self.policy, obs, key)

    def decode(self, obs: Float[Array, " D_o"], latent: Float[Array, " D_z"]) -> Float[Array, " D_a"]:
        """Returns the pre-squash action u of a latent, clipped to [-action_bound, action_bound]."""
        return bounded(self.decoder(obs, latent), self.action_bound)

    def control(self, obs: Float[Array, " D_o"], *, key: PRNGKeyArray) -> Float[Array, " D_a"]:
        """Returns the pre-squash action u, clipped to [-action_bound, action_bound]."""
        return self.decode(obs, self.latent(obs, key=key))

    def act(self, obs: Float[Array, " D_o"], *, key: PRNGKeyArray) -> Float[Array, " D_a"]:
        """Returns the action tanh(u), in (-1, 1)."""
        return jnp.tanh(self.control(obs, key=key))
