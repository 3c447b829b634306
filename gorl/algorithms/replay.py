"""A replay buffer of single transitions: flashbax's item buffer, sampled uniformly.

flashbax is imported here alone and only where a buffer is used: on a machine without it everything else runs.
"""

import functools
import logging
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from gorl.environments.base import AbstractEnvironment
from gorl.errors import ConfigError
from gorl.fields import require
from gorl.runtime import trees
from gorl.state import AbstractObserved, EnvState, Transition

MENTIONED = 2**30  # bytes: a buffer from here on is worth a word
_log = logging.getLogger(__name__)


class Experience(AbstractObserved):
    """What an off-policy update needs of one step. Leading axes [N]."""

    obs: Float[Array, "*batch D_o"]
    critic_obs: Float[Array, "*batch D_c"] | None  # None: the critic sees `obs`
    action: Float[Array, "*batch D_z"]
    reward: Float[Array, "*batch"]
    next_obs: Float[Array, "*batch D_o"]  # before any reset
    next_critic_obs: Float[Array, "*batch D_c"] | None
    terminated: Bool[Array, "*batch"]
    valid: Bool[Array, "*batch"]

    @property
    def next_for_critic(self) -> Float[Array, "*batch D"]:
        return self.next_obs if self.next_critic_obs is None else self.next_critic_obs


def experience(move: Transition, after: EnvState) -> Experience:
    """Of transitions and the states that they led to. A truncated one bootstraps like any other, so that is not kept."""
    return Experience(
        move.obs, move.critic_obs, move.action, move.reward, after.obs, after.critic_obs, move.terminated, move.valid
    )  # fmt: skip


class Replay(eqx.Module):
    """The newest `capacity` transitions. Its state is a pytree of arrays; adding writes into a donated one in place."""

    capacity: int = eqx.field(static=True)
    min_size: int = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)

    def check(self, where: str, added: int) -> None:
        """Raises ConfigError for sizes that do not fit together, where `added` transitions arrive at once."""
        flashbax()
        for name, size in (("batch_size", self.batch_size), ("min_replay", self.min_size), ("num_envs", added)):
            require(
                size <= self.capacity,
                f"{where}.{name} = {size} transitions do not fit in {where}.replay_capacity = {self.capacity}. Raise the capacity or lower {name}.",
            )
        require(
            self.capacity < 2**31,
            f"{where}.replay_capacity = {self.capacity}: transitions are counted with 32 bits, and so many take at least"
            f" {self.capacity * 22 / 2**30:.0f} GiB of memory for each seed. Lower it.",
        )

    def empty(self, env: AbstractEnvironment) -> Any:
        """A buffer without any transition (zeros on the host), of the sizes that the environment shows and takes."""
        shapes = jax.eval_shape(lambda key: _one(env.reset(key), env.action_size), jax.random.key(0))
        state = trees.zeros(jax.eval_shape(self._buffer().init, shapes))
        _mention(self.capacity, sum(x.nbytes for x in jax.tree.leaves(state)))
        return state

    def add(self, state: Any, rows: Experience) -> Any:
        """[B] transitions, in the place of the oldest ones where the buffer is full."""
        return self._buffer().add(state, rows)

    def sample(self, state: Any, batches: int, *, key: PRNGKeyArray) -> Experience:
        """[batches, batch_size] transitions, each drawn uniformly from those that are there."""
        with jax.numpy_rank_promotion("allow"):  # flashbax broadcasts
            return jax.vmap(lambda k: self._buffer().sample(state, k).experience)(jax.random.split(key, batches))

    def size(self, state: Any) -> Int[Array, ""]:
        return jnp.where(state.is_full, self.capacity, state.current_index)

    def ready(self, state: Any) -> Bool[Array, ""]:
        """Whether `min_size` transitions are there."""
        return self._buffer().can_sample(state)

    def _buffer(self) -> Any:
        return flashbax().make_item_buffer(self.capacity, self.min_size, self.batch_size, add_batches=True)


def flashbax() -> Any:
    try:
        import flashbax
    except ImportError as err:
        raise ConfigError(
            f"a replay buffer needs the package flashbax, which cannot be imported here ({err}). Install it: pip install flashbax."
        ) from err
    return flashbax


def _one(state: EnvState, action_size: int) -> Experience:
    """A transition of the right shapes."""
    no = jnp.zeros((), bool)
    zero = jnp.zeros(())
    return Experience(state.obs, state.critic_obs, jnp.zeros((action_size,)), zero, state.obs, state.critic_obs, no, no)


@functools.cache
def _mention(capacity: int, size: int) -> None:
    if size >= MENTIONED:
        _log.warning(
            "the replay buffer of %s transitions takes %.1f GiB of memory for each seed, and as much in every checkpoint; replay_capacity sets it.",
            f"{capacity:,}", size / 2**30,
        )  # fmt: skip
