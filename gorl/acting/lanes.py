"""Batches of environments that reset themselves.

A reset under vmap runs for every lane at every step, and a reset can cost hundreds of physics steps. So fresh initial
states are computed a pool at a time, each is used once, and simulator states are replaced only at steps where a lane
needs a reset. A `while_loop` replaces `cond`, which under a second vmap (over seeds) would run both branches at every
step.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from gorl.environments.base import AbstractEnvironment
from gorl.environments.task import EpisodeRules
from gorl.runtime import trees
from gorl.state import EnvState, Lanes


class StepResult(eqx.Module):
    """The result of one step of every lane, before any reset."""

    after: EnvState  # with the step's reward, observation and termination
    truncated: Bool[Array, " B"]
    valid: Bool[Array, " B"]
    finished: Bool[Array, " B"]  # a whole episode ended (a staggered first one is not whole)
    episode_return: Float[Array, " B"]


class LaneEnvironment(eqx.Module):
    """A batch of `num_envs` copies of an environment with a time limit, which reset themselves.

    Without fresh resets each lane returns to its first initial state for the whole run. This is a published defect,
    kept for ablations: training then sees only as many initial states as there are lanes.
    """

    env: AbstractEnvironment
    num_envs: int = eqx.field(static=True)
    episodes: EpisodeRules

    def start(self, key: PRNGKeyArray) -> Lanes:
        """Returns lanes that all need their first reset. No environment code runs here."""
        size = self.num_envs
        shapes = jax.eval_shape(
            lambda k: jax.vmap(lambda k: self.env.reset(k))(jax.random.split(k, size)), jax.random.key(0)
        )
        return Lanes(
            env=trees.zeros(shapes),
            needs_reset=np.ones((size,), bool),
            clock=np.zeros((size,), np.int32),
            start_clock=(np.arange(size) * self.episodes.length // size * self.episodes.staggered).astype(np.int32),
            partial=np.zeros((size,), bool),
            episode_return=np.zeros((size,), np.float32),
            pool=trees.zeros(shapes),
            pool_used=np.asarray(size, np.int32),
            key=key,
        )

    def refresh(self, lanes: Lanes) -> Lanes:
        """Resets every lane that needs it to a fresh initial state."""
        return jax.lax.while_loop(lambda s: jnp.any(s.needs_reset), lambda s: self._draw(s), lanes)

    def _draw(self, lanes: Lanes) -> Lanes:
        lanes = jax.lax.while_loop(lambda s: s.pool_used >= self.num_envs, lambda s: self._fill(s), lanes)
        if self.episodes.fresh_resets:
            rank = lanes.pool_used + jnp.cumsum(lanes.needs_reset.astype(jnp.int32)) - 1
        else:
            rank = jnp.arange(self.num_envs, dtype=jnp.int32)  # the lane's own state in the first pool
        take = lanes.needs_reset & (rank < self.num_envs)
        drawn = trees.take_rows(lanes.pool, jnp.clip(rank, 0, self.num_envs - 1), self.num_envs)
        return Lanes(
            env=trees.where_rows(take, drawn, lanes.env),
            needs_reset=lanes.needs_reset & ~take,
            clock=jnp.where(take, lanes.start_clock, lanes.clock),
            start_clock=jnp.where(take, 0, lanes.start_clock),
            partial=jnp.where(take, lanes.start_clock > 0, lanes.partial),
            episode_return=jnp.where(take, 0.0, lanes.episode_return),
            pool=lanes.pool,
            pool_used=lanes.pool_used + jnp.sum(take, dtype=jnp.int32) * self.episodes.fresh_resets,
            key=lanes.key,
        )

    def _fill(self, lanes: Lanes) -> Lanes:
        key, draw = jax.random.split(lanes.key)
        pool = trees.strip_weak_types(jax.vmap(lambda k: self.env.reset(k))(jax.random.split(draw, self.num_envs)))
        return eqx.tree_at(lambda s: (s.pool, s.pool_used, s.key), lanes, (pool, jnp.zeros((), jnp.int32), key))

    def step(self, lanes: Lanes, action: Float[Array, "B D"]) -> tuple[Lanes, StepResult]:
        """Steps every lane. Lanes whose episode ended are marked, and `refresh` resets them before the next step."""
        after = trees.strip_weak_types(jax.vmap(lambda s, a: self.env.step(s, a))(lanes.env, action))
        # The initial state may already have been invalid. An environment may hide that an action was not finite.
        valid = ~(after.invalid | lanes.env.invalid) & jnp.all(jnp.isfinite(action), axis=-1)
        masked = (after.terminated & valid, jnp.where(valid, after.reward, 0.0), ~valid)
        after = eqx.tree_at(lambda s: (s.terminated, s.reward, s.invalid), after, masked)
        clock = lanes.clock + 1
        truncated = (clock >= self.episodes.length) & ~after.terminated & valid
        ended = after.terminated | truncated
        total = lanes.episode_return + after.reward
        result = StepResult(after, truncated, valid, ended & ~lanes.partial, total)
        fields = lambda s: (s.env, s.needs_reset, s.clock, s.episode_return)
        return eqx.tree_at(fields, lanes, (after, ended | ~valid, clock, total)), result
