"""Soft actor-critic: off-policy, from a replay buffer. Haarnoja et al., arXiv 1812.05905."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from gorl import optimizers
from gorl.acting.lanes import LaneEnvironment
from gorl.acting.rollout import act, episode_metrics
from gorl.algorithms.base import AbstractActorCritic, AbstractAlgorithm
from gorl.algorithms.critics import AbstractActionCritic
from gorl.algorithms.replay import Experience, Replay, to_experience
from gorl.algorithms.spaces import SPACES, CriticSpace, Decode, as_it_is
from gorl.environments.base import AbstractEnvironment
from gorl.environments.task import EpisodeRules
from gorl.errors import did_you_mean
from gorl.fields import Factory, Scalar, factory, hyperparameter, instances, require, require_finite, structural
from gorl.networks import sealed, trainable
from gorl.objectives.entropy import AbstractEntropy
from gorl.objectives.regularizers import AbstractRegularizer
from gorl.optimizers import Optimizer, build_transformation
from gorl.policies.base import AbstractGaussianPolicy
from gorl.runtime import devices, trees
from gorl.state import Lanes, PyTree, Spaces

SIZES = ("num_envs", "unroll_length", "updates_per_step", "batch_size", "min_replay", "replay_capacity")


class SACLearner(AbstractActorCritic):
    """A policy, its critics Q(s, a) with their target network, the temperature, and the optimizers' states."""

    policy: AbstractGaussianPolicy
    critic: AbstractActionCritic
    target: PyTree  # the critic's trained arrays, averaged over updates; it shares the critic's normalizer
    log_temperature: Float[Array, ""]
    optimizer: PyTree  # states for (policy, critic, log_temperature)
    space: str = eqx.field(static=True, default="latent")

    def value(
        self, critic_obs: Float[Array, " D_c"], obs: Float[Array, " D_o"], decode: Decode = as_it_is
    ) -> Float[Array, ""]:
        """Returns the minimum over critics of Q(s, a) at the policy's mode, decoded to the critic's action."""
        return jnp.min(self.critic(critic_obs, decode(obs, self.policy.distribution(obs).mean)))

    def value_in(self, env: AbstractEnvironment) -> Callable[[Array, Array], Array]:
        decode = SPACES[self.space].decode(env)
        return lambda critic_obs, obs: self.value(critic_obs, obs, decode)

    def with_critic_of(self, old: AbstractActorCritic) -> "SACLearner":
        kept = self.with_statistics_of(old)
        if not (SPACES[self.space].outlives_decoder and isinstance(old, SACLearner) and old.space == self.space):
            return kept
        parts = lambda learner: (learner.critic, learner.target, learner.log_temperature)
        return eqx.tree_at(parts, kept, parts(old))


class SACState(eqx.Module):
    """The state between iterations."""

    learner: SACLearner
    lanes: Lanes
    replay: PyTree  # flashbax's state


