"""Evaluation on whole episodes from fresh resets, the same for every method."""

import equinox as eqx
import gin
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from gorl.acting.agent import Agent, check_rule
from gorl.acting.episodes import run_episodes
from gorl.decoders.base import AbstractDecoder
from gorl.environments.task import Task
from gorl.fields import require, structural
from gorl.policies.base import AbstractActor
from gorl.runtime.programs import program


@gin.register(module="gorl")
class Evaluator(eqx.Module):
    """Evaluates a policy on `num_envs` parallel episodes.

    The policy acts by `rule`: 'mode', 'zero_noise' or 'stochastic'. Episodes that diverge are counted and excluded from
    all other metrics.
    """

    num_envs: int = structural()
    rule: str = structural()

    def __check_init__(self):
        require(self.num_envs >= 1, f"Evaluator.num_envs = {self.num_envs}: it must be >= 1.")
        check_rule(self.rule, "Evaluator.rule")

    def env_steps(self, task: Task) -> int:
        return self.num_envs * task.episode_length

    def returns(
        self, task: Task, policy: AbstractActor, decoder: AbstractDecoder, *, key: Key[Array, " S"]
    ) -> dict[str, Float[Array, " S"]]:
        """Returns the metrics of one evaluation of every seed, see `episode_statistics`. Compiled once for all phases.

        The arrays of `policy` and `decoder` have a leading axis of seeds [S].
        """
        return evaluate((self, task), (policy, decoder, key), ())


@program
def evaluate(shared: tuple, each: tuple, state: tuple) -> dict[str, Float[Array, ""]]:
    """Evaluates one seed's policy."""
    del state
    (evaluator, task), (policy, decoder, key) = shared, each
    agent = Agent(policy, decoder, task.action_bound, evaluator.rule)
    returns, lengths, diverged, _ = run_episodes(
        task.squashed, agent, key, num_envs=evaluator.num_envs, length=task.episode_length, value=None
    )
    return episode_statistics(returns, lengths, diverged)


def episode_statistics(
    returns: Float[Array, " E"], lengths: Int[Array, " E"], diverged: Bool[Array, " E"]
) -> dict[str, Float[Array, ""]]:
    """Returns statistics of the returns of episodes that did not diverge (NaN if all did), and how many did."""
    whole = lambda x: jnp.where(diverged, jnp.nan, x)
    return {
        "return": jnp.nanmean(whole(returns)),
        "return_std": jnp.nanstd(whole(returns)),
        "return_min": jnp.nanmin(whole(returns)),
        "return_max": jnp.nanmax(whole(returns)),
        "episode_length": jnp.nanmean(whole(lengths.astype(jnp.float32))),
        "diverged_episodes": jnp.sum(diverged).astype(jnp.float32),
        "episodes": jnp.full((), diverged.size, jnp.float32),
    }
