"""Small helpers on pytrees."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool


def strip_weak_types(tree: Any) -> Any:
    """Strips weak types from every array, so that a state has one type from its first step to its last."""
    return jax.tree.map(lambda x: _strong(x) if eqx.is_array(x) else x, tree)


def _strong(x: Any) -> Array:
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else jax.lax.convert_element_type(x, x.dtype)


@eqx.filter_jit
def unshare_buffers(tree: Any) -> Any:
    """Copies every array, so that no two leaves share a buffer and the tree can be donated."""
    return jax.tree.map(lambda x: jnp.array(x, copy=True) if eqx.is_array(x) else x, tree)


def zeros(shapes: Any) -> Any:
    """A tree of host zeros in the shape of a tree of ShapeDtypeStruct (typed keys too)."""

    def zero(s: Any) -> Any:
        if not isinstance(s, jax.ShapeDtypeStruct):
            return s
        if jnp.issubdtype(s.dtype, jax.dtypes.prng_key):
            data = jax.eval_shape(jax.random.key_data, s)
            return jax.random.wrap_key_data(np.zeros(data.shape, data.dtype))
        return np.zeros(s.shape, s.dtype)

    return jax.tree.map(zero, shapes)


def where_rows(mask: Bool[Array, " B"], new: Any, old: Any) -> Any:
    """Takes each row of `new` where the mask is set. Leaves without a batch axis (as Warp's) keep their old value."""

    def choose(n: Any, o: Any) -> Any:
        if not eqx.is_array(o) or o.ndim == 0 or o.shape[0] != mask.shape[0]:
            return o
        return jnp.where(mask.reshape(mask.shape + (1,) * (o.ndim - 1)), n, o)

    return jax.tree.map(choose, new, old)


def fill_invalid_rows(valid: Bool[Array, " N"], tree: Any) -> Any:
    """Rows [N, ...] that are not valid, as copies of the first that is: what they held reaches nothing, a gradient neither
    (where a number is not finite, weight 0 is not enough: 0 times NaN is NaN). Without a valid row they are all the first one."""
    first = jnp.argmax(valid)[
        None
    ]  # an array of indices: from rows on many devices XLA then fetches one, not all of them

    def mend(x: Any) -> Any:
        return jnp.where(valid.reshape(valid.shape + (1,) * (x.ndim - 1)), x, x.at[first].get(mode="promise_in_bounds"))

    return jax.tree.map(mend, tree)


def take_rows(tree: Any, index: Array, size: int) -> Any:
    """The rows `index` of every leaf whose leading axis has `size` entries; other leaves as they are."""
    return jax.tree.map(lambda x: x[index] if eqx.is_array(x) and x.ndim > 0 and x.shape[0] == size else x, tree)


def choose(flag: Bool[Array, ""], new: Any, old: Any) -> Any:
    """`new` where the scalar flag is set, else `old`, for every array leaf."""
    return jax.tree.map(lambda n, o: jnp.where(flag, n, o) if eqx.is_array(o) else o, new, old)


def all_finite(tree: Any) -> Bool[Array, ""]:
    leaves = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(tree) if eqx.is_inexact_array(x)]
    return jnp.all(jnp.stack(leaves)) if leaves else jnp.asarray(True)
