"""Steps of a policy in lanes, and episode metrics, as every algorithm needs them."""

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
    """Takes one sampled action in each of B lanes.

    Returns (lanes, transitions [B], successor states [B] before any reset).
    """
    lanes = devices.shard(env.refresh(lanes))
    before = lanes.env
    keys = jax.random.split(key, env.num_envs)
    action, extras = jax.vmap(lambda o, k: policy.sample(o, key=k))(before.obs, keys)
    lanes, result = env.step(lanes, action)
    lanes, result = devices.shard((lanes, result))
    after = result.after
    transition = Transition(
        before.obs,
        before.critic_obs,
        action,
        extras,
        after.reward,
        after.for_critic,
        after.terminated,
        result.truncated,
        result.valid,
        result.finished,
        result.episode_return,
    )
    return lanes, transition, after


def episode_metrics(rollout: Transition) -> dict[str, Float[Array, ""]]:
    """Returns the mean return and the number of whole episodes that ended in a rollout [T, B], and its invalid steps.

    The mean is NaN if no episode ended.
    """
    finished: Bool[Array, "T B"] = rollout.finished
    count = jnp.sum(finished)
    total = jnp.sum(jnp.where(finished, rollout.episode_return, 0.0))
    return {
        "return": jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan),
        "episodes": count.astype(jnp.float32),
        "invalid_steps": jnp.sum(~rollout.valid).astype(jnp.float32),
    }
