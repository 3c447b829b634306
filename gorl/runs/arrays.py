"""The arrays of a state, in order and by name: what is stored of it. Its structure follows from the configuration.

Arrays of size 0 hold nothing (and Orbax refuses them): they are left out, and made again.
"""

from collections.abc import Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from gorl.errors import RunError


def is_leaf(x: Any) -> bool:
    return eqx.is_array(x) or isinstance(x, jax.ShapeDtypeStruct)


def leaves(state: Any, *, axes: int = 0) -> tuple[list[Any], list[list]]:
    """The non-empty array leaves, and [path, shape, dtype] of each, without its leading `axes`."""
    pairs = [(k, x) for k, x in jax.tree_util.tree_leaves_with_path(state) if is_leaf(x) and 0 not in x.shape]
    return [x for _, x in pairs], [[jax.tree_util.keystr(k), list(x.shape[axes:]), str(x.dtype)] for k, x in pairs]


def refill(template: Any, values: Iterable[Any], *, seeds: int | None = None) -> Any:
    """`template` (a tree of ShapeDtypeStruct) with its non-empty leaves replaced by `values`, in order.

    `seeds`: how many, if the values have a leading axis of them, which the template does not show.
    """
    values = iter(values)
    lead = () if seeds is None else (seeds,)

    def fill(x: Any) -> Any:
        if not is_leaf(x):
            return x
        return jnp.zeros(lead + x.shape, x.dtype) if 0 in x.shape else typed(next(values), x)

    return jax.tree.map(fill, template)


def compare(expected: list[list], found: list[list], where: str) -> None:
    """Raises RunError at the first array that differs in path, shape or dtype."""
    for ours, theirs in zip(expected, found):
        if list(ours) != list(theirs):
            raise RunError(
                f"{where} does not fit this configuration: at {theirs[0]} it has {theirs[2]}{theirs[1]}, the configuration"
                f" makes {ours[0]} {ours[2]}{ours[1]}. Was the run's config.gin edited?"
            )
    if len(expected) != len(found):
        raise RunError(f"{where} has {len(found)} arrays, but the configuration makes {len(expected)}.")


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def plain(x: Any) -> Any:
    """Typed keys as their data."""
    return jax.random.key_data(x) if _is_key(x) else x


def typed(x: Any, template: Any) -> Any:
    """Data as a typed key, where the template has one."""
    return jax.random.wrap_key_data(x) if _is_key(template) else x
