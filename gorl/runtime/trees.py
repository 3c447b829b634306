"""Small helpers on pytrees."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

PyTree = Any
"""Any pytree. `Any` itself, because everything is one."""
AnyArray = jax.Array | np.ndarray | np.generic
"""Whatever `eqx.is_array` accepts."""


def strip_weak_types(tree: PyTree) -> PyTree:
    """Strips weak types from every array, so that a state has one type from its first step to its last."""
    return jax.tree.map(lambda x: _strong(x) if eqx.is_array(x) else x, tree)


def _strong(x: AnyArray) -> Array:
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else jax.lax.convert_element_type(x, x.dtype)


@eqx.filter_jit
def unshare_buffers(tree: PyTree) -> PyTree:
    """Copies every array, so that no two leaves share a buffer and the tree can be donated."""
    return jax.tree.map(lambda x: jnp.array(x, copy=True) if eqx.is_array(x) else x, tree)


def zeros(shapes: PyTree) -> PyTree:
    """Returns a tree of zeros on the host, shaped like a tree of ShapeDtypeStruct (typed keys too)."""

    def zero(shape: object) -> object:
        if not isinstance(shape, jax.ShapeDtypeStruct):
            return shape
        if jnp.issubdtype(shape.dtype, jax.dtypes.prng_key):
            data = jax.eval_shape(jax.random.key_data, shape)
            return jax.random.wrap_key_data(np.zeros(data.shape, data.dtype))
        return np.zeros(shape.shape, shape.dtype)

    return jax.tree.map(zero, shapes)


def where_rows(mask: Bool[Array, " B"], new: PyTree, old: PyTree) -> PyTree:
    """Takes the rows of `new` where the mask is set, and those of `old` elsewhere.

    Leaves without a batch axis (such as Warp's) keep their old value.
    """

    def choose(n: object, o: object) -> object:
        if not eqx.is_array(o) or o.ndim == 0 or o.shape[0] != mask.shape[0]:
            return o
        return jnp.where(mask.reshape(mask.shape + (1,) * (o.ndim - 1)), n, o)

    return jax.tree.map(choose, new, old)


def fill_invalid_rows(valid: Bool[Array, " N"], tree: PyTree) -> PyTree:
    """Replaces every invalid row of arrays [N, ...] with a copy of the first valid row.

    Then neither the values nor the gradients of invalid rows reach anything. Weight 0 would not be enough where a
    number is not finite: 0 times NaN is NaN. If no row is valid, all become copies of the first row.
    """
    # An array of indices: from rows on many devices XLA then fetches one, not all of them.
    first = jnp.argmax(valid)[None]

    def fill(x: Array) -> Array:
        return jnp.where(valid.reshape(valid.shape + (1,) * (x.ndim - 1)), x, x.at[first].get(mode="promise_in_bounds"))

    return jax.tree.map(fill, tree)


def take_rows(tree: PyTree, index: Array, size: int) -> PyTree:
    """Takes the rows `index` of every array whose leading axis has `size` entries. Other leaves are unchanged."""
    return jax.tree.map(lambda x: x[index] if eqx.is_array(x) and x.ndim > 0 and x.shape[0] == size else x, tree)


def where(flag: Bool[Array, ""], new: PyTree, old: PyTree) -> PyTree:
    """Returns every array of `new` if the scalar flag is set, else that of `old`."""
    return jax.tree.map(lambda n, o: jnp.where(flag, n, o) if eqx.is_array(o) else o, new, old)


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether every inexact array of the tree is finite."""
    leaves = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree) if eqx.is_inexact_array(x)]
    return jnp.all(jnp.stack(leaves)) if leaves else jnp.asarray(True)