@gin.register(module="gorl")
class SAC(AbstractAlgorithm):
    """Soft actor-critic: `unroll_length` steps in `num_envs` lanes, with `updates_per_step` updates after each step.

    An update draws `batch_size` transitions and takes one gradient step on three losses at once, all evaluated at the
    parameters before it (equations 5, 9 and 18). The critic regresses to r + discount (1 - terminated) (min Q'(s', a')
    - temperature log pi(a'|s')), where Q' is an average of past critics that moves by `target_rate` per update. The
    policy minimizes temperature log pi(a|s) - min Q(s, a) plus the regularizers' costs. The temperature keeps the
    policy's `entropy` at its target. `entropy` also defines the measure of the density pi: relative to a prior, the
    metric `entropy` is minus the divergence from it. A truncated transition bootstraps like any other, from the
    observation before the reset; an invalid one has no weight. An update whose losses, gradients or result are not
    finite, or whose transitions are all invalid, is skipped and counted.

    Until `min_replay` transitions are stored nothing is updated. The policy itself acts, not a uniform one, because an
    algorithm does not know whether its actions are latents. A new policy is N(0, I), which covers the actions and
    equals the prior of a decoder; a policy trained before refills the buffer with its current behavior.

    `space` says which actions the replay has and the critic judges. With 'latent' they are the policy's own. Both hold
    for one decoder only, since the same latent gives another action with another decoder, so every ImprovePolicy phase
    begins with an empty buffer. With 'action' they are the pre-squash actions u that the decoder makes of the policy's
    latents, bounded as the environment bounds them. The policy then minimizes temperature log pi(z|s) - min Q(s, u(s,
    z)) along the frozen decoder's gradient, and the target's action is u(s', z'). Where the bound holds u that gradient
    is 0. Replay, critics, their target and the temperature then outlive the decoder. Density, entropy and regularizers
    are those of the latent with either. On the identity decoder both are SAC on actions.

    The replay buffer holds `replay_capacity` transitions of each seed.

    `temperature_learning_rate` applies to the temperature, `learning_rate` to both networks. `reward_scale` multiplies
    rewards for learning only. `max_grad_norm` clips the norm of each of the three gradients (1e999: not at all). The
    critics' loss is the sum of their mean squared errors, halved, not the mean over critics: twice Brax's. Adam's steps
    do not depend on such a factor, but `max_grad_norm` and optimizers such as SGD do. The normalizers' statistics are
    updated at the end of an iteration, on its own transitions.
    """

    policy: Factory = factory()
    critic: Factory = factory()
    entropy: AbstractEntropy
    regularizers: tuple[AbstractRegularizer, ...] = eqx.field(
        converter=instances(AbstractRegularizer, "SAC.regularizers")
    )
    optimizer: Optimizer = optimizers.optimizer()
    learning_rate: Any = optimizers.rate()
    temperature_learning_rate: Any = optimizers.rate()
    max_grad_norm: Scalar = hyperparameter()
    discount: Scalar = hyperparameter()
    reward_scale: Scalar = hyperparameter()
    target_rate: Scalar = hyperparameter()
    initial_temperature: Scalar = hyperparameter()
    num_envs: int = structural()
    unroll_length: int = structural()
    updates_per_step: int = structural()
    batch_size: int = structural()
    min_replay: int = structural()
    replay_capacity: int = structural()
    space: str = structural(default="latent")

    def __check_init__(self):
        require(
            self.space in SPACES,
            f"SAC.space = {self.space!r}: it is 'latent' or 'action'.{did_you_mean(self.space, SPACES)}",
        )

    @property
    def env_steps_per_iteration(self) -> int:
        return self.num_envs * self.unroll_length

    @property
    def judges_actions(self) -> bool:
        return self._space.outlives_decoder

    @property
    def _space(self) -> CriticSpace:
        return SPACES[self.space]

    @property
    def _replay(self) -> Replay:
        return Replay(self.replay_capacity, self.min_replay, self.batch_size)

    def check(self, episode_length: int) -> None:
        del episode_length
        for name in SIZES:
            require(getattr(self, name) >= 1, f"SAC.{name} = {getattr(self, name)}: it must be >= 1.")
        require(bool(0 <= self.discount <= 1), f"SAC.discount = {self.discount}: it must be in [0, 1].")
        require(bool(0 < self.target_rate <= 1), f"SAC.target_rate = {self.target_rate}: it must be in (0, 1].")
        require(
            bool(self.initial_temperature > 0), f"SAC.initial_temperature = {self.initial_temperature}: it must be > 0."
        )
        require_finite(self, "reward_scale", "initial_temperature")
        self._replay.check("SAC", self.num_envs)

    def create(self, spaces: Spaces, *, key: PRNGKeyArray) -> SACLearner:
        policy_key, critic_key = jax.random.split(key)
        policy = self.policy(spaces.observation, spaces.action, key=policy_key)
        critic = self.critic(spaces.critic_observation, self._space.size(spaces), key=critic_key)
        what = f"SAC.policy builds {type(policy).__name__}, which is not an AbstractGaussianPolicy."
        require(
            isinstance(policy, AbstractGaussianPolicy),
            f"{what} SAC moves along samples and needs their density: a policy with a `distribution`.",
        )
        what = f"SAC.critic builds {type(critic).__name__}, which is not an AbstractActionCritic."
        require(
            isinstance(critic, AbstractActionCritic), f"{what} A network goes inside one, as its body: @TwinCritic."
        )
        policy, critic = sealed(policy), sealed(critic)
        log_temperature = jnp.log(jnp.asarray(self.initial_temperature))
        modules = (policy, critic, log_temperature)
        params = eqx.filter(modules, trainable(modules))
        optimizer = tuple(t.init(p) for t, p in zip(self._optimizers(), params))
        return trees.strip_weak_types(SACLearner(policy, critic, params[1], log_temperature, optimizer, self.space))

    def _optimizers(self) -> tuple:
        rates = (self.learning_rate, self.learning_rate, self.temperature_learning_rate)
        return tuple(build_transformation(self.optimizer, rate, self.max_grad_norm) for rate in rates)

    def _lanes(self, env: AbstractEnvironment, episodes: EpisodeRules) -> LaneEnvironment:
        return LaneEnvironment(env, self.num_envs, episodes)

    def start(
        self, env: AbstractEnvironment, learner: SACLearner, episodes: EpisodeRules, *, key: PRNGKeyArray
    ) -> SACState:
        """Returns a state with an empty replay buffer."""
        return SACState(
            learner, self._lanes(env, episodes).start(key), self._replay.empty(self._space.environment(env))
        )

    def replay_of(self, state: SACState) -> PyTree | None:
        return state.replay if self._space.outlives_decoder else None

    def with_replay(self, state: SACState, replay: PyTree) -> SACState:
        """Returns a state with the earlier replay, or as it is where replays do not outlive the decoder.

        Raises ConfigError if the earlier replay is of another capacity or of other transitions.
        """
        if not self._space.outlives_decoder:
            return state
        shapes = lambda tree: [jnp.shape(x) for x in jax.tree.leaves(tree)]
        require(
            shapes(replay) == shapes(state.replay),
            f"SAC.replay_capacity = {self.replay_capacity} does not fit the replay of an earlier stage, which goes on."
            " Bind one capacity for all stages, or ImprovePolicy.reinitialize = 'all', which empties it.",
        )
        return SACState(state.learner, state.lanes, replay)

    def iterate(
        self, env: AbstractEnvironment, state: SACState, episodes: EpisodeRules, *, key: PRNGKeyArray
    ) -> tuple[SACState, dict[str, Array]]:
        lane_env, decode = self._lanes(env, episodes), self._space.decode(env)

        def step(state: SACState, key: PRNGKeyArray) -> tuple[SACState, tuple]:
            act_key, learn_key = jax.random.split(key)
            lanes, transition, after = act(lane_env, state.learner.policy, state.lanes, act_key)
            rows = to_experience(transition, after)
            rows = eqx.tree_at(lambda r: r.action, rows, jax.vmap(decode)(rows.obs, rows.action))
            replay = devices.replicate(self._replay.add(state.replay, rows))
            learner, sums = self._learn(state.learner, replay, learn_key, decode)
            return SACState(learner, lanes, replay), (transition, sums)

        state, (rollout, sums) = jax.lax.scan(step, state, jax.random.split(key, self.unroll_length))
        totals = jax.tree.map(jnp.sum, sums)
        updates, skipped = totals.pop("updates"), totals.pop("updates_skipped")
        means = {name: total / (updates - skipped) for name, total in totals.items()}  # NaN without an update
        counts = {
            "updates": updates,
            "updates_skipped": skipped,
            "replay_size": self._replay.size(state.replay).astype(jnp.float32),
        }
        counts["diverged"] = ((updates > 0) & (skipped == updates)).astype(jnp.float32)
        return SACState(state.learner.observe(rollout), state.lanes, state.replay), {
            **episode_metrics(rollout),
            **means,
            **counts,
        }

    def _learn(
        self, learner: SACLearner, replay: PyTree, key: PRNGKeyArray, decode: Decode
    ) -> tuple[SACLearner, dict[str, Array]]:
        """Runs the updates after one step, none until enough is stored. Returns the learner and sums of metrics."""
        sample_key, update_key = jax.random.split(key)
        # Drawn before the loop, so that the buffer is not an operand of it and is never copied.
        batches = self._replay.sample(replay, self.updates_per_step, key=sample_key)
        keys = jax.random.split(update_key, self.updates_per_step)

        def updates(learner: SACLearner) -> tuple[SACLearner, dict[str, Array]]:
            learner, metrics = jax.lax.scan(lambda m, x: self.update(m, *x, decode), learner, (batches, keys))
            return learner, jax.tree.map(jnp.sum, metrics)

        _, shapes = jax.eval_shape(updates, learner)
        no_updates = lambda m: (m, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes))
        return jax.lax.cond(self._replay.ready(replay), updates, no_updates, learner)

    def update(
        self, learner: SACLearner, batch: Experience, key: PRNGKeyArray, decode: Decode = as_it_is
    ) -> tuple[SACLearner, dict[str, Array]]:
        """Takes one optimizer step on a batch [N] of transitions. Returns the learner and the step's metrics.

        `decode` makes the critic's actions of the policy's.
        """
        modules = (learner.policy, learner.critic, learner.log_temperature)
        params, rest = eqx.partition(modules, trainable(modules))
        batch = devices.shard(batch)
        batch = eqx.tree_at(lambda b: b.valid, trees.fill_invalid_rows(batch.valid, batch), batch.valid)
        gradient = jax.value_and_grad(self._loss, has_aux=True)
        (_, metrics), grads = gradient(params, rest, learner.target, batch, key, decode)
        steps = [t.update(g, o, p) for t, g, o, p in zip(self._optimizers(), grads, learner.optimizer, params)]
        new = tuple(eqx.apply_updates(p, u) for p, (u, _) in zip(params, steps))
        target = jax.tree.map(
            lambda old, new: (1.0 - self.target_rate) * old + self.target_rate * new, learner.target, new[1]
        )
        policy, critic, log_temperature = eqx.combine(new, rest)
        updated = SACLearner(policy, critic, target, log_temperature, tuple(o for _, o in steps), learner.space)
        accepted = trees.all_finite((metrics, grads, updated)) & jnp.any(batch.valid)
        metrics = {name: jnp.where(accepted, value, 0.0) for name, value in metrics.items()}
        count = {"updates": jnp.ones(()), "updates_skipped": 1.0 - accepted.astype(jnp.float32)}
        return trees.where(accepted, updated, learner), {**metrics, **count}

    def _loss(
        self, params: PyTree, rest: PyTree, target: PyTree, batch: Experience, key: PRNGKeyArray, decode: Decode
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Returns the sum of the three losses, and metrics.

        Each loss depends on the parameters of one module only, because the others are behind a stop_gradient. So the
        gradient of the sum contains the gradient of each loss.
        """
        policy, critic, log_temperature = eqx.combine(params, rest)
        fixed_policy, fixed_critic, fixed_log_temperature = eqx.combine(jax.lax.stop_gradient(params), rest)
        temperature = jnp.exp(fixed_log_temperature)
        target_critic = eqx.combine(target, rest[1])
        mean = lambda x: jnp.sum(jnp.where(batch.valid, x, 0.0)) / jnp.maximum(jnp.sum(batch.valid), 1)
        act_key, next_key = jax.random.split(key)
        keys, next_keys = (jax.random.split(k, batch.reward.shape[0]) for k in (act_key, next_key))

        def sample(policy: AbstractGaussianPolicy, obs: Float[Array, " D_o"], key: PRNGKeyArray) -> tuple:
            distribution = policy.distribution(obs)
            sampled = distribution.sample(key=key)
            return decode(obs, sampled), self.entropy.log_prob(distribution, sampled), distribution

        next_action, next_log_prob, _ = jax.vmap(lambda o, k: sample(fixed_policy, o, k))(batch.next_obs, next_keys)
        next_q = jnp.min(jax.vmap(target_critic)(batch.next_for_critic, next_action), axis=-1)
        next_value = next_q - temperature * next_log_prob
        returns = self.reward_scale * batch.reward + self.discount * jnp.where(batch.terminated, 0.0, next_value)
        critic_losses, q = jax.vmap(lambda *x: critic.loss(*x))(batch.for_critic, batch.action, returns)
        critic_loss = mean(critic_losses)

        action, log_prob, distribution = jax.vmap(lambda o, k: sample(policy, o, k))(batch.obs, keys)
        policy_loss = mean(temperature * log_prob - jnp.min(jax.vmap(fixed_critic)(batch.for_critic, action), axis=-1))
        entropy = -mean(jax.lax.stop_gradient(log_prob))
        size = distribution.mean.shape[-1]
        excess = jnp.where(jnp.any(batch.valid), entropy - self.entropy.target(size), 0.0)
        loss = critic_loss + policy_loss + jnp.exp(log_temperature) * excess
        metrics = {
            "loss/critic": critic_loss,
            "loss/policy": policy_loss,
            "entropy": entropy,
            "temperature": temperature,
            "q": mean(jnp.min(q, axis=-1)),
        }
        for regularizer in self.regularizers:
            cost = mean(jax.vmap(lambda d, k, r=regularizer: r.cost(d, key=k))(distribution, keys))
            loss = loss + regularizer.coefficient * cost
            metrics[f"cost/{type(regularizer).__name__}"] = cost
        return loss, metrics
