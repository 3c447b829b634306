"""Row splits of collected data, and sums over rows that are accumulated in micro-batches."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from gorl.state import PyTree

ACTIVATION_ROWS = 4096
"""Number of activation rows per micro-batch that measured fastest on a CPU with 64-wide layers. To measure another
size, run `experiments/benchmarks/fit_speed.py --set "FitDecoder.micro_batch_size = 256"`."""


def split_episodes(
    chosen: Int[Array, " C"], length: int, held_out: int, key: PRNGKeyArray
) -> tuple[Int[Array, " N"], Int[Array, " M"]]:
    """Splits the rows of the chosen episodes into (training, validation), where `held_out` whole episodes validate.

    Episode e of `length` steps has the rows e · length to (e + 1) · length - 1.
    """
    rows = _rows(jax.random.permutation(key, chosen), length)
    return rows[held_out * length :], rows[: held_out * length]


def split_rows(
    chosen: Int[Array, " C"], length: int, held_out: int, key: PRNGKeyArray
) -> tuple[Int[Array, " N"], Int[Array, " M"]]:
    """Splits like `split_episodes`, but holds out as many single rows (a published defect).

    Neighbors of a training row then validate, so overfitting goes unnoticed.
    """
    rows = jax.random.permutation(key, _rows(chosen, length))
    return rows[held_out * length :], rows[: held_out * length]


def _rows(episodes: Int[Array, " C"], length: int) -> Int[Array, " C_L"]:
    return (episodes[:, None] * length + jnp.arange(length, dtype=jnp.int32)[None]).reshape(-1)


SPLITS = {"episodes": split_episodes, "rows": split_rows}


def resolve_micro_batch_size(size: int | None, draws: int) -> int:
    """Returns `size`, or if it is None, the size that suits the device.

    On a CPU the activations of a micro-batch, with `draws` per row, then stay in cache. Elsewhere it is 0, a whole
    batch.
    """
    if size is not None:
        return size
    return max(1, ACTIVATION_ROWS // draws) if jax.default_backend() == "cpu" else 0


def accumulate(
    function: Callable[[Int[Array, " N"], Key[Array, " N"]], PyTree],
    micro_batch_size: int,
    rows: Int[Array, " N"],
    key: PRNGKeyArray,
) -> PyTree:
    """Computes `function(rows, keys)`, which is a sum over rows, from micro-batches of rows (0: all rows at once)."""
    size, data = micro_batch_size, (rows, jax.random.split(key, rows.shape[0]))
    if size == 0 or size >= rows.shape[0]:
        return function(*data)
    count = rows.shape[0] // size
    part = lambda begin, end: jax.tree.map(lambda x: x[begin:end], data)
    micro_batches = jax.tree.map(lambda x: x.reshape(count, size, *x.shape[1:]), part(0, count * size))
    add = lambda total, term: jax.tree.map(jnp.add, total, term)
    zero = jax.tree.map(jnp.zeros_like, eqx.filter_eval_shape(function, *part(0, size)))
    total = jax.lax.scan(lambda total, x: (add(total, function(*x)), None), zero, micro_batches)[0]
    return add(total, function(*part(count * size, None))) if count * size < rows.shape[0] else total


def mean_over_batches(
    mean_loss: Callable[[Int[Array, " B"], Key[Array, ""]], Float[Array, ""]],
    rows: Int[Array, " M"],
    weights: Float[Array, " N"],
    key: PRNGKeyArray,
    batch_size: int,
) -> Float[Array, ""]:
    """Returns the weighted mean of a loss over rows, computed in batches, so that memory does not grow with the data.

    `mean_loss(rows, key)` is the weighted mean over one batch. Rows that do not fill a batch are left out, unless there
    is no full batch.
    """
    size = min(batch_size, rows.shape[0])
    count = rows.shape[0] // size
    batches = rows[: count * size].reshape(count, size)
    losses = jax.lax.map(lambda x: mean_loss(*x), (batches, jax.random.split(key, count)))
    totals = jnp.sum(weights[batches], axis=1)
    return jnp.sum(losses * totals) / jnp.sum(totals)
