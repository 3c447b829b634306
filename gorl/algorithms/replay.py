"""A replay buffer of single transitions: flashbax's item buffer, sampled uniformly.

Only this module imports flashbax, and only when a buffer is used: everything else runs without it.
"""

import functools
import logging
import types
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from gorl.environments.base import AbstractEnvironment
from gorl.errors import ConfigError
from gorl.fields import require
from gorl.runtime import trees
from gorl.state import AbstractObserved, EnvState, PyTree, Transition

LARGE_BUFFER = 2**30  # bytes from which a buffer is reported in the log
_log = logging.getLogger(__name__)


class Experience(AbstractObserved):
    """The part of a transition that an off-policy update needs. Leading axes [N]."""

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


def to_experience(transition: Transition, after: EnvState) -> Experience:
    """Converts transitions and their successor states to replay items.

    Truncation is not stored, because a truncated step bootstraps like any other.
    """
    return Experience(
        transition.obs,
        transition.critic_obs,
        transition.action,
        transition.reward,
        after.obs,
        after.critic_obs,
        transition.terminated,
        transition.valid,
    )


class Replay(eqx.Module):
    """A buffer of the newest `capacity` transitions. Its state is a pytree of arrays, updated in place when donated."""

    capacity: int = eqx.field(static=True)
    min_size: int = eqx.field(static=True)
    batch_size: int = eqx.field(static=True)

    def check(self, where: str, added: int) -> None:
        """Raises ConfigError if the sizes do not fit together, where `added` transitions are added at a time.

        `where` is the class that the message names.
        """
        import_flashbax()
        for name, size in (("batch_size", self.batch_size), ("min_replay", self.min_size), ("num_envs", added)):
            require(
                size <= self.capacity,
                f"{where}.{name} = {size} transitions do not fit in {where}.replay_capacity = {self.capacity}."
                f" Raise the capacity or lower {name}.",
            )
        require(
            self.capacity < 2**31,
            f"{where}.replay_capacity = {self.capacity}: transitions are counted with 32 bits, and so many take at"
            f" least {self.capacity * 22 / 2**30:.0f} GiB of memory for each seed. Lower it.",
        )

    def empty(self, env: AbstractEnvironment) -> PyTree:
        """Returns the state of an empty buffer (zeros on the host) for an environment's observations and actions."""
        shapes = jax.eval_shape(lambda key: _example(env.reset(key), env.action_size), jax.random.key(0))
        state = trees.zeros(jax.eval_shape(self._buffer().init, shapes))
        _warn_if_large(self.capacity, sum(x.nbytes for x in jax.tree.leaves(state)))
        return state

    def add(self, state: PyTree, rows: Experience) -> PyTree:
        """Adds [B] transitions, which replace the oldest ones if the buffer is full."""
        return self._buffer().add(state, rows)

    def sample(self, state: PyTree, batches: int, *, key: PRNGKeyArray) -> Experience:
        """Draws [batches, batch_size] transitions uniformly, with replacement, from the stored ones."""
        with jax.numpy_rank_promotion("allow"):  # flashbax broadcasts
            return jax.vmap(lambda k: self._buffer().sample(state, k).experience)(jax.random.split(key, batches))

    def size(self, state: PyTree) -> Int[Array, ""]:
        """Returns the number of stored transitions."""
        return jnp.where(state.is_full, self.capacity, state.current_index)

    def ready(self, state: PyTree) -> Bool[Array, ""]:
        """Whether at least `min_size` transitions are stored."""
        return self._buffer().can_sample(state)

    def _buffer(self) -> Any:
        return import_flashbax().make_item_buffer(self.capacity, self.min_size, self.batch_size, add_batches=True)


def import_flashbax() -> types.ModuleType:
    """Returns the module flashbax. Raises ConfigError if it cannot be imported."""
    try:
        import flashbax
    except ImportError as err:
        raise ConfigError(
            f"a replay buffer needs the package flashbax, which cannot be imported here ({err})."
            " Install it: pip install flashbax."
        ) from err
    return flashbax


def _example(state: EnvState, action_size: int) -> Experience:
    """Returns a transition of the right shapes."""
    obs, critic_obs, action = state.obs, state.critic_obs, jnp.zeros((action_size,))
    flag = jnp.zeros((), bool)
    return Experience(obs, critic_obs, action, jnp.zeros(()), obs, critic_obs, flag, flag)


@functools.cache
def _warn_if_large(capacity: int, size: int) -> None:
    if size >= LARGE_BUFFER:
        _log.warning(
            "the replay buffer of %s transitions takes %.1f GiB of memory for each seed, and as much in every"
            " checkpoint; replay_capacity sets it.",
            f"{capacity:,}",
            size / 2**30,
        )
