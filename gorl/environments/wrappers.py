"""Environments that wrap others, so that the action is a pre-squash action or a latent."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.decoders.base import AbstractDecoder
from gorl.environments.base import AbstractEnvironment, cache_by_settings, sanitize
from gorl.fields import Scalar
from gorl.state import EnvState


@cache_by_settings
def _jitted(env: AbstractEnvironment) -> tuple[Callable, Callable]:
    """Returns an environment's reset and step, jitted.

    Physics is slow to trace; this way all programs that contain it share one trace.
    """
    return jax.jit(lambda key: env.reset(key)), jax.jit(lambda state, action: env.step(state, action))


class SquashedEnvironment(AbstractEnvironment):
    """An environment whose action u is unbounded: u is clipped to [-action_bound, action_bound], then squashed by tanh.

    Every state passes `sanitize`, so numbers that are not finite are caught even if the wrapped environment does not
    check for them.
    """

    inner: AbstractEnvironment
    action_bound: Scalar

    @property
    def action_size(self) -> int:
        return self.inner.action_size

    def reset(self, key: PRNGKeyArray) -> EnvState:
        return sanitize(_jitted(self.inner)[0](key))

    def step(self, state: EnvState, action: Float[Array, " D_a"]) -> EnvState:
        return sanitize(_jitted(self.inner)[1](state, jnp.tanh(bounded(action, self.action_bound))))

    def describe(self) -> dict[str, Any]:
        return self.inner.describe()


class DecodedEnvironment(AbstractEnvironment):
    """An environment whose action is a latent, which a frozen decoder turns into u for the wrapped environment.

    An algorithm that trains GoRL's encoder needs no knowledge of decoders: to it, the latent is the action.
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


def bounded(u: Float[Array, "*batch D_a"], bound: Scalar) -> Float[Array, "*batch D_a"]:
    """Clips a pre-squash action to [-bound, bound]: a saturated policy makes |u| huge without changing tanh(u)."""
    return jnp.clip(u, -bound, bound)
