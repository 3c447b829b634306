"""On-policy policy optimization: rollout, advantages, epochs of minibatches.

The policy provides a (surrogate) likelihood ratio and the trust region turns it into an objective. PPO is a Gaussian
policy's ratio in a clipped region: Schulman et al., arXiv 1707.06347.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from gorl import optimizers
from gorl.acting.lanes import LaneEnvironment
from gorl.acting.rollout import act, episode_metrics
from gorl.algorithms.base import AbstractActorCritic, AbstractAlgorithm
from gorl.algorithms.critics import AbstractCritic, values_along
from gorl.algorithms.statistics import STATISTICS
from gorl.environments.base import AbstractEnvironment
from gorl.environments.task import EpisodeRules
from gorl.errors import ConfigError, did_you_mean
from gorl.fields import Factory, Scalar, factory, hyperparameter, instances, require, require_finite, structural
from gorl.networks import sealed, trainable
from gorl.objectives.gae import AbstractAdvantage
from gorl.objectives.regularizers import AbstractRegularizer
from gorl.objectives.trust_region import AbstractTrustRegion
from gorl.optimizers import Optimizer, build_transformation, clip_each_by_norm
from gorl.policies.base import AbstractPolicy
from gorl.runtime import devices, trees
from gorl.state import Lanes, PyTree, Spaces, Transition


class OnPolicyLearner(AbstractActorCritic):
    """A policy, its critic V(s), and the optimizer's state for both."""

    policy: AbstractPolicy
    critic: AbstractCritic
    optimizer: PyTree

    def value(self, critic_obs: Float[Array, " D_c"], obs: Float[Array, " D_o"]) -> Float[Array, ""]:
        del obs
        return self.critic(critic_obs)

    def with_critic_of(self, old: "OnPolicyLearner") -> "OnPolicyLearner":
        return eqx.tree_at(lambda m: m.critic, self.with_statistics_of(old), old.critic)


class OnPolicyState(eqx.Module):
    """The state between iterations."""

    learner: OnPolicyLearner
    lanes: Lanes


class Batch(eqx.Module):
    """Transitions with their advantages and value targets; the leading axes are [sequences, unroll]."""

    transition: Transition
    advantage: Float[Array, "*batch"]
    target: Float[Array, "*batch"]


