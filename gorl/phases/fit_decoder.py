"""Fit a new decoder to collected data by supervised regression."""

import abc
from typing import Any

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from gorl import trees
from gorl.decoders.base import AbstractDecoder
from gorl.environments.task import Task
from gorl.fields import Factory, Scalar, factory, hyperparameter, require, structural
from gorl.networks import trainable
from gorl.optimizers import Optimizer, as_rate, build
from gorl.phases.base import AbstractPhase, PhaseContext, Plan, Unit
from gorl.programs import program
from gorl.state import Dataset, RunState, Spaces


class AbstractLatents(eqx.Module):
    """Where the latents come from that a decoder is fitted with."""

    @abc.abstractmethod
    def sample(self, policy: Any, obs: Float[Array, " D_o"], size: int, *, key: PRNGKeyArray) -> Float[Array, " D_z"]: ...


@gin.register(module="gorl")
class PriorLatents(AbstractLatents):
    """The fixed prior N(0, I), whatever the encoder does (GoRL)."""

    def sample(self, policy: Any, obs: Float[Array, " D_o"], size: int, *, key: PRNGKeyArray) -> Float[Array, " D_z"]:
        del policy, obs
        return jax.random.normal(key, (size,))


class FitState(eqx.Module):
    run: RunState  # its decoder is the old one
    decoder: AbstractDecoder
    optimizer: Any
    best: AbstractDecoder
    best_loss: Float[Array, "*S"]
    order: Int[Array, "*S E"]  # episodes, shuffled: the first ones validate


@gin.register(module="gorl")
class FitDecoder(AbstractPhase):
    """A new decoder, `epochs` over the dataset, the weights of the best validation loss kept.

    `draws`: latents (and times) per sample and step. `validation_fraction` of the episodes, not of the rows, is held out,
    with noise that is the same at every epoch. Each unit is one epoch.
    """

    decoder: Factory = factory()
    latents: AbstractLatents
    optimizer: Optimizer
    learning_rate: Any = eqx.field(converter=as_rate)
    max_grad_norm: Scalar = hyperparameter()
    epochs: int = structural()
    batch_size: int = structural()
    draws: int = structural()
    validation_fraction: float = structural()

    def check(self, task: Task, plan: Plan) -> Plan:
        require(plan.episodes > 0, "FitDecoder has no data: put a CollectRollouts phase before it.")
        for name in ("epochs", "batch_size", "draws"):
            require(getattr(self, name) >= 1, f"FitDecoder.{name} = {getattr(self, name)}: it must be >= 1.")
        require(0 <= self.validation_fraction < 1, f"FitDecoder.validation_fraction = {self.validation_fraction}: it must be in [0, 1).")
        training = (plan.episodes - self.held_out(plan.episodes)) * task.episode_length
        require(
            training >= self.batch_size,
            f"FitDecoder.batch_size = {self.batch_size}, but the collected data will be {plan.episodes} episodes of {task.episode_length}"
            f" steps, of which {training} steps are for training. Lower FitDecoder.batch_size or raise CollectRollouts.env_steps.",
        )
        return Plan(has_policy=plan.has_policy)

    def create(self, spaces: Spaces, decoder: AbstractDecoder, *, key: PRNGKeyArray) -> AbstractDecoder:
        del decoder
        return self.decoder(spaces.observation, spaces.action, key=key)

    def units(self, task: Task) -> tuple[Unit, ...]:
        del task
        return (Unit("epoch", self.epoch, subset="fit", axis="units"),) * self.epochs

    def held_out(self, episodes: int) -> int:
        """How many episodes validate."""
        return 0 if self.validation_fraction == 0 else max(1, round(self.validation_fraction * episodes))

    def start(self, context: PhaseContext, run: RunState) -> FitState:
        count = run.dataset.episodes.valid.shape[0]
        spaces = context.task.environment.spaces()
        decoder = self.create(spaces, run.decoder, key=context.key("init"))
        order = jax.random.permutation(context.key("split"), count).astype(jnp.int32)
        decoder = _prepared(self, decoder, run.dataset, order)
        optimizer = self._optimizer().init(eqx.filter(decoder, trainable(decoder)))
        infinite = jnp.asarray(jnp.inf, jnp.float32)
        return FitState(RunState(run.decoder, run.policy, run.best, run.learner, run.dataset), decoder, optimizer, decoder, infinite, order)

    def _optimizer(self) -> Any:
        return build(self.optimizer, self.learning_rate, self.max_grad_norm)

    def epoch(self, context: PhaseContext, state: FitState, index: int) -> tuple[FitState, dict[str, Any]]:
        # The dataset and the modules of other roles are only read: they stay out of what is donated.
        each = (state.run.policy, state.run.dataset, state.order, context.key("epoch", index), context.key("validation"))
        moving = (state.decoder, state.optimizer, state.best, state.best_loss)
        (decoder, optimizer, best, best_loss), metrics = epoch(self, each, moving)
        return FitState(state.run, decoder, optimizer, best, best_loss, state.order), metrics

    def finish(self, context: PhaseContext, state: FitState) -> RunState:
        del context
        run = state.run
        return RunState(state.best, run.policy, run.best, run.learner)

    def loss(self, decoder: AbstractDecoder, policy: Any, obs: Float[Array, " D_o"], action: Float[Array, " D_a"], *, key: PRNGKeyArray) -> Float[Array, ""]:
        """The decoder's loss at one sample, the mean over `draws`."""

        def draw(key: PRNGKeyArray) -> Float[Array, ""]:
            latent_key, loss_key = jax.random.split(key)
            latent = self.latents.sample(policy, obs, decoder.latent_size, key=latent_key)
            return decoder.loss(obs, action, latent, key=loss_key)

        return jnp.mean(jax.vmap(draw)(jax.random.split(key, self.draws)))


