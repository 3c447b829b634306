"""Several seeds in one program.

Between phases' units every array of a run's state has a leading axis S of seeds, also when there is one seed. A phase is
written for one seed; `vmap_seeds` maps it over that axis, and so does a `gorl.runtime.programs.program` inside its compiled code.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np


def vmap_seeds(function: Callable[..., Any], *trees: Any) -> Any:
    """`function` of each seed's part of the trees, the results with a leading axis [S, ...]. Not compiled."""
    return eqx.filter_vmap(function, in_axes=eqx.if_array(0), out_axes=eqx.if_array(0))(*trees)


def count(tree: Any) -> int:
    """S."""
    return next(x.shape[0] for x in jax.tree.leaves(tree) if eqx.is_array(x))


def take_seed(tree: Any, row: int = 0) -> Any:
    """The part of one seed."""
    return jax.tree.map(lambda x: x[row] if eqx.is_array(x) else x, tree)


def add_seed_axis(tree: Any) -> Any:
    """One seed's tree with the axis S = 1."""
    return jax.tree.map(lambda x: x[None] if eqx.is_array(x) else x, tree)


def stack(members: Sequence[Any]) -> Any:
    """Trees of single seeds as one tree with the axis S, on the host."""

    def join(*leaves: Any) -> Any:
        if not eqx.is_array(leaves[0]):
            return leaves[0]
        if jnp.issubdtype(leaves[0].dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(np.stack([jax.random.key_data(x) for x in leaves]))
        return np.stack([np.asarray(x) for x in leaves])

    return jax.tree.map(join, *members)


def mean(values: Sequence[float]) -> float:
    """Over the values that are finite; NaN if none is."""
    finite = [v for v in values if np.isfinite(v)]
    return float(np.mean(finite)) if finite else float("nan")
