"""Environments around environments: where a pre-squash action, or a latent, is the action."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.decoders.base import AbstractDecoder
from gorl.environments.base import AbstractEnvironment, by_settings, guarded
from gorl.fields import Scalar
from gorl.state import EnvState


@by_settings
def _traced_once(env: AbstractEnvironment) -> tuple[Callable, Callable]:
    """A task's reset and step, jitted: physics is slow to trace, and every program that contains it shares one trace."""
    return jax.jit(lambda key: env.reset(key)), jax.jit(lambda state, action: env.step(state, action))


class SquashedEnvironment(AbstractEnvironment):
    """Its action is u, of any size: clipped to [-action_bound, action_bound], then tanh. Numbers of the environment inside that
    are not finite go no further, whether or not it looked for them itself (see `guarded`)."""

    inner: AbstractEnvironment
    action_bound: Scalar

    @property
    def action_size(self) -> int:
        return self.inner.action_size

    def reset(self, key: PRNGKeyArray) -> EnvState:
        return guarded(_traced_once(self.inner)[0](key))

    def step(self, state: EnvState, action: Float[Array, " D_a"]) -> EnvState:
        return guarded(_traced_once(self.inner)[1](state, jnp.tanh(bounded(action, self.action_bound))))

    def describe(self) -> dict[str, Any]:
        return self.inner.describe()


class DecodedEnvironment(AbstractEnvironment):
    """Its action is a latent: the frozen decoder turns it into u for the environment inside.

    This is how an algorithm trains GoRL's encoder without knowing of decoders: the latent is the action.
    """

    inner: AbstractEnvironment
    decoder: AbstractDecoder

    @property
    def action_size(self) -> int:
        return self.decoder.latent_size

    def reset(self, key: PRNGKeyArray) -> EnvState:
        return self.inner.reset(key)

    def step(self, state: EnvState, action: Float[Array, " D_z"]) -> EnvState:
        return self.inner.step(state, self.decoder(state.obs, action))

    def describe(self) -> dict[str, Any]:
        return self.inner.describe()


def bounded(u: Float[Array, "*batch D_a"], bound: Any) -> Float[Array, "*batch D_a"]:
    """Clips a pre-squash action: a saturated policy makes |u| huge, and tanh cannot tell."""
    return jnp.clip(u, -bound, bound)
