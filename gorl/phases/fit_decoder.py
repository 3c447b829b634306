"""Fit a new decoder to collected data by supervised regression."""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from gorl.decoders.base import AbstractDecoder
from gorl.environments.task import Task
from gorl.errors import did_you_mean
from gorl.fields import Factory, Scalar, factory, hyperparameter, require, structural
from gorl.networks import trainable
from gorl.optimizers import Optimizer, as_rate, build
from gorl.phases.base import AbstractPhase, PhaseContext, PhaseInputs, Unit, require_units
from gorl.phases.latents import AbstractLatents
from gorl.phases.selection import AbstractSelection
from gorl.runtime import devices, trees
from gorl.runtime.programs import program
from gorl.state import Dataset, RunState, Spaces


class FitState(eqx.Module):
    run: RunState  # its decoder is the old one
    decoder: AbstractDecoder
    optimizer: Any
    best: AbstractDecoder
    best_loss: Float[Array, "*S"]
    rows: "Rows"


class Rows(eqx.Module):
    """Row numbers of the flattened [E · L] data, and every row's weight."""

    training: Int[Array, "*S N"]
    validation: Int[Array, "*S M"]
    weight: Float[Array, "*S E_L"]


def _whole_episodes(
    phase: "FitDecoder", chosen: Int[Array, " C"], length: int, key: PRNGKeyArray
) -> tuple[Int[Array, " N"], Int[Array, " M"]]:
    """(training, validation): what validates are whole episodes."""
    held = phase.held_out(chosen.shape[0])
    order = jax.random.permutation(key, chosen)
    rows = (order[:, None] * length + jnp.arange(length, dtype=jnp.int32)[None]).reshape(-1)
    return rows[held * length :], rows[: held * length]


def _single_rows(
    phase: "FitDecoder", chosen: Int[Array, " C"], length: int, key: PRNGKeyArray
) -> tuple[Int[Array, " N"], Int[Array, " M"]]:
    """(training, validation): neighbours of a training row validate, so overfitting goes unseen (a published defect)."""
    rows = (chosen[:, None] * length + jnp.arange(length, dtype=jnp.int32)[None]).reshape(-1)
    rows = jax.random.permutation(key, rows)
    held = phase.held_out(chosen.shape[0]) * length
    return rows[held:], rows[:held]


CACHED_DRAWS = 4096
"""Rows of activations at a time that were fastest on a CPU, for layers 64 wide. Another size:
`experiments/benchmarks/fit_speed.py --set "FitDecoder.micro_batch_size = 256"`."""

SPLITS = {"episodes": _whole_episodes, "rows": _single_rows}


