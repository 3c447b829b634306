"""The interface of an algorithm."""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.algorithms.critics import AbstractActionCritic, AbstractCritic
from gorl.environments.base import AbstractEnvironment
from gorl.environments.task import EpisodeRules
from gorl.policies.base import AbstractPolicy
from gorl.state import Spaces, Transition


class AbstractLearner(eqx.Module):
    """Everything an algorithm trains: its policy, its other networks, its optimiser's state."""

    policy: eqx.AbstractVar[AbstractPolicy]

    @abc.abstractmethod
    def value(self, critic_obs: Float[Array, " D_c"], obs: Float[Array, " D_o"]) -> Float[Array, ""]:
        """V(s) in the units that the algorithm learns in (its scaled rewards). Unbatched; `obs` is what the policy sees."""


class AbstractActorCritic(AbstractLearner):
    """A learner whose policy and critic see observations through normalizers of their own."""

    critic: eqx.AbstractVar[AbstractCritic | AbstractActionCritic]

    def observe(self, rollout: Transition) -> "AbstractActorCritic":
        """Returns the same learner whose normalizers have seen a rollout of transitions [T, B]."""
        weight = rollout.valid.astype(jnp.float32).reshape(-1)
        rows = lambda x: x.reshape(-1, x.shape[-1])
        policy = self.policy.observe(rows(rollout.obs), weight)
        critic = self.critic.observe(rows(rollout.for_critic), weight)
        return eqx.tree_at(lambda learner: (learner.policy, learner.critic), self, (policy, critic))


class AbstractAlgorithm(eqx.Module):
    """Improves a policy. It sees an environment whose actions are the policy's: latents or actions, it cannot tell."""

    num_envs: eqx.AbstractVar[int]  # lanes

    @property
    @abc.abstractmethod
    def env_steps_per_iteration(self) -> int: ...

    @abc.abstractmethod
    def check(self, episode_length: int) -> None:
        """Raises ConfigError if the sizes do not fit together."""

    @abc.abstractmethod
    def create(self, spaces: Spaces, *, key: PRNGKeyArray) -> AbstractLearner:
        """A new learner. Not compiled: the networks' factories are called here."""

    @abc.abstractmethod
    def start(
        self, env: AbstractEnvironment, learner: AbstractLearner, episodes: EpisodeRules, *, key: PRNGKeyArray
    ) -> Any:
        """The state to iterate: the learner, and environments about to begin. It has a field `learner`."""

    @abc.abstractmethod
    def iterate(
        self, env: AbstractEnvironment, state: Any, episodes: EpisodeRules, *, key: PRNGKeyArray
    ) -> tuple[Any, dict[str, Any]]:
        """One iteration: (state, metrics as scalars). Compiled by the caller."""
