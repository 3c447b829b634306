"""Fit a new decoder to collected data by supervised regression."""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from gorl import optimizers
from gorl.decoders.base import AbstractDecoder, require_decoder
from gorl.environments.task import Task
from gorl.errors import did_you_mean
from gorl.fields import Factory, Scalar, factory, hyperparameter, require, structural
from gorl.networks import sealed, trainable
from gorl.optimizers import Optimizer, build_transformation, require_grad_norm
from gorl.phases.base import AbstractPhase, PhaseContext, PhaseInputs, Unit, require_units
from gorl.phases.batching import SPLITS, accumulate, mean_over_batches, resolve_micro_batch_size
from gorl.phases.latents import AbstractLatents, DataSource, Row
from gorl.phases.selection import AbstractSelection
from gorl.runtime import devices, trees
from gorl.runtime.programs import program
from gorl.state import Dataset, PyTree, RunState, Spaces


class FitState(eqx.Module):
    """The state between epochs."""

    run: RunState  # with the previous decoder
    decoder: AbstractDecoder
    optimizer: PyTree
    best: AbstractDecoder
    best_loss: Float[Array, "*S"]
    rows: "Rows"


class Rows(eqx.Module):
    """Indices of training and validation rows in the flattened [E · L] data, and the weight of every row."""

    training: Int[Array, "*S N"]
    validation: Int[Array, "*S M"]
    weight: Float[Array, "*S E_L"]


