"""Collect whole episodes with the current policy and decoder."""

from typing import Any

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gorl.acting.agent import Agent, check_rule
from gorl.acting.episodes import run_episodes
from gorl.environments.task import Task
from gorl.fields import LARGEST_SIZE, budget, require, structural
from gorl.phases.base import AbstractPhase, PhaseContext, PhaseInputs, Unit
from gorl.runtime import devices, trees
from gorl.runtime.programs import program
from gorl.state import Dataset, Episodes, RunState


class CollectState(eqx.Module):
    run: RunState
    buffer: Episodes


@gin.register(module="gorl")
class CollectRollouts(AbstractPhase):
    """`env_steps` of episodes of `episode_length` steps (rounded up), `num_envs` at a time, each from its own fresh reset.

    The policy acts by `rule` ('stochastic': its latents are sampled). What is kept is (s, u): the observation and the
    pre-squash action, clipped to the task's action bound, with the rewards and the critic's values.
    """

    env_steps: int = budget()
    num_envs: int = structural()
    episode_length: int = structural()
    rule: str = structural()

    def __check_init__(self):
        check_rule(self.rule, "CollectRollouts.rule")

    def check(self, task: Task, inputs: PhaseInputs) -> PhaseInputs:
        require(
            inputs.has_policy, "CollectRollouts has no policy to collect with: put an ImprovePolicy phase before it."
        )
        for name in ("env_steps", "num_envs", "episode_length"):
            require(getattr(self, name) >= 1, f"CollectRollouts.{name} = {getattr(self, name)}: it must be >= 1.")
        rows = self.rounds * self.num_envs * self.episode_length
        require(
            rows <= LARGEST_SIZE,
            f"CollectRollouts.env_steps = {self.env_steps}, in whole rounds of CollectRollouts.num_envs = {self.num_envs} episodes of"
            f" CollectRollouts.episode_length = {self.episode_length}, makes {rows:_} rows of data, of at most {LARGEST_SIZE:_}. Lower them.",
        )
        return PhaseInputs(True, self.rounds * self.num_envs, self.episode_length)

    @property
    def rounds(self) -> int:
        return -(-self.env_steps // (self.num_envs * self.episode_length))

    def units(self, task: Task) -> tuple[Unit, ...]:
        del task
        return (Unit("collect", self.collect, env_steps=self.num_envs * self.episode_length),) * self.rounds

    def start(self, context: PhaseContext, run: RunState) -> CollectState:
        spaces = context.task.environment.spaces()
        lead = (self.rounds * self.num_envs, self.episode_length)
        steps = jnp.zeros(lead)
        buffer = Episodes(
            jnp.zeros((*lead, spaces.observation)),
            jnp.zeros((*lead, spaces.action)),
            steps,
            steps,
            jnp.zeros(lead, bool),
        )
        return CollectState(run, buffer)

    def collect(self, context: PhaseContext, state: CollectState, index: int) -> tuple[CollectState, dict[str, Any]]:
        run = state.run
        first = context.for_each(index * self.num_envs)
        buffer, metrics = collect(
            (self, context.task),
            (run.policy, run.learner, run.decoder, first, context.key("collect", index)),
            state.buffer,
        )
        return CollectState(run, buffer), metrics

    def finish(self, context: PhaseContext, state: CollectState) -> RunState:
        del context
        run = state.run
        return RunState(run.decoder, run.policy, run.best, run.learner, Dataset(state.buffer))


@program
def collect(shared: tuple, each: tuple, buffer: Episodes) -> tuple[Episodes, dict[str, Float[Array, ""]]]:
    (phase, task), (policy, learner, decoder, first, key) = shared, each
    agent = Agent(policy, decoder, task.action_bound, phase.rule)
    returns, _, diverged, episodes = run_episodes(
        task.squashed, agent, key, num_envs=phase.num_envs, length=phase.episode_length, value=learner.value
    )
    write = lambda whole, part: jax.lax.dynamic_update_slice_in_dim(whole, part, first, 0)  # noqa: E731
    whole = episodes.valid & ~diverged[:, None]
    saturated = jnp.mean(jnp.abs(episodes.action) >= task.action_bound, axis=-1)
    metrics = {
        "return": jnp.nanmean(jnp.where(diverged, jnp.nan, returns)),  # of whole episodes; NaN if there is none
        "action_saturation": jnp.sum(jnp.where(whole, saturated, 0.0)) / jnp.sum(whole),
        "diverged_episodes": jnp.sum(diverged).astype(jnp.float32),
    }
    return trees.strip_weak_types(jax.tree.map(write, buffer, devices.replicate(episodes))), metrics
