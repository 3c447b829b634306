"""Running mean and standard deviation of observations."""

import abc
from typing import TypeVar

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gorl.fields import require, structural
from gorl.state import PyTree

_Module = TypeVar("_Module", bound=eqx.Module)


class AbstractNormalizer(eqx.Module):
    """Standardizes one unbatched vector with running estimates of mean and variance.

    The estimates are not trained: `trainable` excludes them. `epsilon` is added to the variance. The output is clipped
    to [-clip, clip] (1e999: not at all). It is constructed as `Normalizer(size)` with everything else bound.
    """

    mean: eqx.AbstractVar[Float[Array, " D"]]
    count: eqx.AbstractVar[Float[Array, ""]]  # samples seen
    epsilon: eqx.AbstractVar[float]
    clip: eqx.AbstractVar[float]

    @property
    @abc.abstractmethod
    def variance(self) -> Float[Array, " D"]:
        """The estimate of the variance, before `epsilon` is added."""

    @abc.abstractmethod
    def update(self, x: Float[Array, "N D"], weight: Float[Array, " N"]) -> "AbstractNormalizer":
        """Returns the normalizer after one more batch. Rows of weight 0 do not count."""

    def __call__(self, x: Float[Array, " D"]) -> Float[Array, " D"]:
        fixed = jax.lax.stop_gradient(self)
        scaled = (x - fixed.mean) / jnp.sqrt(fixed.variance + fixed.epsilon)
        return jnp.clip(scaled, -fixed.clip, fixed.clip)


@gin.register(module="gorl", denylist=["size"])
class RunningNormalizer(AbstractNormalizer):
    """Standardizes with the mean and variance of everything seen so far.

    Batches are merged by the pairwise update of Chan, Golub and LeVeque (1979). It stores the sum of squared deviations
    rather than a variance, so the estimate after many batches is that of all the data.
    """

    mean: Float[Array, " D"]
    squares: Float[Array, " D"]  # sum of squared deviations from the mean
    count: Float[Array, ""]  # samples seen
    epsilon: float = structural()
    clip: float = structural()

    def __init__(self, size: int, *, epsilon: float, clip: float):
        self.mean = jnp.zeros((size,), jnp.float32)
        self.squares = jnp.zeros((size,), jnp.float32)
        self.count = jnp.zeros((), jnp.float32)
        self.epsilon, self.clip = _checked(self, epsilon, clip)

    @property
    def variance(self) -> Float[Array, " D"]:
        """Population variance, or 1 before any data."""
        return jnp.where(self.count > 0, self.squares / _divisor(self.count), 1.0)

    def update(self, x: Float[Array, "N D"], weight: Float[Array, " N"]) -> "RunningNormalizer":
        """Returns the normalizer with a batch merged in. Rows of weight 0 do not count."""
        mean, squares, n = _moments(x, weight)
        count = self.count + n
        shift = mean - self.mean
        share = n / _divisor(count)
        new = (self.mean + shift * share, self.squares + squares + shift**2 * self.count * share, count)
        return eqx.tree_at(lambda s: (s.mean, s.squares, s.count), self, new)