def _split(phase: FitDecoder, dataset: Dataset, order: Int[Array, " E"]) -> tuple[Int[Array, " N"], Int[Array, " M"]]:
    """Row numbers of the flattened [E · L] data: (training, validation)."""
    count, length = dataset.episodes.valid.shape
    held = phase.held_out(count)
    rows = (order[:, None] * length + jnp.arange(length, dtype=jnp.int32)[None]).reshape(-1)
    return rows[held * length :], rows[: held * length]


def _flat(dataset: Dataset) -> tuple[Float[Array, "N D_o"], Float[Array, "N D_a"], Float[Array, " N"]]:
    e = dataset.episodes
    flat = lambda x: x.reshape(-1, x.shape[-1])  # noqa: E731
    return flat(e.obs), flat(e.action), e.valid.reshape(-1).astype(jnp.float32)


@eqx.filter_jit
def _prepared(phase: FitDecoder, decoder: AbstractDecoder, dataset: Dataset, order: Int[Array, " E"]) -> AbstractDecoder:
    """The decoder with its input statistics, from the training rows."""
    obs, _, valid = _flat(dataset)
    training, _ = _split(phase, dataset, order)
    weight = jnp.zeros_like(valid).at[training].set(valid[training])
    return trees.strong(decoder.observe(obs, weight))


@program
def epoch(phase: FitDecoder, each: tuple, state: tuple) -> tuple[tuple, dict[str, Float[Array, ""]]]:
    """One pass over the permuted training rows (what does not fill a batch waits for another epoch), then validation."""
    policy, dataset, order, key, validation_key = each
    decoder, optimizer, best, best_loss = state
    obs, action, valid = _flat(dataset)
    training, validation = _split(phase, dataset, order)
    shuffle_key, noise_key = jax.random.split(key)
    batches = training.shape[0] // phase.batch_size
    shuffled = jax.random.permutation(shuffle_key, training)[: batches * phase.batch_size].reshape(batches, phase.batch_size)
    transformation = phase._optimizer()

    def mean_loss(decoder: AbstractDecoder, rows: Int[Array, " N"], key: PRNGKeyArray) -> Float[Array, ""]:
        keys = jax.random.split(key, rows.shape[0])
        losses = jax.vmap(lambda o, a, k: phase.loss(decoder, policy, o, a, key=k))(obs[rows], action[rows], keys)
        weight = valid[rows]
        return jnp.sum(losses * weight) / jnp.maximum(jnp.sum(weight), 1.0)

    def step(carry: tuple, x: tuple) -> tuple[tuple, tuple]:
        decoder, optimizer = carry
        rows, key = x
        params, rest = eqx.partition(decoder, trainable(decoder))
        loss, grads = jax.value_and_grad(lambda p: mean_loss(eqx.combine(p, rest), rows, key))(params)
        updates, new_optimizer = transformation.update(grads, optimizer, params)
        new = (eqx.combine(eqx.apply_updates(params, updates), rest), new_optimizer)
        sound = trees.all_finite((loss, grads))
        return trees.choose(sound, new, (decoder, optimizer)), (jnp.where(sound, loss, 0.0), sound * jnp.sum(valid[rows]), 1.0 - sound)

    keys = jax.random.split(noise_key, batches)
    (decoder, optimizer), (losses, counts, skipped) = jax.lax.scan(step, (decoder, optimizer), (shuffled, keys))
    train_loss = jnp.sum(losses * counts) / jnp.sum(counts)  # NaN, which is never the best, if every update was skipped
    held_out_loss = _validation_loss(mean_loss, decoder, validation, valid, validation_key, phase.batch_size) if validation.shape[0] else train_loss
    better = held_out_loss < best_loss
    best, best_loss = trees.choose(better, decoder, best), jnp.where(better, held_out_loss, best_loss)
    metrics = {"loss/decoder": train_loss, "loss/decoder_validation": held_out_loss, "loss/decoder_best": best_loss, "updates_skipped": jnp.sum(skipped)}
    return (decoder, optimizer, best, best_loss), metrics


def _validation_loss(
    mean_loss: Any, decoder: AbstractDecoder, rows: Int[Array, " M"], valid: Float[Array, " N"], key: PRNGKeyArray, batch_size: int
) -> Float[Array, ""]:
    """In batches, so that memory does not grow with the data; the rows of the last partial batch are left out if there are others."""
    size = min(batch_size, rows.shape[0])
    batches = rows.shape[0] // size
    chunks = rows[: batches * size].reshape(batches, size)
    losses = jax.lax.map(lambda x: mean_loss(decoder, *x), (chunks, jax.random.split(key, batches)))
    counts = jnp.sum(valid[chunks], axis=1)
    return jnp.sum(losses * counts) / jnp.sum(counts)
