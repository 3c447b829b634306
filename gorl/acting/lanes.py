"""Many environments at once that reset themselves, and whole episodes.

A reset under vmap runs for every lane at every step, and a reset can cost hundreds of physics steps. So fresh initial
states are made a pool at a time and each is used once; the simulator's state is touched only at steps where a lane needs
one. `while_loop` rather than `cond`: under a second vmap (seeds) a cond runs both branches at every step.
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
    """What happened at one step, by lane: before any reset."""

    after: EnvState  # reward, observation and termination
    truncated: Bool[Array, " B"]
    valid: Bool[Array, " B"]
    finished: Bool[Array, " B"]  # a whole episode ended (a staggered first one is not whole)
    episode_return: Float[Array, " B"]


class LaneEnvironment(eqx.Module):
    """`num_envs` copies of an environment with a time limit, resetting themselves.

    Without fresh resets each lane goes back to the one state it began in, for the whole run: a published defect, for
    ablations (training then sees as many initial states as there are lanes).
    """

    env: AbstractEnvironment
    num_envs: int = eqx.field(static=True)
    episodes: EpisodeRules

    def start(self, key: PRNGKeyArray) -> Lanes:
        """Lanes that all wait for their first reset: no environment code runs here."""
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
        """Gives every lane that needs one a fresh initial state."""
        return jax.lax.while_loop(lambda s: jnp.any(s.needs_reset), lambda s: self._draw(s), lanes)

    def _draw(self, lanes: Lanes) -> Lanes:
        lanes = jax.lax.while_loop(lambda s: s.pool_used >= self.num_envs, lambda s: self._fill(s), lanes)
        if self.episodes.fresh_resets:
            rank = lanes.pool_used + jnp.cumsum(lanes.needs_reset.astype(jnp.int32)) - 1
        else:
            rank = jnp.arange(self.num_envs, dtype=jnp.int32)  # its own state, of the first pool
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
        """One step of every lane. Lanes whose episode ended are marked; `refresh` resets them before the next step."""
        after = trees.strip_weak_types(jax.vmap(lambda s, a: self.env.step(s, a))(lanes.env, action))
        # An initial state may have been the one that was not finite, or the action, of which not every environment would show.
        valid = ~(after.invalid | lanes.env.invalid) & jnp.all(jnp.isfinite(action), axis=-1)
        sound = (after.terminated & valid, jnp.where(valid, after.reward, 0.0), ~valid)
        after = eqx.tree_at(lambda s: (s.terminated, s.reward, s.invalid), after, sound)
        clock = lanes.clock + 1
        truncated = (clock >= self.episodes.length) & ~after.terminated & valid
        ended = after.terminated | truncated
        total = lanes.episode_return + after.reward
        result = StepResult(after, truncated, valid, ended & ~lanes.partial, total)
        fields = lambda s: (s.env, s.needs_reset, s.clock, s.episode_return)  # noqa: E731
        return eqx.tree_at(fields, lanes, (after, ended | ~valid, clock, total)), result
