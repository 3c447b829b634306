"""Whole episodes from fresh resets."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from gorl.acting.agent import Agent
from gorl.environments.base import AbstractEnvironment
from gorl.runtime import devices, trees
from gorl.state import Episodes


def run_episodes(
    env: AbstractEnvironment,
    agent: Agent,
    key: PRNGKeyArray,
    *,
    num_envs: int,
    length: int,
    value: Callable | None,
    store_noise: bool = False,
) -> tuple[Float[Array, " E"], Int[Array, " E"], Bool[Array, " E"], Episodes | None]:
    """Runs one whole episode in each of `num_envs` environments, from fresh resets.

    `env` takes pre-squash actions (a SquashedEnvironment). Steps after an episode's end are ignored; an episode whose
    physics diverges ends there. `value`, a function (critic's observation, observation) -> V, is recorded at every
    step, and with `store_noise` so is the noise that made the policy's sample.

    Returns (returns [E], lengths [E], diverged [E], episodes), where `episodes` is None without a `value`.
    """
    reset_key, act_key = jax.random.split(key)
    state = devices.shard(
        trees.strip_weak_types(jax.vmap(lambda k: env.reset(k))(jax.random.split(reset_key, num_envs)))
    )
    alive = ~state.invalid
    zero = jnp.zeros((num_envs,), jnp.float32)

    def step(carry: tuple, key: PRNGKeyArray) -> tuple[tuple, tuple | None]:
        state, alive, total, steps, diverged = carry
        latent = jax.vmap(lambda o, k: agent.latent(o, key=k))(state.obs, jax.random.split(key, num_envs))
        u = jax.vmap(agent.decode)(state.obs, latent)
        after = devices.shard(trees.strip_weak_types(jax.vmap(lambda s, a: env.step(s, a))(state, u)))
        counts = alive & ~after.invalid
        reward = jnp.where(counts, after.reward, 0.0)
        row = None
        if value is not None:
            noise = jax.vmap(agent.policy.noise_of)(state.obs, latent) if store_noise else None
            row = (state.obs, u, reward, jax.vmap(value)(state.for_critic, state.obs), counts, noise)
        carry = (after, counts & ~after.terminated, total + reward, steps + counts, diverged | (alive & after.invalid))
        return carry, row

    first = (state, alive, zero, zero.astype(jnp.int32), ~alive)
    (_, _, total, steps, diverged), rows = jax.lax.scan(step, first, jax.random.split(act_key, length))
    episodes = None if value is None else Episodes(*jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), rows))
    return total, steps, diverged, episodes