@gin.register(module="gorl", denylist=["size"])
class ShrinkingNormalizer(AbstractNormalizer):
    """A published defect, kept to measure its effect: the standard deviation shrinks like 1/sqrt(updates).

    The squared deviations of the latest batch alone are divided by the number of all samples ever seen. (The mean is
    right.) After n batches of one size the variance is 1/n of the true one, and a network's inputs grow like sqrt(n),
    up to `clip`. Use `RunningNormalizer` for anything else.
    """

    mean: Float[Array, " D"]
    squares: Float[Array, " D"]  # of the latest batch
    count: Float[Array, ""]  # samples seen
    epsilon: float = structural()
    clip: float = structural()

    def __init__(self, size: int, *, epsilon: float, clip: float):
        self.mean = jnp.zeros((size,), jnp.float32)
        self.squares = jnp.zeros((size,), jnp.float32)
        self.count = jnp.zeros((), jnp.float32)
        self.epsilon, self.clip = _checked(self, epsilon, clip)

    @property
    def variance(self) -> Float[Array, " D"]:
        """1 before any data, and too small after that."""
        return jnp.where(self.count > 0, self.squares / _divisor(self.count), 1.0)

    def update(self, x: Float[Array, "N D"], weight: Float[Array, " N"]) -> "ShrinkingNormalizer":
        """Returns the normalizer with the mean of all data and the deviations of this batch.

        A batch without weight changes nothing.
        """
        mean, squares, n = _moments(x, weight)
        count = self.count + n
        new = (self.mean + (mean - self.mean) * n / _divisor(count), jnp.where(n > 0, squares, self.squares), count)
        return eqx.tree_at(lambda s: (s.mean, s.squares, s.count), self, new)


def _checked(normalizer: AbstractNormalizer, epsilon: float, clip: float) -> tuple[float, float]:
    name = type(normalizer).__name__
    require(0 <= epsilon < float("inf"), f"{name}.epsilon = {epsilon}: it must be >= 0 and finite.")
    require(clip > 0, f"{name}.clip = {clip}: it must be > 0 (1e999: no clip).")
    return float(epsilon), float(clip)


def _moments(
    x: Float[Array, "N D"], weight: Float[Array, " N"]
) -> tuple[Float[Array, " D"], Float[Array, " D"], Float[Array, ""]]:
    """Returns (mean, sum of squared deviations from the mean, total weight) of one batch."""
    x = jnp.where(weight[:, None] > 0, x, 0.0)  # 0 times NaN is NaN
    n = jnp.sum(weight)
    # Sums rather than matrix products, which may round to TF32 and, on a CPU, add a million numbers one by one.
    total = lambda y: jnp.sum(weight[:, None] * y, axis=0)
    mean = total(x) / _divisor(n)
    return mean, total((x - mean[None]) ** 2), n


def _divisor(count: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.where(count > 0, count, 1.0)


def trainable(module: PyTree) -> PyTree:
    """Returns a filter for `eqx.partition` that selects a module's inexact arrays, except those of its normalizers."""

    def mark(leaf: PyTree) -> PyTree:
        if isinstance(leaf, AbstractNormalizer):
            return jax.tree.map(lambda _: False, leaf)
        return eqx.is_inexact_array(leaf)

    return jax.tree.map(mark, module, is_leaf=lambda x: isinstance(x, AbstractNormalizer))


def keep_statistics(new: _Module, old: PyTree) -> _Module:
    """Returns the module `new` with the statistics of `old`'s normalizers, in their order.

    Where the normalizers are not of the same number, kinds and sizes, `new` keeps its own.
    """
    is_normalizer = lambda x: isinstance(x, AbstractNormalizer)
    normalizers = lambda m: [x for x in jax.tree.leaves(m, is_leaf=is_normalizer) if is_normalizer(x)]
    arrays = lambda m: [(type(x), [a.shape for a in jax.tree.leaves(x)]) for x in normalizers(m)]
    if arrays(new) != arrays(old):
        return new
    known = iter(normalizers(old))
    keep = lambda x: jax.tree.unflatten(jax.tree.structure(x), jax.tree.leaves(next(known)))
    return jax.tree.map(lambda x: keep(x) if is_normalizer(x) else x, new, is_leaf=is_normalizer)


def update_normalizers(module: _Module, obs: Float[Array, "N D"], weight: Float[Array, " N"]) -> _Module:
    """Returns the module with all of its normalizers updated by observations. Rows of weight 0 do not count."""
    is_normalizer = lambda x: isinstance(x, AbstractNormalizer)
    update = lambda x: x.update(obs, weight) if is_normalizer(x) else x
    return jax.tree.map(update, module, is_leaf=is_normalizer)