@gin.register(module="gorl")
class FitDecoder(AbstractPhase):
    """A new decoder, `epochs` over the dataset, the weights of the best validation loss kept.

    `selection` says which of the collected episodes are used and how much each step counts. `draws`: latents (and times)
    per sample and step. `micro_batch_size`: how many of a batch's samples are computed at a time, their gradients summed (0: all;
    None: as many as suit the device where the run begins, which keeps that number).
    `validation_fraction` is held out, of the 'episodes' or of the 'rows' as `split` says, with noise
    that is the same at every epoch; at 0 the newest weights are kept. `max_samples`: a random part of the training rows of this
    size (0: all of them). Each unit is one epoch.
    """

    decoder: Factory = factory()
    latents: AbstractLatents
    selection: AbstractSelection
    optimizer: Optimizer
    learning_rate: Any = eqx.field(converter=as_rate)
    max_grad_norm: Scalar = hyperparameter()
    epochs: int = structural()
    batch_size: int = structural()
    draws: int = structural()
    validation_fraction: float = structural()
    split: str = structural()
    max_samples: int = structural()
    micro_batch_size: int | None = structural(default=None)

    settled_when_begun: ClassVar[dict[str, Callable[[dict[str, Any]], Any]]] = {
        "micro_batch_size": lambda bound: _suited(bound["micro_batch_size"], bound["draws"])
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
        for name in ("epochs", "batch_size", "draws"):
            require(getattr(self, name) >= 1, f"FitDecoder.{name} = {getattr(self, name)}: it must be >= 1.")
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
            f"FitDecoder.batch_size = {self.batch_size}, but the collected data will be {inputs.episodes} episodes of {inputs.episode_length}"
            f" steps, of which {training} steps are for training. Lower FitDecoder.batch_size or raise CollectRollouts.env_steps.",
        )
        require(
            self.max_samples == 0 or self.max_samples >= self.batch_size,
            f"FitDecoder.max_samples = {self.max_samples}: it must be at least FitDecoder.batch_size = {self.batch_size}, or 0 for all.",
        )
        return PhaseInputs(has_policy=inputs.has_policy)

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
        decoder = self.create(context.task.environment.spaces(), run.decoder, key=context.key("init"))
        decoder, rows = _prepared(self, decoder, run.dataset, context.key("split"))
        optimizer = self._optimizer().init(eqx.filter(decoder, trainable(decoder)))
        infinite = jnp.asarray(jnp.inf, jnp.float32)
        return FitState(run, decoder, optimizer, decoder, infinite, rows)

    def _optimizer(self) -> Any:
        return build(self.optimizer, self.learning_rate, self.max_grad_norm)

    def epoch(self, context: PhaseContext, state: FitState, index: int) -> tuple[FitState, dict[str, Any]]:
        # The dataset and the modules of other roles are only read: they stay out of what is donated.
        each = (state.run.policy, state.run.dataset, state.rows, context.key("epoch", index), context.key("validation"))
        moving = (state.decoder, state.optimizer, state.best, state.best_loss)
        (decoder, optimizer, best, best_loss), metrics = epoch(self, each, moving)
        return FitState(state.run, decoder, optimizer, best, best_loss, state.rows), metrics

    def finish(self, context: PhaseContext, state: FitState) -> RunState:
        del context
        run = state.run
        return RunState(state.best, run.policy, run.best, run.learner)

    def loss(
        self,
        decoder: AbstractDecoder,
        policy: Any,
        obs: Float[Array, " D_o"],
        action: Float[Array, " D_a"],
        *,
        key: PRNGKeyArray,
        validation: bool = False,
    ) -> Float[Array, ""]:
        """The decoder's loss, or its validation loss, at one sample: the mean over `draws`."""
        loss = decoder.validation_loss if validation else decoder.loss

        def draw(key: PRNGKeyArray) -> Float[Array, ""]:
            latent_key, loss_key = jax.random.split(key)
            latent = self.latents.sample(policy, obs, decoder.latent_size, key=latent_key)
            return loss(obs, action, latent, key=loss_key)

        return jnp.mean(jax.vmap(draw)(jax.random.split(key, self.draws)))


def _flat(dataset: Dataset) -> tuple[Float[Array, "N D_o"], Float[Array, "N D_a"]]:
    """Every step's observation and action; 0 where it is not valid: such rows are drawn too, with weight 0, and 0 times NaN is NaN."""
    episodes = dataset.episodes
    flat = lambda x: jnp.where(episodes.valid[..., None], x, 0.0).reshape(-1, x.shape[-1])
    return flat(episodes.obs), flat(episodes.action)


@eqx.filter_jit
def _prepared(
    phase: FitDecoder, decoder: AbstractDecoder, dataset: Dataset, key: PRNGKeyArray
) -> tuple[AbstractDecoder, Rows]:
    """The decoder with its input statistics from the training rows, and the rows."""
    episodes, select = dataset.episodes, phase.selection
    training, validation = SPLITS[phase.split](phase, select.choose(episodes), episodes.valid.shape[1], key)
    if 0 < phase.max_samples < training.shape[0]:
        training = jax.random.permutation(jax.random.fold_in(key, 1), training)[: phase.max_samples]
    weight = select.weight(episodes).reshape(-1)
    valid = episodes.valid.reshape(-1).astype(jnp.float32)
    seen = jnp.zeros_like(valid).at[training].set(valid[training])
    return trees.strip_weak_types((decoder.observe(_flat(dataset)[0], seen), Rows(training, validation, weight)))


