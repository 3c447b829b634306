"""Relative Entropy Pathwise Policy Optimization: on-policy, along the gradient of Q.

Source: Voelcker et al., arXiv 2507.11019.
"""

from typing import Any

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from gorl import optimizers
from gorl.acting.lanes import LaneEnvironment
from gorl.acting.rollout import act, episode_metrics
from gorl.algorithms.base import AbstractActorCritic, AbstractAlgorithm
from gorl.algorithms.critics import AbstractActionCritic
from gorl.environments.base import AbstractEnvironment
from gorl.environments.task import EpisodeRules
from gorl.fields import Factory, Scalar, factory, hyperparameter, require, require_finite, structural
from gorl.generative.distributions import DiagonalGaussian
from gorl.networks import sealed, trainable
from gorl.objectives.entropy import AbstractEntropy
from gorl.objectives.td_lambda import soft_lambda_targets
from gorl.optimizers import Optimizer, build_transformation
from gorl.policies.base import AbstractGaussianPolicy
from gorl.runtime import devices, trees
from gorl.state import Lanes, PyTree, Spaces, Transition

SIZES = ("num_envs", "unroll_length", "num_minibatches", "num_epochs", "action_samples")


class REPPOLearner(AbstractActorCritic):
    """A policy, its critic Q(s, a), the multipliers of entropy and divergence, and the optimizers' states."""

    policy: AbstractGaussianPolicy
    critic: AbstractActionCritic
    log_temperature: Float[Array, ""]
    log_penalty: Float[Array, ""]
    optimizer: PyTree  # states for (policy, critic, log_temperature, log_penalty)

    def value(self, critic_obs: Float[Array, " D_c"], obs: Float[Array, " D_o"]) -> Float[Array, ""]:
        """Returns Q(s, a) at the policy's mode, the minimum over the critic's estimates."""
        return jnp.min(self.critic(critic_obs, self.policy.distribution(obs).mean))


class REPPOState(eqx.Module):
    """The state between iterations."""

    learner: REPPOLearner
    lanes: Lanes


class Batch(eqx.Module):
    """Steps with what they are trained on, which does not change during an iteration."""

    obs: Float[Array, "*batch D_o"]
    critic_obs: Float[Array, "*batch D"]
    action: Float[Array, "*batch D_z"]
    target: Float[Array, "*batch"]  # of Q(s, a)
    old: DiagonalGaussian  # the policy that acted
    valid: Bool[Array, "*batch"]


