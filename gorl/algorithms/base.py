"""The interface of an algorithm."""

import abc
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl.algorithms.critics import AbstractActionCritic, AbstractCritic
from gorl.environments.base import AbstractEnvironment
from gorl.environments.task import EpisodeRules
from gorl.networks import keep_statistics
from gorl.policies.base import AbstractPolicy
from gorl.state import PyTree, Spaces, Transition


class AbstractLearner(eqx.Module):
    """Everything an algorithm trains: its policy, its other networks and its optimizer's state."""

    policy: eqx.AbstractVar[AbstractPolicy]

    @abc.abstractmethod
    def value(self, critic_obs: Float[Array, " D_c"], obs: Float[Array, " D_o"]) -> Float[Array, ""]:
        """Returns V(s) in the algorithm's scaled rewards. `obs` is the policy's observation. Unbatched."""

    def value_in(self, env: AbstractEnvironment) -> Callable[[Array, Array], Array]:
        """Returns `value` for the environment that the policy acts in. Override it where V(s) needs its decoder."""
        del env
        return self.value

    def with_statistics_of(self, old: "AbstractLearner") -> "AbstractLearner":
        """Returns this new learner with the old one's statistics of observations, of policy and critic."""
        return eqx.tree_at(lambda m: m.policy, self, keep_statistics(self.policy, old.policy))

    def with_critic_of(self, old: "AbstractLearner") -> "AbstractLearner":
        """Returns this new learner, after a new decoder, with all of the old one that still holds.

        These are the statistics of observations and, where it is a function of states or of the environment's actions,
        the critic: V(s) and Q(s, u) of a policy are what they were, if the new decoder with the prior's latents acts as
        the policy did.
        """
        return self.with_statistics_of(old)


class AbstractActorCritic(AbstractLearner):
    """A learner whose policy and critic each normalize their observations."""

    critic: eqx.AbstractVar[AbstractCritic | AbstractActionCritic]

    def with_statistics_of(self, old: "AbstractActorCritic") -> "AbstractActorCritic":
        modules = lambda learner: (learner.policy, learner.critic)
        return eqx.tree_at(modules, self, tuple(map(keep_statistics, modules(self), modules(old))))

    def observe(self, rollout: Transition) -> "AbstractActorCritic":
        """Returns the learner with normalizers updated on a rollout of transitions [T, B]."""
        weight = rollout.valid.astype(jnp.float32).reshape(-1)
        rows = lambda x: x.reshape(-1, x.shape[-1])
        policy = self.policy.observe(rows(rollout.obs), weight)
        critic = self.critic.observe(rows(rollout.for_critic), weight)
        return eqx.tree_at(lambda learner: (learner.policy, learner.critic), self, (policy, critic))


class AbstractAlgorithm(eqx.Module):
    """An algorithm that improves a policy in an environment, whose actions may be latents or actions."""

    num_envs: eqx.AbstractVar[int]  # lanes

    @property
    @abc.abstractmethod
    def env_steps_per_iteration(self) -> int: ...

    @property
    def judges_actions(self) -> bool:
        """Whether the learner has a `critic` Q(s, u) of the pre-squash actions that a decoder makes: not by default."""
        return False

    @abc.abstractmethod
    def check(self, episode_length: int) -> None:
        """Raises ConfigError if the settings are invalid or do not fit together."""

    @abc.abstractmethod
    def create(self, spaces: Spaces, *, key: PRNGKeyArray) -> AbstractLearner:
        """Creates a new learner. Not compiled, because the networks' factories are called here."""

    @abc.abstractmethod
    def start(
        self, env: AbstractEnvironment, learner: AbstractLearner, episodes: EpisodeRules, *, key: PRNGKeyArray
    ) -> PyTree:
        """Returns the initial state for `iterate`: the `learner`, and `lanes` that need a reset, in fields so named."""

    @abc.abstractmethod
    def iterate(
        self, env: AbstractEnvironment, state: PyTree, episodes: EpisodeRules, *, key: PRNGKeyArray
    ) -> tuple[PyTree, dict[str, Array]]:
        """Runs one iteration and returns (state, scalar metrics). Compiled by the caller."""

    def replay_of(self, state: PyTree) -> PyTree | None:
        """Returns the stored experience of a state that holds for another decoder too: None by default."""
        del state
        return None

    def with_replay(self, state: PyTree, replay: PyTree) -> PyTree:
        """Returns an initial state with the experience that an earlier phase stored. It is ignored by default."""
        del replay
        return state
