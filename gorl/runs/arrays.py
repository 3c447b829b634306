"""The arrays of a state as they are stored: in order and by name. The configuration determines the state's structure.

Arrays of size 0 are not stored, because Orbax refuses them; reading a state creates them again. Numbers of types that
NumPy itself lacks (bfloat16, float8, int4) are stored as their bits, and random keys as their data.
"""

from collections.abc import Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from gorl.errors import RunError
from gorl.state import Array, PyTree

Leaf = Array | jax.ShapeDtypeStruct


def is_leaf(x: object) -> bool:
    return eqx.is_array(x) or isinstance(x, jax.ShapeDtypeStruct)


def leaves(state: PyTree, *, axes: int = 0) -> tuple[list[Leaf], list[list]]:
    """Returns the non-empty array leaves, and the [path, shape, dtype] of each; the shape omits the leading `axes`."""
    pairs = [(k, x) for k, x in jax.tree_util.tree_leaves_with_path(state) if is_leaf(x) and 0 not in x.shape]
    return [x for _, x in pairs], [[jax.tree_util.keystr(k), list(x.shape[axes:]), str(x.dtype)] for k, x in pairs]


def refill(template: PyTree, values: Iterable[Array], *, seeds: int | None = None) -> PyTree:
    """Returns `template` (a tree of ShapeDtypeStruct) with its non-empty leaves replaced by `values`, in order.

    `seeds`: the length of the leading axis of seeds, if the values have one that the template lacks.
    """
    values = iter(values)
    lead = () if seeds is None else (seeds,)

    def fill(x: PyTree) -> PyTree:
        if not is_leaf(x):
            return x
        return jnp.zeros(lead + x.shape, x.dtype) if 0 in x.shape else from_stored(next(values), x)

    return jax.tree.map(fill, template)


def check_arrays(expected: list[list], found: list[list], where: str) -> None:
    """Raises RunError for the first array that differs in path, shape or dtype, or for a different number of arrays."""
    for want, have in zip(expected, found):
        if list(want) != list(have):
            raise RunError(
                f"{where} does not fit this configuration: at {have[0]} it has {have[2]}{have[1]}, the configuration"
                f" makes {want[0]} {want[2]}{want[1]}. Was the run's config.gin edited?"
            )
    if len(expected) != len(found):
        raise RunError(f"{where} has {len(found)} arrays, but the configuration makes {len(expected)}.")


def _is_key(x: Leaf) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _key_to_data(x: Array) -> Array:
    return jax.random.key_data(x) if _is_key(x) else x


def _key_impl(template: Leaf) -> Any:
    """Returns the implementation of a typed key, which JAX tells of arrays alone, also while it traces."""
    found: list[Any] = []
    jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), template)
    return found[0]


def _bits(dtype: np.dtype) -> np.dtype | None:
    """Returns the integers that hold the bits of a type which NumPy lacks, or None."""
    return np.dtype(f"u{dtype.itemsize}") if dtype.isbuiltin == 2 else None


def to_stored(x: Array) -> np.ndarray:
    """Returns an array, on the host, as it is stored."""
    data = np.asarray(_key_to_data(x))
    return data if (bits := _bits(data.dtype)) is None else data.view(bits)


def stored_shape(x: Leaf) -> jax.ShapeDtypeStruct:
    """Returns the shape and type that an array is stored with."""
    data = jax.eval_shape(_key_to_data, x)
    return jax.ShapeDtypeStruct(data.shape, _bits(data.dtype) or data.dtype)


def from_stored(x: Array, template: Leaf) -> Array:
    """Returns a stored array as one of the template's type, such as a typed key."""
    if _is_key(template):
        return jax.random.wrap_key_data(x, impl=_key_impl(template))
    return x if _bits(template.dtype) is None else jnp.asarray(np.asarray(x).view(template.dtype))