@gin.register(module="gorl")
class FitDecoder(AbstractPhase):
    """Fits a new decoder for `epochs` over the dataset, and keeps the weights of the best validation loss.

    `selection` says which of the collected episodes are used and with what weight each step counts. `draws` is the
    number of latents (and times) per sample and step. `micro_batch_size` is the number of a batch's samples that are
    computed at a time, with gradients summed over them (0: all; None: the number that suits the device where the run
    begins, which the run then keeps). `validation_fraction` of the 'episodes' or of the 'rows', as `split` says, is
    held out and evaluated with the same noise at every epoch; at 0 the newest weights are kept. `max_samples` limits
    training to a random subset of this many rows (0: all of them). With `anneal`, the learning rate falls to 0 over all
    epochs along half a cosine (Loshchilov and Hutter, arXiv 1608.03983, without restarts). Each unit is one epoch.
    """

    decoder: Factory = factory()
    latents: AbstractLatents
    selection: AbstractSelection
    optimizer: Optimizer = optimizers.optimizer()
    learning_rate: Any = optimizers.rate()
    max_grad_norm: Scalar = hyperparameter()
    epochs: int = structural()
    batch_size: int = structural()
    draws: int = structural()
    validation_fraction: float = structural()
    split: str = structural()
    max_samples: int = structural()
    micro_batch_size: int | None = structural(default=None)
    anneal: bool = structural(default=False)  # runs from before there was a choice do not

    settled_when_begun: ClassVar[dict[str, Callable[[dict[str, Any]], Any]]] = {
        "micro_batch_size": lambda bound: resolve_micro_batch_size(bound["micro_batch_size"], bound["draws"])
    }

    def __check_init__(self):
        require(
            self.split in SPLITS,
            f"FitDecoder.split = {self.split!r}: it is 'episodes' or 'rows'.{did_you_mean(self.split, SPLITS)}",
        )
        for name, kind in (("latents", AbstractLatents), ("selection", AbstractSelection)):
            value = getattr(self, name)
            require(
                isinstance(value, kind),
                f"FitDecoder.{name} is {value!r}, not an object; did you forget '()' after its name?",
            )

    def check(self, task: Task, inputs: PhaseInputs) -> PhaseInputs:
        require(inputs.episodes > 0, "FitDecoder has no data: put a CollectRollouts phase before it.")
        self.latents.check(inputs)
        for name in ("epochs", "batch_size", "draws"):
            require(getattr(self, name) >= 1, f"FitDecoder.{name} = {getattr(self, name)}: it must be >= 1.")
        require_grad_norm(self.max_grad_norm)
        require_units(self.epochs, f"FitDecoder.epochs = {self.epochs}", "Lower it.")
        size = self.micro_batch_size
        require(
            size is None or size >= 0,
            f"FitDecoder.micro_batch_size = {size}: it must be >= 0 (0: a whole batch), or None.",
        )
        require(self.max_samples >= 0, f"FitDecoder.max_samples = {self.max_samples}: it must be >= 0 (0: all).")
        require(
            0 <= self.validation_fraction < 1,
            f"FitDecoder.validation_fraction = {self.validation_fraction}: it must be in [0, 1).",
        )
        kept = self.selection.count(inputs.episodes)
        training = (kept - self.held_out(kept)) * inputs.episode_length
        require(
            training >= self.batch_size,
            f"FitDecoder.batch_size = {self.batch_size}, but the collected data will be {inputs.episodes} episodes of"
            f" {inputs.episode_length} steps, of which {training} steps are for training."
            " Lower FitDecoder.batch_size or raise CollectRollouts.env_steps.",
        )
        require(
            self.max_samples == 0 or self.max_samples >= self.batch_size,
            f"FitDecoder.max_samples = {self.max_samples}: it must be at least"
            f" FitDecoder.batch_size = {self.batch_size}, or 0 for all.",
        )
        return PhaseInputs(has_policy=inputs.has_policy)

    def create(self, spaces: Spaces, decoder: AbstractDecoder, *, key: PRNGKeyArray) -> AbstractDecoder:
        del decoder
        self.latents.check_spaces(spaces)
        return sealed(require_decoder(self.decoder(spaces.observation, spaces.action, key=key), "FitDecoder.decoder"))

    def units(self, task: Task) -> tuple[Unit, ...]:
        del task
        return (Unit("epoch", self.epoch, subset="fit", axis="units"),) * self.epochs

    def held_out(self, episodes: int) -> int:
        """Returns how many of `episodes` are held out for validation."""
        return 0 if self.validation_fraction == 0 else max(1, round(self.validation_fraction * episodes))

    def is_idle(self, run: RunState) -> bool:
        return run.is_without_gain

    def start(self, context: PhaseContext, run: RunState) -> FitState:
        decoder = self.create(context.task.environment.spaces(), run.decoder, key=context.key("init"))
        decoder, rows = _prepare(self, decoder, run.dataset, context.key("split"))
        optimizer = self.transformation().init(eqx.filter(decoder, trainable(decoder)))
        infinite = jnp.asarray(jnp.inf, jnp.float32)
        return FitState(run, decoder, optimizer, decoder, infinite, rows)

    def transformation(self) -> optax.GradientTransformation:
        """Builds the optimizer. Its numbers are arrays, so this belongs inside the compiled program."""
        return build_transformation(self.optimizer, self.learning_rate, self.max_grad_norm)

    def epoch(self, context: PhaseContext, state: FitState, index: int) -> tuple[FitState, dict[str, Array]]:
        # The dataset and the other modules are only read, so they are not donated.
        run = state.run
        data = (run.policy, run.decoder, run.learner, run.dataset)
        progress = context.for_each(index).astype(np.float32) / self.epochs
        each = (data, state.rows, progress, context.key("epoch", index), context.key("validation"))
        updated = (state.decoder, state.optimizer, state.best, state.best_loss)
        (decoder, optimizer, best, best_loss), metrics = epoch((self, context.task), each, updated)
        return FitState(run, decoder, optimizer, best, best_loss, state.rows), metrics

    def finish(self, context: PhaseContext, state: FitState) -> RunState:
        del context
        run = state.run
        return RunState(state.best, run.policy, run.best, run.learner, replay=run.replay)

    def loss(
        self,
        decoder: AbstractDecoder,
        source: DataSource,
        row: Row,
        *,
        key: PRNGKeyArray,
        validation: bool = False,
    ) -> Float[Array, ""]:
        """Returns the decoder's loss, or its validation loss, at one sample: the mean over `draws`."""
        loss = decoder.validation_loss if validation else decoder.loss

        def draw(key: PRNGKeyArray) -> Float[Array, ""]:
            latent_key, loss_key = jax.random.split(key)
            latent, action = self.latents.pair(source, row, decoder.latent_size, key=latent_key)
            return loss(row.obs, action, latent, key=loss_key)

        return jnp.mean(jax.vmap(draw)(jax.random.split(key, self.draws)))


def _flatten_dataset(dataset: Dataset) -> Row:
    """Returns every step's observation, action and noise [N, ...], which are 0 at invalid steps.

    Invalid rows are drawn too, with weight 0, and 0 times NaN would be NaN.
    """
    episodes = dataset.episodes
    flat = lambda x: jnp.where(episodes.valid[..., None], x, 0.0).reshape(-1, x.shape[-1])
    return jax.tree.map(flat, Row(episodes.obs, episodes.action, episodes.noise))


@eqx.filter_jit
def _prepare(
    phase: FitDecoder, decoder: AbstractDecoder, dataset: Dataset, key: PRNGKeyArray
) -> tuple[AbstractDecoder, Rows]:
    """Returns the decoder with its input statistics from the training rows, and the rows."""
    episodes, selection = dataset.episodes, phase.selection
    chosen, length = selection.choose(episodes), episodes.valid.shape[1]
    training, validation = SPLITS[phase.split](chosen, length, phase.held_out(chosen.shape[0]), key)
    if 0 < phase.max_samples < training.shape[0]:
        training = jax.random.permutation(jax.random.fold_in(key, 1), training)[: phase.max_samples]
    weight = selection.weight(episodes).reshape(-1)
    valid = episodes.valid.reshape(-1).astype(jnp.float32)
    observed = jnp.zeros_like(valid).at[training].set(valid[training])
    return trees.strip_weak_types(
        (decoder.observe(_flatten_dataset(dataset).obs, observed), Rows(training, validation, weight))
    )