@program
def epoch(phase: FitDecoder, each: tuple, state: tuple) -> tuple[tuple, dict[str, Float[Array, ""]]]:
    """One pass over the permuted training rows (what does not fill a batch waits for another epoch), then validation."""
    policy, dataset, split, key, validation_key = each
    decoder, optimizer, best, best_loss = state
    obs, action = _flat(dataset)
    training, validation, weights = split.training, split.validation, split.weight
    shuffle_key, noise_key = jax.random.split(key)
    batches = training.shape[0] // phase.batch_size
    shuffled = jax.random.permutation(shuffle_key, training)[: batches * phase.batch_size].reshape(
        batches, phase.batch_size
    )
    transformation = phase._optimizer()
    piece = _suited(phase.micro_batch_size, phase.draws)

    def share(
        decoder: AbstractDecoder,
        rows: Int[Array, " N"],
        keys: Key[Array, " N"],
        total: Float[Array, ""],
        validation: bool = False,
    ) -> Float[Array, ""]:
        """Of the rows' weighted losses in a mean over rows of the weight `total`."""
        rows = devices.shard(rows)
        loss = lambda o, a, k: phase.loss(decoder, policy, o, a, key=k, validation=validation)
        losses = jax.vmap(loss)(obs[rows], action[rows], keys)
        return jnp.sum(losses * weights[rows]) / jnp.where(total > 0, total, 1.0)

    def validation_loss(decoder: AbstractDecoder, rows: Int[Array, " N"], key: PRNGKeyArray) -> Float[Array, ""]:
        total = jnp.sum(weights[rows])
        return _accumulated(lambda *x: share(decoder, *x, total, validation=True), piece, rows, key)

    def step(carry: tuple, x: tuple) -> tuple[tuple, tuple]:
        decoder, optimizer = carry
        rows, key = x
        params, rest = eqx.partition(decoder, trainable(decoder))
        total = jnp.sum(weights[rows])
        gradient = jax.value_and_grad(lambda p, *x: share(eqx.combine(p, rest), *x, total))
        loss, grads = _accumulated(lambda *x: gradient(params, *x), piece, rows, key)
        updates, new_optimizer = transformation.update(grads, optimizer, params)
        new = (eqx.combine(eqx.apply_updates(params, updates), rest), new_optimizer)
        sound = trees.all_finite((loss, grads, new))
        return trees.choose(sound, new, (decoder, optimizer)), (
            jnp.where(sound, loss, 0.0),
            sound * jnp.sum(weights[rows]),
            1.0 - sound,
        )

    keys = jax.random.split(noise_key, batches)
    (decoder, optimizer), (losses, counts, skipped) = jax.lax.scan(step, (decoder, optimizer), (shuffled, keys))
    train_loss = jnp.sum(losses * counts) / jnp.sum(counts)  # NaN if every update was skipped
    if validation.shape[0]:
        held_out_loss = _validation_loss(
            validation_loss, decoder, validation, weights, validation_key, phase.batch_size
        )
        better = held_out_loss < best_loss
    else:  # nothing to choose by
        held_out_loss, better = train_loss, jnp.isfinite(train_loss)
    best, best_loss = trees.choose(better, decoder, best), jnp.where(better, held_out_loss, best_loss)
    metrics = {
        "loss/decoder": train_loss,
        "loss/decoder_validation": held_out_loss,
        "loss/decoder_best": best_loss,
        "updates_skipped": jnp.sum(skipped),
    }
    useless = (jnp.sum(counts) == 0) | ~jnp.isfinite(
        held_out_loss
    )  # no sound update, no valid row in any, or nothing to choose by
    metrics["diverged"] = useless.astype(jnp.float32)
    return (decoder, optimizer, best, best_loss), metrics


def _suited(size: int | None, draws: int) -> int:
    """The micro-batch size, where it was left to the device: pieces whose activations stay in a CPU's cache, or all at once."""
    if size is not None:
        return size
    return max(1, CACHED_DRAWS // draws) if jax.default_backend() == "cpu" else 0


def _accumulated(function: Any, size: int, rows: Int[Array, " N"], key: PRNGKeyArray) -> Any:
    """function(rows, keys), a sum over rows, from pieces of `size` rows (0: all at once)."""
    data = (rows, jax.random.split(key, rows.shape[0]))
    if size == 0 or size >= rows.shape[0]:
        return function(*data)
    pieces = rows.shape[0] // size
    part = lambda begin, end: jax.tree.map(lambda x: x[begin:end], data)
    whole = jax.tree.map(lambda x: x.reshape(pieces, size, *x.shape[1:]), part(0, pieces * size))
    add = lambda total, piece: jax.tree.map(jnp.add, total, piece)
    zero = jax.tree.map(jnp.zeros_like, eqx.filter_eval_shape(function, *part(0, size)))
    total = jax.lax.scan(lambda total, x: (add(total, function(*x)), None), zero, whole)[0]
    return add(total, function(*part(pieces * size, None))) if pieces * size < rows.shape[0] else total


def _validation_loss(
    mean_loss: Any,
    decoder: AbstractDecoder,
    rows: Int[Array, " M"],
    weights: Float[Array, " N"],
    key: PRNGKeyArray,
    batch_size: int,
) -> Float[Array, ""]:
    """In batches, so that memory does not grow with the data; the rows of the last partial batch are left out if there are others."""
    size = min(batch_size, rows.shape[0])
    batches = rows.shape[0] // size
    chunks = rows[: batches * size].reshape(batches, size)
    losses = jax.lax.map(lambda x: mean_loss(decoder, *x), (chunks, jax.random.split(key, batches)))
    counts = jnp.sum(weights[chunks], axis=1)
    return jnp.sum(losses * counts) / jnp.sum(counts)
