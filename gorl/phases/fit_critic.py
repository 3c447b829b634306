"""The phase that fits a new critic to the collected episodes."""

from typing import Any

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from gorl import optimizers
from gorl.algorithms.critics import AbstractCritic
from gorl.algorithms.on_policy import OnPolicyLearner
from gorl.decoders.base import AbstractDecoder
from gorl.environments.task import Task
from gorl.fields import Factory, Scalar, factory, hyperparameter, require, require_finite, structural
from gorl.networks import keep_statistics, sealed, trainable
from gorl.optimizers import Optimizer, build_transformation, require_grad_norm
from gorl.phases.base import AbstractPhase, PhaseContext, PhaseInputs, Unit, require_units
from gorl.phases.selection import episode_advantages
from gorl.runtime import devices, trees
from gorl.runtime.programs import program
from gorl.state import PyTree, RunState, Spaces


class FitCriticState(eqx.Module):
    """The state between epochs."""

    run: RunState
    critic: AbstractCritic
    optimizer: PyTree


@gin.register(module="gorl")
class FitCritic(AbstractPhase):
    """Fits a new critic V(s) for `epochs` to the returns of the collected episodes, which replaces the learner's.

    It belongs between CollectRollouts and FitDecoder. The next ImprovePolicy phase begins with this critic if its
    `reinitialize` is 'policy'. The targets are lambda-returns of the scaled rewards, with the old critic's values. At
    `gae_lambda` = 1 they are discounted returns, which bootstrap at the time limit alone. The new critic has the
    old one's statistics of observations. `explained_variance` is 1 - Var(target - V) / Var(target) of the new critic
    after the epoch, and `explained_variance_before` is that of the old one.
    """

    critic: Factory = factory()
    optimizer: Optimizer = optimizers.optimizer()
    learning_rate: Any = optimizers.rate()
    max_grad_norm: Scalar = hyperparameter()
    discount: Scalar = hyperparameter()
    gae_lambda: Scalar = hyperparameter()
    reward_scale: Scalar = hyperparameter()
    epochs: int = structural()
    batch_size: int = structural()

    def check(self, task: Task, inputs: PhaseInputs) -> PhaseInputs:
        del task
        require(inputs.episodes > 0, "FitCritic has no data: put a CollectRollouts phase before it.")
        for name in ("epochs", "batch_size"):
            require(getattr(self, name) >= 1, f"FitCritic.{name} = {getattr(self, name)}: it must be >= 1.")
        for name in ("discount", "gae_lambda"):
            value = getattr(self, name)
            require(bool(0 <= value <= 1), f"FitCritic.{name} = {value}: it must be in [0, 1].")
        require_finite(self, "reward_scale")
        require_grad_norm(self.max_grad_norm)
        require_units(self.epochs, f"FitCritic.epochs = {self.epochs}", "Lower it.")
        rows = inputs.episodes * inputs.episode_length
        require(
            self.batch_size <= rows,
            f"FitCritic.batch_size = {self.batch_size}, but the collected data will be {rows} steps."
            " Lower it, or raise CollectRollouts.env_steps.",
        )
        return inputs

    def create(self, spaces: Spaces, decoder: AbstractDecoder, *, key: PRNGKeyArray) -> AbstractDecoder:
        require(
            spaces.critic_observation == spaces.observation,
            "FitCritic: the data has the policy's observations alone, and the critic has others here."
            " Remove @FitCritic() from Stage.phases, or let the critic see what the policy sees.",
        )
        sealed(self.critic(spaces.critic_observation, key=key))
        return decoder

    def units(self, task: Task) -> tuple[Unit, ...]:
        del task
        return (Unit("epoch", self.epoch, subset="fit_critic", axis="units"),) * self.epochs

    def is_idle(self, run: RunState) -> bool:
        return run.is_without_gain

    def start(self, context: PhaseContext, run: RunState) -> FitCriticState:
        require(
            isinstance(run.learner, OnPolicyLearner),
            f"FitCritic fits V(s) of on-policy algorithms, and the learner is {type(run.learner).__name__}."
            " Remove @FitCritic() from Stage.phases.",
        )
        size = context.task.environment.spaces().critic_observation
        critic = keep_statistics(sealed(self.critic(size, key=context.key("init"))), run.learner.critic)
        state = self._transformation().init(eqx.filter(critic, trainable(critic)))
        return FitCriticState(run, *trees.strip_weak_types((critic, state)))

    def _transformation(self) -> optax.GradientTransformation:
        return build_transformation(self.optimizer, self.learning_rate, self.max_grad_norm)

    def epoch(
        self, context: PhaseContext, state: FitCriticState, index: int
    ) -> tuple[FitCriticState, dict[str, Array]]:
        """Runs one epoch."""
        each = (state.run.dataset, context.key("epoch", index))
        (critic, optimizer), metrics = fit(self, each, (state.critic, state.optimizer))
        return FitCriticState(state.run, critic, optimizer), metrics

    def finish(self, context: PhaseContext, state: FitCriticState) -> RunState:
        del context
        learner = eqx.tree_at(lambda m: m.critic, state.run.learner, state.critic)
        return eqx.tree_at(lambda run: run.learner, state.run, learner)