@gin.register(module="gorl")
class REPPO(AbstractAlgorithm):
    """REPPO: `unroll_length` steps in `num_envs` lanes, then `num_epochs` of `num_minibatches` updates on these steps.

    The critic regresses on TD(lambda) targets of the soft action value, which are computed once an iteration by the
    policy and the critic that acted. A truncated step bootstraps from the observation before the reset, a terminated
    one does not, and an invalid one has no weight. There is no replay and no target network.

    The policy minimizes temperature log pi(a|s) - Q(s, a) along its own samples a, where its divergence KL(old || new)
    from the policy that acted is at most `kl_bound` nats at that state. Elsewhere it minimizes penalty KL alone.
    `action_samples` actions are drawn at a state, for this and for the soft value of a next state. The temperature
    keeps `entropy` at its target, and the penalty keeps the mean divergence at its bound: log temperature decreases
    with temperature (H - target), log penalty with penalty (bound - KL). An update takes one gradient step on all four
    losses at once, all evaluated at the parameters before it. `entropy` also defines the measure of the density pi:
    relative to a decoder's prior N(0, I), the metric `entropy` is minus the divergence from it.

    The paper's auxiliary loss, by which the critic predicts its own next features, is left out. The paper estimates KL
    from samples. Here it has a closed form, in which tanh plays no part.

    `multiplier_learning_rate` applies to temperature and penalty, `learning_rate` to both networks. `reward_scale`
    multiplies rewards for learning only. `max_grad_norm` clips the norm of each of the four gradients (1e999: not at
    all). An update whose losses, gradients or result are not finite, or whose steps are all invalid, is skipped and
    counted. The normalizers' statistics are updated at the end of an iteration, on its own steps.
    """

    policy: Factory = factory()
    critic: Factory = factory()
    entropy: AbstractEntropy
    optimizer: Optimizer = optimizers.optimizer()
    learning_rate: Any = optimizers.rate()
    multiplier_learning_rate: Any = optimizers.rate()
    max_grad_norm: Scalar = hyperparameter()
    discount: Scalar = hyperparameter()
    td_lambda: Scalar = hyperparameter()
    reward_scale: Scalar = hyperparameter()
    kl_bound: Scalar = hyperparameter()
    initial_temperature: Scalar = hyperparameter()
    initial_penalty: Scalar = hyperparameter()
    num_envs: int = structural()
    unroll_length: int = structural()
    num_minibatches: int = structural()
    num_epochs: int = structural()
    action_samples: int = structural()

    @property
    def env_steps_per_iteration(self) -> int:
        return self.num_envs * self.unroll_length

    def check(self, episode_length: int) -> None:
        del episode_length
        for name in SIZES:
            require(getattr(self, name) >= 1, f"REPPO.{name} = {getattr(self, name)}: it must be >= 1.")
        for name in ("discount", "td_lambda"):
            value = getattr(self, name)
            require(bool(0 <= value <= 1), f"REPPO.{name} = {value}: it must be in [0, 1].")
        for name in ("kl_bound", "initial_temperature", "initial_penalty"):
            value = getattr(self, name)
            require(bool(value > 0), f"REPPO.{name} = {value}: it must be > 0.")
        require_finite(self, "reward_scale", "kl_bound", "initial_temperature", "initial_penalty")
        steps = self.env_steps_per_iteration
        require(
            steps % self.num_minibatches == 0,
            f"REPPO: num_envs x unroll_length = {self.num_envs} x {self.unroll_length} = {steps} steps cannot be shared"
            f" evenly by num_minibatches = {self.num_minibatches}. Make num_minibatches a divisor of {steps}.",
        )

    def create(self, spaces: Spaces, *, key: PRNGKeyArray) -> REPPOLearner:
        policy_key, critic_key = jax.random.split(key)
        policy = self.policy(spaces.observation, spaces.action, key=policy_key)
        critic = self.critic(spaces.critic_observation, spaces.action, key=critic_key)
        require(
            isinstance(policy, AbstractGaussianPolicy),
            f"REPPO.policy builds {type(policy).__name__}, which is not an AbstractGaussianPolicy. REPPO moves along"
            " samples and needs their density: a policy with a `distribution`.",
        )
        require(
            isinstance(critic, AbstractActionCritic),
            f"REPPO.critic builds {type(critic).__name__}, which is not an AbstractActionCritic. A network goes inside"
            " one, as its body: @CategoricalCritic.",
        )
        multipliers = tuple(jnp.log(jnp.asarray(x)) for x in (self.initial_temperature, self.initial_penalty))
        modules = (sealed(policy), sealed(critic), *multipliers)
        params = eqx.filter(modules, trainable(modules))
        optimizer = tuple(t.init(p) for t, p in zip(self._optimizers(), params))
        return trees.strip_weak_types(REPPOLearner(*modules, optimizer))

    def _optimizers(self) -> tuple:
        rates = (*[self.learning_rate] * 2, *[self.multiplier_learning_rate] * 2)
        return tuple(build_transformation(self.optimizer, rate, self.max_grad_norm) for rate in rates)

    def _lanes(self, env: AbstractEnvironment, episodes: EpisodeRules) -> LaneEnvironment:
        return LaneEnvironment(env, self.num_envs, episodes)

    def start(
        self, env: AbstractEnvironment, learner: REPPOLearner, episodes: EpisodeRules, *, key: PRNGKeyArray
    ) -> REPPOState:
        return REPPOState(learner, self._lanes(env, episodes).start(key))

    def iterate(
        self, env: AbstractEnvironment, state: REPPOState, episodes: EpisodeRules, *, key: PRNGKeyArray
    ) -> tuple[REPPOState, dict[str, Array]]:
        act_key, update_key = jax.random.split(key)
        lanes, rollout, batch = self.rollout(env, state, episodes, key=act_key)
        learner, metrics = self.update(state.learner, batch, update_key)
        return REPPOState(learner.observe(rollout), lanes), {**episode_metrics(rollout), **metrics}

    def rollout(
        self, env: AbstractEnvironment, state: REPPOState, episodes: EpisodeRules, *, key: PRNGKeyArray
    ) -> tuple[Lanes, Transition, Batch]:
        """Takes an iteration's environment steps.

        Returns the lanes, the transitions [T, B], and what is trained on [T · B].
        """
        lane_env, learner = self._lanes(env, episodes), state.learner

        def step(lanes: Lanes, key: PRNGKeyArray) -> tuple[Lanes, tuple]:
            act_key, value_key = jax.random.split(key)
            lanes, transition, after = act(lane_env, learner.policy, lanes, act_key)
            keys = jax.random.split(value_key, self.num_envs)
            next_value = jax.vmap(lambda *x: self.soft_value(learner, *x))(after.for_critic, after.obs, keys)
            return lanes, (transition, jax.vmap(learner.policy.distribution)(transition.obs), next_value)

        keys = jax.random.split(key, self.unroll_length)
        lanes, (rollout, old, next_value) = jax.lax.scan(step, state.lanes, keys)
        batch = Batch(
            rollout.obs,
            rollout.for_critic,
            rollout.action,
            self.targets(learner, rollout, old, next_value),
            old,
            rollout.valid,
        )
        return lanes, rollout, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)

    def soft_value(
        self, learner: REPPOLearner, critic_obs: Float[Array, " D"], obs: Float[Array, " D_o"], key: PRNGKeyArray
    ) -> Float[Array, ""]:
        """Returns V(s) = E[Q(s, a) - temperature log pi(a|s)], estimated from `action_samples` actions. Unbatched."""
        action, log_prob = self._draw(learner.policy.distribution(obs), key)
        q = jax.vmap(lambda a: jnp.min(learner.critic(critic_obs, a)))(action)
        return jnp.mean(q - jnp.exp(learner.log_temperature) * log_prob)

    def _draw(
        self, distribution: DiagonalGaussian, key: PRNGKeyArray
    ) -> tuple[Float[Array, "K D_z"], Float[Array, " K"]]:
        """Returns `action_samples` actions and their log-densities, in the measure of `entropy`."""
        action = jax.vmap(lambda k: distribution.sample(key=k))(jax.random.split(key, self.action_samples))
        return action, jax.vmap(lambda a: self.entropy.log_prob(distribution, a))(action)

    def targets(
        self, learner: REPPOLearner, rollout: Transition, old: DiagonalGaussian, next_value: Float[Array, "T B"]
    ) -> Float[Array, "T B"]:
        """Returns the targets of Q at the steps [T, B] of a rollout."""
        log_prob = jax.vmap(jax.vmap(lambda d, a: self.entropy.log_prob(d, a)))(old, rollout.action)
        bonus = -jnp.exp(learner.log_temperature) * log_prob
        fixed = rollout.reward * self.reward_scale, bonus, next_value
        flags = rollout.terminated, rollout.truncated, rollout.valid
        along = lambda *x: soft_lambda_targets(*x, discount=self.discount, td_lambda=self.td_lambda)
        return jax.vmap(along, 1, 1)(*fixed, *flags)

    def update(self, learner: REPPOLearner, batch: Batch, key: PRNGKeyArray) -> tuple[REPPOLearner, dict[str, Array]]:
        """Trains for all epochs on a batch [N] of steps. Returns the learner and its mean metrics."""
        count = batch.target.shape[0]
        batch = devices.replicate(batch)  # one transfer per iteration, instead of one of sharded rows per update

        def epoch(learner: REPPOLearner, key: PRNGKeyArray) -> tuple[REPPOLearner, dict[str, Array]]:
            shuffle_key, loss_key = jax.random.split(key)
            order = jax.random.permutation(shuffle_key, count).reshape(self.num_minibatches, -1)

            def minibatch(learner: REPPOLearner, x: tuple) -> tuple[REPPOLearner, dict[str, Array]]:
                index, key = x
                rows = devices.shard(jax.tree.map(lambda a: a[index], batch))
                return self.minibatch_step(learner, rows, key)

            return jax.lax.scan(minibatch, learner, (order, jax.random.split(loss_key, self.num_minibatches)))

        learner, metrics = jax.lax.scan(epoch, learner, jax.random.split(key, self.num_epochs))
        skipped = metrics.pop("updates_skipped")
        # NaN if all updates were skipped.
        summary = {name: jnp.sum(value) / jnp.sum(1.0 - skipped) for name, value in metrics.items()}
        summary["updates_skipped"] = jnp.sum(skipped)
        summary["diverged"] = jnp.all(skipped > 0).astype(jnp.float32)
        return learner, summary

    def minibatch_step(
        self, learner: REPPOLearner, rows: Batch, key: PRNGKeyArray
    ) -> tuple[REPPOLearner, dict[str, Array]]:
        """Takes one optimizer step on a minibatch [N] of steps. Returns the learner and the step's metrics."""
        modules = (learner.policy, learner.critic, learner.log_temperature, learner.log_penalty)
        params, rest = eqx.partition(modules, trainable(modules))
        rows = eqx.tree_at(lambda r: r.valid, trees.fill_invalid_rows(rows.valid, rows), rows.valid)
        (_, metrics), grads = jax.value_and_grad(self._loss, has_aux=True)(params, rest, rows, key)
        steps = [t.update(g, o, p) for t, g, o, p in zip(self._optimizers(), grads, learner.optimizer, params)]
        new = tuple(eqx.apply_updates(p, u) for p, (u, _) in zip(params, steps))
        updated = REPPOLearner(*eqx.combine(new, rest), tuple(o for _, o in steps))
        accepted = trees.all_finite((metrics, grads, updated)) & jnp.any(rows.valid)
        metrics = {name: jnp.where(accepted, value, 0.0) for name, value in metrics.items()}
        return trees.where(accepted, updated, learner), {
            **metrics,
            "updates_skipped": 1.0 - accepted.astype(jnp.float32),
        }

    def _loss(
        self, params: PyTree, rest: PyTree, rows: Batch, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """Returns the sum of the four losses, and metrics.

        Each loss depends on the parameters of one module only, because the others are behind a stop_gradient. So the
        gradient of the sum contains the gradient of each loss.
        """
        policy, critic, log_temperature, log_penalty = eqx.combine(params, rest)
        _, fixed_critic, *fixed_multipliers = eqx.combine(jax.lax.stop_gradient(params), rest)
        temperature, penalty = (jnp.exp(x) for x in fixed_multipliers)
        mean = lambda x: jnp.sum(jnp.where(rows.valid, x, 0.0)) / jnp.maximum(jnp.sum(rows.valid), 1)

        def along_samples(
            obs: Float[Array, " D_o"], critic_obs: Float[Array, " D"], old: DiagonalGaussian, key: PRNGKeyArray
        ) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
            new = policy.distribution(obs)
            action, log_prob = self._draw(new, key)
            q = jax.vmap(lambda a: jnp.min(fixed_critic(critic_obs, a)))(action)
            return jnp.mean(temperature * log_prob - q), -jnp.mean(log_prob), old.kl_to(new)

        critic_losses, q = jax.vmap(lambda *x: critic.loss(*x))(rows.critic_obs, rows.action, rows.target)
        keys = jax.random.split(key, rows.target.shape[0])
        cost, entropy, kl = jax.vmap(along_samples)(rows.obs, rows.critic_obs, rows.old, keys)
        beyond = kl > self.kl_bound
        critic_loss, policy_loss = mean(critic_losses), mean(jnp.where(beyond, penalty * kl, cost))
        entropy, divergence = (mean(jax.lax.stop_gradient(x)) for x in (entropy, kl))
        counts = jnp.any(rows.valid).astype(jnp.float32)
        excess = counts * (entropy - self.entropy.target(rows.action.shape[-1]))
        slack = counts * (self.kl_bound - divergence)
        loss = critic_loss + policy_loss + jnp.exp(log_temperature) * excess + jnp.exp(log_penalty) * slack
        return loss, {
            "loss/critic": critic_loss,
            "loss/policy": policy_loss,
            "entropy": entropy,
            "temperature": temperature,
            "kl": divergence,
            "kl_penalty": penalty,
            "clip_fraction": mean(beyond.astype(jnp.float32)),
            "q": mean(jnp.min(q, axis=-1)),
        }