@gin.register(module="gorl")
class OnPolicy(AbstractAlgorithm):
    """On-policy optimization in iterations of num_minibatches · batch_size · unroll_length environment steps.

    The steps are taken in `num_envs` lanes and trained on for `num_epochs`. Minibatches consist of sequences of
    `unroll_length` steps. `advantage_unit` says when advantages are computed: once per iteration, over each lane's
    whole rollout ('iteration'), or in every minibatch, over its sequences and with the current critic ('minibatch').
    With `normalize_advantage`, advantages are normalized to mean 0 and standard deviation 1 in each minibatch, with
    `advantage_epsilon` added to the deviation.

    `statistics` says when the normalizers' statistics are updated. 'after' the last epoch, the ratio is 1 at the first
    minibatch. 'before' the first epoch is a published defect, kept to measure its effect: stored log-probabilities then
    belong to other inputs than the policy sees, so ratios are not 1 before any update and part of the batch is clipped
    for no reason. 'first' is 'after', except that a learner without statistics takes them from its first rollout before
    it learns, and the policy rescores its actions under them. So no epoch is spent on raw inputs, and the ratio is 1 at
    the first minibatch. (The actions themselves were drawn on raw inputs, so that one rollout is not exactly the
    policy's own.) A learner that has statistics already, as one that is kept has, is updated as with 'after'.

    `reward_scale` multiplies rewards for learning only. `max_grad_norm` clips the gradient's global norm (1e999: not at
    all). `grad_norm_unit` says of which parameters: of all together ('learner'), so that a large gradient of the value
    loss shrinks the policy's too, or of the policy and of the critic, each by itself ('module').

    An update whose loss, metrics, gradient or result are not finite, or that has no valid step to learn from, is
    skipped and counted.
    """

    policy: Factory = factory()
    critic: Factory = factory()
    trust_region: AbstractTrustRegion
    regularizers: tuple[AbstractRegularizer, ...] = eqx.field(
        converter=instances(AbstractRegularizer, "OnPolicy.regularizers")
    )
    optimizer: Optimizer = optimizers.optimizer()
    learning_rate: Any = optimizers.rate()
    max_grad_norm: Scalar = hyperparameter()
    advantage: AbstractAdvantage
    advantage_epsilon: Scalar = hyperparameter()
    value_cost: Scalar = hyperparameter()
    discount: Scalar = hyperparameter()
    gae_lambda: Scalar = hyperparameter()
    reward_scale: Scalar = hyperparameter()
    num_envs: int = structural()
    unroll_length: int = structural()
    batch_size: int = structural()
    num_minibatches: int = structural()
    num_epochs: int = structural()
    advantage_unit: str = structural()
    normalize_advantage: bool = structural()
    statistics: str = structural()
    # Not in gin alone, as a setting should be: runs saved before there was a choice go on as they began.
    grad_norm_unit: str = structural(default="learner")

    def __check_init__(self):
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ConfigError(
                    f"OnPolicy.{name} = {value!r}: it is {' or '.join(map(repr, choices))}."
                    f"{did_you_mean(str(value), choices)}"
                )

    @property
    def env_steps_per_iteration(self) -> int:
        return self.num_minibatches * self.batch_size * self.unroll_length

    @property
    def _rollout_length(self) -> int:
        return self.env_steps_per_iteration // self.num_envs

    def check(self, episode_length: int) -> None:
        del episode_length
        for name in ("num_envs", "unroll_length", "batch_size", "num_minibatches", "num_epochs"):
            require(getattr(self, name) >= 1, f"OnPolicy.{name} = {getattr(self, name)}: it must be >= 1.")
        for name in ("discount", "gae_lambda"):
            require(
                bool(0 <= getattr(self, name) <= 1), f"OnPolicy.{name} = {getattr(self, name)}: it must be in [0, 1]."
            )
        require_finite(self, "value_cost", "reward_scale")
        require(bool(self.value_cost >= 0), f"OnPolicy.value_cost = {self.value_cost}: it must be >= 0.")
        require(bool(self.reward_scale != 0), "OnPolicy.reward_scale = 0 leaves nothing to learn from. Write 1.0.")
        require(self.advantage_epsilon >= 0, f"OnPolicy.advantage_epsilon = {self.advantage_epsilon}: it must be >= 0.")
        sequences = self.num_minibatches * self.batch_size
        require(
            sequences % self.num_envs == 0,
            f"OnPolicy: num_minibatches x batch_size = {self.num_minibatches} x {self.batch_size} = {sequences}"
            f" sequences cannot be shared evenly by num_envs = {self.num_envs}."
            f" Make num_envs a divisor of {sequences}, or batch_size a multiple of num_envs.",
        )

    def create(self, spaces: Spaces, *, key: PRNGKeyArray) -> OnPolicyLearner:
        policy_key, critic_key = jax.random.split(key)
        policy = self.policy(spaces.observation, spaces.action, key=policy_key)
        critic = self.critic(spaces.critic_observation, key=critic_key)
        for name, module, kind in (("policy", policy, AbstractPolicy), ("critic", critic, AbstractCritic)):
            what = f"OnPolicy.{name} builds {type(module).__name__}, which is not a {kind.__name__}."
            require(isinstance(module, kind), f"{what} A network goes inside one, as its body.")
        policy, critic = sealed(policy), sealed(critic)
        for regularizer in self.regularizers:
            regularizer.check(policy)
        params = eqx.filter((policy, critic), trainable((policy, critic)))
        return trees.strip_weak_types(OnPolicyLearner(policy, critic, self._optimizer().init(params)))

    def _optimizer(self) -> optax.GradientTransformation:
        clip = GRAD_NORM_UNITS[self.grad_norm_unit]
        return build_transformation(self.optimizer, self.learning_rate, self.max_grad_norm, clip)

    def _lanes(self, env: AbstractEnvironment, episodes: EpisodeRules) -> LaneEnvironment:
        return LaneEnvironment(env, self.num_envs, episodes)

    def start(
        self, env: AbstractEnvironment, learner: OnPolicyLearner, episodes: EpisodeRules, *, key: PRNGKeyArray
    ) -> OnPolicyState:
        return OnPolicyState(learner, self._lanes(env, episodes).start(key))

    def iterate(
        self, env: AbstractEnvironment, state: OnPolicyState, episodes: EpisodeRules, *, key: PRNGKeyArray
    ) -> tuple[OnPolicyState, dict[str, Array]]:
        act_key, update_key = jax.random.split(key)
        lanes, rollout = self.rollout(env, state, episodes, key=act_key)
        before, after = STATISTICS[self.statistics]
        learner, rollout = before(state.learner, rollout)
        learner, metrics = self.update(learner, self.sequences(rollout, learner.critic), update_key)
        learner = after(learner, state.learner, rollout)
        return OnPolicyState(learner, lanes), {**episode_metrics(rollout), **metrics}

    def rollout(
        self, env: AbstractEnvironment, state: OnPolicyState, episodes: EpisodeRules, *, key: PRNGKeyArray
    ) -> tuple[Lanes, Transition]:
        """Takes an iteration's environment steps. Returns the lanes and the transitions [T, B]."""
        lane_env, policy = self._lanes(env, episodes), state.learner.policy

        def step(lanes: Lanes, key: PRNGKeyArray) -> tuple[Lanes, Transition]:
            lanes, transition, _ = act(lane_env, policy, lanes, key)
            return lanes, transition

        return jax.lax.scan(step, state.lanes, jax.random.split(key, self._rollout_length))

    def advantages(self, critic: AbstractCritic, transitions: Transition, lane_axis: int) -> tuple[Array, Batch]:
        """Computes the values of transitions, and their advantages and value targets, which carry no gradient.

        The two leading axes are time and lanes (or sequences), of which `lane_axis` is the latter.
        """
        time_first = lambda x: jnp.moveaxis(x, lane_axis, 1)
        observations = time_first(transitions.for_critic), time_first(transitions.next_critic_obs)
        value, next_value = map(time_first, values_along(critic, *observations))
        estimator = lambda *x: self.advantage(*x, discount=self.discount, gae_lambda=self.gae_lambda)
        fixed = jax.lax.stop_gradient((transitions.reward * self.reward_scale, value, next_value))
        flags = transitions.terminated, transitions.truncated, transitions.valid
        return value, Batch(transitions, *jax.vmap(estimator, lane_axis, lane_axis)(*fixed, *flags))

    def sequences(self, rollout: Transition, critic: AbstractCritic) -> Batch:
        """Computes advantages over each lane's rollout [T, B] and cuts the result into [sequences, unroll]."""

        def fold(x: Array) -> Array:  # [T, B, ...] -> [B · T / unroll, unroll, ...]
            return jnp.swapaxes(x, 0, 1).reshape(-1, self.unroll_length, *x.shape[2:])

        return jax.tree.map(fold, self.advantages(critic, rollout, 1)[1])

    def update(
        self, learner: OnPolicyLearner, batch: Batch, key: PRNGKeyArray
    ) -> tuple[OnPolicyLearner, dict[str, Array]]:
        """Trains for all epochs on a batch of [sequences, unroll] steps. Returns the learner and its mean metrics."""
        sequences = self.num_minibatches * self.batch_size
        batch = devices.replicate(batch)  # one transfer per iteration, instead of one of sharded rows per update

        def epoch(learner: OnPolicyLearner, key: PRNGKeyArray) -> tuple[OnPolicyLearner, dict[str, Array]]:
            shuffle_key, loss_key = jax.random.split(key)
            order = jax.random.permutation(shuffle_key, sequences).reshape(self.num_minibatches, self.batch_size)

            def minibatch(learner: OnPolicyLearner, x: tuple) -> tuple[OnPolicyLearner, dict[str, Array]]:
                index, key = x
                rows = devices.shard(jax.tree.map(lambda a: a[index], batch))
                return self.minibatch_step(learner, rows, key)

            return jax.lax.scan(minibatch, learner, (order, jax.random.split(loss_key, self.num_minibatches)))

        learner, metrics = jax.lax.scan(epoch, learner, jax.random.split(key, self.num_epochs))
        skipped = metrics["updates_skipped"]
        # NaN if all updates were skipped.
        summary = {name: jnp.sum(value) / jnp.sum(1.0 - skipped) for name, value in metrics.items()}
        summary["updates_skipped"] = jnp.sum(skipped)
        summary["diverged"] = jnp.all(skipped > 0).astype(jnp.float32)
        summary["log_ratio_first"] = metrics["log_ratio_max"].reshape(-1)[0]
        summary["log_ratio_max"] = jnp.where(jnp.all(skipped > 0), jnp.nan, jnp.max(metrics["log_ratio_max"]))
        return learner, summary

    def minibatch_step(
        self, learner: OnPolicyLearner, rows: Batch, key: PRNGKeyArray
    ) -> tuple[OnPolicyLearner, dict[str, Array]]:
        """Takes one optimizer step on a minibatch [sequences, unroll]. Returns the learner and the step's metrics."""
        modules = (learner.policy, learner.critic)
        params, rest = eqx.partition(modules, trainable(modules))
        valid = rows.transition.valid
        filled = trees.fill_invalid_rows(valid.reshape(-1), _flatten_sequences(rows))
        filled = jax.tree.map(lambda f, x: f.reshape(x.shape), filled, rows)
        rows = eqx.tree_at(lambda r: r.transition.valid, filled, valid)
        (_, metrics), grads = jax.value_and_grad(self._loss, has_aux=True)(params, rest, rows, key)
        updates, optimizer = self._optimizer().update(grads, learner.optimizer, params)
        new = OnPolicyLearner(*eqx.combine(eqx.apply_updates(params, updates), rest), optimizer)
        accepted = trees.all_finite((metrics, grads, new)) & jnp.any(valid)
        metrics = {name: jnp.where(accepted, value, 0.0) for name, value in metrics.items()}
        return trees.where(accepted, new, learner), {**metrics, "updates_skipped": 1.0 - accepted.astype(jnp.float32)}

    def _loss(
        self, params: PyTree, rest: PyTree, rows: Batch, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        policy, critic = eqx.combine(params, rest)
        value, rows = _flatten_sequences(ADVANTAGE_UNITS[self.advantage_unit](self, critic, rows))
        step = rows.transition
        weight = step.valid.astype(jnp.float32) / jnp.maximum(jnp.sum(step.valid), 1)
        mean = lambda x: jnp.sum(weight * jnp.where(step.valid, x, 0.0))
        advantage = (
            _standardize(rows.advantage, mean, self.advantage_epsilon) if self.normalize_advantage else rows.advantage
        )
        keys = jax.random.split(key, advantage.shape[0])
        evaluate = lambda o, a, e, k: policy.log_ratio_and_distribution(o, a, e, key=k)
        log_ratio, distribution = jax.vmap(evaluate)(step.obs, step.action, step.extras, keys)
        objective = jax.vmap(jax.vmap(lambda r, a: self.trust_region.objective(r, a), (0, None)))(log_ratio, advantage)
        value_loss = mean((value - rows.target) ** 2)
        policy_loss = -mean(jnp.mean(objective, axis=-1))
        loss = policy_loss + self.value_cost * value_loss
        metrics = {"loss/policy": policy_loss, "loss/value": value_loss}
        for regularizer in self.regularizers:
            cost = mean(jax.vmap(lambda d, k, r=regularizer: r.cost(d, key=k))(distribution, keys))
            loss = loss + regularizer.coefficient * cost
            metrics[f"cost/{type(regularizer).__name__}"] = cost
        outside = jax.vmap(jax.vmap(lambda r: self.trust_region.outside(r)))(log_ratio)
        metrics["clip_fraction"] = mean(jnp.mean(outside.astype(jnp.float32), axis=-1))
        metrics["kl"] = mean(jnp.mean(jnp.expm1(log_ratio) - log_ratio, axis=-1))  # Schulman's k3 estimate
        metrics["log_ratio_max"] = jnp.max(jnp.where(step.valid[:, None], jnp.abs(log_ratio), 0.0))
        return loss, metrics


def _flatten_sequences(tree: PyTree) -> PyTree:
    """Reshapes arrays [sequences, unroll, ...] to rows [sequences · unroll, ...]."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)


def _keep_advantages(algorithm: OnPolicy, critic: AbstractCritic, rows: Batch) -> tuple[Array, Batch]:
    del algorithm
    return jax.vmap(critic)(_flatten_sequences(rows.transition.for_critic)).reshape(rows.advantage.shape), rows


# Functions from the current critic and a minibatch [batch_size, unroll_length] to the critic's values of it, and the
# minibatch with the advantages to use.
ADVANTAGE_UNITS: dict[str, Callable[[OnPolicy, AbstractCritic, Batch], tuple[Array, Batch]]] = {
    "iteration": _keep_advantages,
    "minibatch": lambda algorithm, critic, rows: algorithm.advantages(critic, rows.transition, 0),
}

# Transformations that clip the gradients of (policy, critic).
GRAD_NORM_UNITS: dict[str, Callable[[Array], optax.GradientTransformation]] = {
    "learner": optax.clip_by_global_norm,
    "module": clip_each_by_norm,
}

CHOICES: dict[str, dict[str, Any]] = {
    "advantage_unit": ADVANTAGE_UNITS,
    "statistics": STATISTICS,
    "grad_norm_unit": GRAD_NORM_UNITS,
}


def _standardize(advantage: Float[Array, " N"], mean: Callable, epsilon: Scalar) -> Float[Array, " N"]:
    center = mean(advantage)
    return (advantage - center) / (jnp.sqrt(mean((advantage - center) ** 2)) + epsilon)
