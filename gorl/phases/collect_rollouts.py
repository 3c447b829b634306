"""The phase that collects whole episodes with the current policy and decoder."""

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gorl.acting.agent import Agent, check_rule
from gorl.acting.episodes import run_episodes
from gorl.environments.task import Task
from gorl.environments.wrappers import DecodedEnvironment
from gorl.fields import LARGEST_SIZE, budget, require, structural
from gorl.phases.base import AbstractPhase, PhaseContext, PhaseInputs, Unit
from gorl.runtime import devices, trees
from gorl.runtime.programs import program
from gorl.state import Dataset, Episodes, RunState


class CollectState(eqx.Module):
    """The state between rounds."""

    run: RunState
    buffer: Episodes


@gin.register(module="gorl")
class CollectRollouts(AbstractPhase):
    """Collects `env_steps` steps in rounds of `num_envs` episodes of `episode_length` steps, each from a fresh reset.

    The number of rounds is rounded up. The policy acts by `rule` ('stochastic': its latents are sampled). The dataset
    contains (s, u), the observation and the pre-squash action clipped to the task's action bound, with the rewards and
    the critic's values and, with `store_noise`, the noise that made the latent. `latent_kl` is the encoder's mean
    divergence from the prior N(0, I) in nats, which the next decoder absorbs.
    """

    env_steps: int = budget()
    num_envs: int = structural()
    episode_length: int = structural()
    rule: str = structural()
    store_noise: bool = structural(default=False)

    def __check_init__(self):
        check_rule(self.rule, "CollectRollouts.rule")

    def check(self, task: Task, inputs: PhaseInputs) -> PhaseInputs:
        require(
            inputs.has_policy, "CollectRollouts has no policy to collect with: put an ImprovePolicy phase before it."
        )
        for name in ("env_steps", "num_envs", "episode_length"):
            require(getattr(self, name) >= 1, f"CollectRollouts.{name} = {getattr(self, name)}: it must be >= 1.")
        require(
            not self.store_noise or self.rule == "stochastic",
            f"CollectRollouts.store_noise = True, but CollectRollouts.rule = {self.rule!r} draws no noise."
            " Set CollectRollouts.rule = 'stochastic'.",
        )
        rows = self.rounds * self.num_envs * self.episode_length
        require(
            rows <= LARGEST_SIZE,
            f"CollectRollouts.env_steps = {self.env_steps}, in whole rounds of"
            f" CollectRollouts.num_envs = {self.num_envs} episodes of"
            f" CollectRollouts.episode_length = {self.episode_length}, makes {rows:_} rows of data,"
            f" of at most {LARGEST_SIZE:_}. Lower them.",
        )
        size = self.rounds * self.num_envs, self.episode_length
        return PhaseInputs(True, *size, self.store_noise, inputs.judges_actions)

    @property
    def rounds(self) -> int:
        """The number of rounds, each of one whole episode per environment."""
        return -(-self.env_steps // (self.num_envs * self.episode_length))

    def units(self, task: Task) -> tuple[Unit, ...]:
        del task
        return (Unit("collect", self.collect, env_steps=self.num_envs * self.episode_length),) * self.rounds

    def is_idle(self, run: RunState) -> bool:
        return run.is_without_gain

    def start(self, context: PhaseContext, run: RunState) -> CollectState:
        spaces = context.task.environment.spaces()
        shape = (self.rounds * self.num_envs, self.episode_length)
        zeros = jnp.zeros(shape)
        buffer = Episodes(
            obs=jnp.zeros((*shape, spaces.observation)),
            action=jnp.zeros((*shape, spaces.action)),
            reward=zeros,
            value=zeros,
            valid=jnp.zeros(shape, bool),
            noise=jnp.zeros((*shape, run.decoder.latent_size)) if self.store_noise else None,
        )
        return CollectState(run, buffer)

    def collect(self, context: PhaseContext, state: CollectState, index: int) -> tuple[CollectState, dict[str, Array]]:
        """Collects one round, into its rows of the buffer."""
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
        return RunState(run.decoder, run.policy, run.best, run.learner, Dataset(state.buffer), replay=run.replay)


@program
def collect(shared: tuple, each: tuple, buffer: Episodes) -> tuple[Episodes, dict[str, Float[Array, ""]]]:
    """Collects one round of episodes for one seed."""
    (phase, task), (policy, learner, decoder, first, key) = shared, each
    agent = Agent(policy, decoder, task.action_bound, phase.rule)
    returns, _, diverged, episodes = run_episodes(
        task.squashed,
        agent,
        key,
        num_envs=phase.num_envs,
        length=phase.episode_length,
        value=learner.value_in(DecodedEnvironment(task.squashed, decoder)),
        store_noise=phase.store_noise,
    )
    write = lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, new, first, 0)
    counted = episodes.valid & ~diverged[:, None]
    saturated = jnp.mean(jnp.abs(episodes.action) >= task.action_bound, axis=-1)
    # One time step after the other, so that the encoder's activations stay small.
    kl = jax.lax.map(jax.vmap(policy.kl_to_prior), jnp.swapaxes(episodes.obs, 0, 1)).T
    metrics = {
        "latent_kl": jnp.sum(jnp.where(counted, kl, 0.0)) / jnp.sum(counted),
        "return": jnp.nanmean(jnp.where(diverged, jnp.nan, returns)),  # NaN if every episode diverged
        "action_saturation": jnp.sum(jnp.where(counted, saturated, 0.0)) / jnp.sum(counted),
        "diverged_episodes": jnp.sum(diverged).astype(jnp.float32),
    }
    return trees.strip_weak_types(jax.tree.map(write, buffer, devices.replicate(episodes))), metrics