@program
def fit(phase: FitCritic, each: tuple, state: tuple) -> tuple[tuple, dict[str, Float[Array, ""]]]:
    """Trains on the permuted rows, without those that do not fill a batch."""
    (dataset, key), (critic, optimizer) = each, state
    episodes, transformation = dataset.episodes, phase._transformation()
    returns = episode_advantages(episodes, phase.discount, phase.gae_lambda, phase.reward_scale)[1].reshape(-1)
    weight = episodes.valid.reshape(-1).astype(jnp.float32)
    obs = jnp.where(episodes.valid[..., None], episodes.obs, 0.0).reshape(weight.shape[0], -1)
    target = jnp.where(weight > 0, returns, 0.0)
    batches = weight.shape[0] // phase.batch_size
    rows = jax.random.permutation(key, weight.shape[0])[: batches * phase.batch_size].reshape(batches, -1)

    def loss(params: PyTree, rest: PyTree, rows: Array) -> Float[Array, ""]:
        rows = devices.shard(rows)
        error = jax.vmap(eqx.combine(params, rest))(obs[rows]) - target[rows]
        return jnp.sum(weight[rows] * error**2) / jnp.maximum(jnp.sum(weight[rows]), 1.0)

    def step(carry: tuple, rows: Array) -> tuple[tuple, tuple]:
        critic, optimizer = carry
        params, rest = eqx.partition(critic, trainable(critic))
        value, grads = jax.value_and_grad(loss)(params, rest, rows)
        updates, new_optimizer = transformation.update(grads, optimizer, params)
        new = (eqx.combine(eqx.apply_updates(params, updates), rest), new_optimizer)
        accepted = trees.all_finite((value, grads, new))
        return trees.where(accepted, new, carry), (jnp.where(accepted, value, 0.0), 1.0 - accepted)

    (critic, optimizer), (losses, skipped) = jax.lax.scan(step, (critic, optimizer), rows)
    value = jax.lax.map(critic, obs, batch_size=phase.batch_size)
    mean = lambda x: jnp.sum(weight * x) / jnp.maximum(jnp.sum(weight), 1.0)
    variance = lambda x: mean((x - mean(x)) ** 2)
    explained = lambda v: 1.0 - variance(target - v) / variance(target)
    metrics = {
        "loss/critic": jnp.sum(losses) / (batches - jnp.sum(skipped)),
        "explained_variance": explained(value),
        "explained_variance_before": explained(jnp.where(weight > 0, episodes.value.reshape(-1), 0.0)),
        "updates_skipped": jnp.sum(skipped),
        "diverged": (jnp.sum(skipped) == batches).astype(jnp.float32),
    }
    return (critic, optimizer), metrics