@program
def epoch(shared: tuple, each: tuple, state: tuple) -> tuple[tuple, dict[str, Float[Array, ""]]]:
    """Trains on the permuted training rows, without those that do not fill a batch, and then validates."""
    (phase, task), ((policy, old_decoder, learner, dataset), split, progress, key, validation_key) = shared, each
    decoder, optimizer, best, best_loss = state
    source = DataSource(policy, old_decoder, learner, task.action_bound)
    data = _flatten_dataset(dataset)
    training, validation, weights = split.training, split.validation, split.weight
    shuffle_key, noise_key = jax.random.split(key)
    batches = training.shape[0] // phase.batch_size
    shuffled = jax.random.permutation(shuffle_key, training)[: batches * phase.batch_size]
    shuffled = shuffled.reshape(batches, phase.batch_size)
    transformation = phase.transformation()
    micro_batch_size = resolve_micro_batch_size(phase.micro_batch_size, phase.draws)

    def contribution(
        decoder: AbstractDecoder,
        rows: Int[Array, " N"],
        keys: Key[Array, " N"],
        total: Float[Array, ""],
        validation: bool = False,
    ) -> Float[Array, ""]:
        """Returns these rows' contribution to the weighted mean loss, where all weights sum to `total`."""
        rows = devices.shard(rows)
        loss = lambda row, k: phase.loss(decoder, source, row, key=k, validation=validation)
        losses = jax.vmap(loss)(jax.tree.map(lambda x: x[rows], data), keys)
        return jnp.sum(losses * weights[rows]) / jnp.where(total > 0, total, 1.0)

    def validation_loss(rows: Int[Array, " N"], key: PRNGKeyArray) -> Float[Array, ""]:
        total = jnp.sum(weights[rows])
        return accumulate(lambda *x: contribution(decoder, *x, total, validation=True), micro_batch_size, rows, key)

    def step(carry: tuple, x: tuple) -> tuple[tuple, tuple]:
        decoder, optimizer = carry
        rows, key, done = x
        params, rest = eqx.partition(decoder, trainable(decoder))
        total = jnp.sum(weights[rows])
        gradient = jax.value_and_grad(lambda p, *x: contribution(eqx.combine(p, rest), *x, total))
        loss, grads = accumulate(lambda *x: gradient(params, *x), micro_batch_size, rows, key)
        updates, new_optimizer = transformation.update(grads, optimizer, params)
        if phase.anneal:
            scale = 0.5 * (1.0 + jnp.cos(jnp.pi * (progress + done / phase.epochs)))
            updates = jax.tree.map(lambda u: scale * u, updates)
        new = (eqx.combine(eqx.apply_updates(params, updates), rest), new_optimizer)
        accepted = trees.all_finite((loss, grads, new))
        metrics = (jnp.where(accepted, loss, 0.0), accepted * jnp.sum(weights[rows]), 1.0 - accepted)
        return trees.where(accepted, new, (decoder, optimizer)), metrics

    steps = (shuffled, jax.random.split(noise_key, batches), jnp.arange(batches) / batches)
    (decoder, optimizer), (losses, counts, skipped) = jax.lax.scan(step, (decoder, optimizer), steps)
    train_loss = jnp.sum(losses * counts) / jnp.sum(counts)  # NaN if every update was skipped
    if validation.shape[0]:
        held_out_loss = mean_over_batches(validation_loss, validation, weights, validation_key, phase.batch_size)
        better = held_out_loss < best_loss
    else:  # without validation data the newest weights are kept
        held_out_loss, better = train_loss, jnp.isfinite(train_loss)
    best, best_loss = trees.where(better, decoder, best), jnp.where(better, held_out_loss, best_loss)
    metrics = {
        "loss/decoder": train_loss,
        "loss/decoder_validation": held_out_loss,
        "loss/decoder_best": best_loss,
        "updates_skipped": jnp.sum(skipped),
    }
    # Every update was skipped, no batch had a valid row, or the loss by which weights are chosen is not finite.
    diverged = (jnp.sum(counts) == 0) | ~jnp.isfinite(held_out_loss)
    metrics["diverged"] = diverged.astype(jnp.float32)
    return (decoder, optimizer, best, best_loss), metrics
