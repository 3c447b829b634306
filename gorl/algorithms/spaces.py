"""The actions that a critic of SAC judges: those of the policy, or those of the environment behind the decoder."""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Array, Float

from gorl.environments.base import AbstractEnvironment
from gorl.environments.wrappers import DecodedEnvironment, bounded
from gorl.state import Spaces

Decode = Callable[[Float[Array, " D_o"], Float[Array, " D_z"]], Float[Array, " D_a"]]


class CriticSpace(NamedTuple):
    """The space of the actions in the replay, which are those of the critic."""

    size: Callable[[Spaces], int]  # of an action
    environment: Callable[[AbstractEnvironment], AbstractEnvironment]  # the one whose actions these are
    decode: Callable[[AbstractEnvironment], Decode]  # observation and the policy's action -> the critic's
    outlives_decoder: bool  # replay and critic hold for another decoder too


def as_it_is(obs: Float[Array, " D_o"], action: Float[Array, " D_z"]) -> Float[Array, " D_z"]:
    """Returns the policy's action."""
    del obs
    return action


def _decode(env: DecodedEnvironment) -> Decode:
    """Returns the frozen decoder as a function whose u is bounded as the environment bounds it."""
    return lambda obs, latent: bounded(env.decoder(obs, latent), env.inner.action_bound)


SPACES: dict[str, CriticSpace] = {
    "latent": CriticSpace(lambda spaces: spaces.action, lambda env: env, lambda env: as_it_is, False),
    "action": CriticSpace(lambda spaces: spaces.decoded, lambda env: env.inner, _decode, True),
}
