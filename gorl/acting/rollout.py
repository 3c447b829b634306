"""What every algorithm does with its lanes: steps of the policy, and how the episodes went."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from gorl.acting.lanes import LaneEnvironment
from gorl.policies.base import AbstractPolicy
from gorl.runtime import devices
from gorl.state import EnvState, Lanes, Transition


def act(
    env: LaneEnvironment, policy: AbstractPolicy, lanes: Lanes, key: PRNGKeyArray
) -> tuple[Lanes, Transition, EnvState]:
    """One sampled action in each of B lanes: (lanes, [B] transitions, the [B] states they led to, before any reset)."""
    lanes = devices.shard(env.refresh(lanes))
    before = lanes.env
    keys = jax.random.split(key, env.num_envs)
    action, extras = jax.vmap(lambda o, k: policy.sample(o, key=k))(before.obs, keys)
    lanes, result = env.step(lanes, action)
    lanes, result = devices.shard((lanes, result))
    after = result.after
    transition = Transition(
        before.obs, before.critic_obs, action, extras, after.reward, after.for_critic,
        after.terminated, result.truncated, result.valid, result.finished, result.episode_return,
    )  # fmt: skip
    return lanes, transition, after


def episode_metrics(rollout: Transition) -> dict[str, Float[Array, ""]]:
    """The mean return of the whole episodes that ended in this [T, B] rollout (NaN if none did), and what went wrong."""
    finished: Bool[Array, "T B"] = rollout.finished
    count = jnp.sum(finished)
    total = jnp.sum(jnp.where(finished, rollout.episode_return, 0.0))
    return {
        "return": jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan),
        "episodes": count.astype(jnp.float32),
        "invalid_steps": jnp.sum(~rollout.valid).astype(jnp.float32),
    }
