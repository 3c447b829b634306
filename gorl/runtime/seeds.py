"""Several seeds in one program.

Between phases' units every array of a run's state has a leading axis S of seeds, even when there is one seed. A phase
is written for one seed. `vmap_seeds` maps it over that axis, as does a `gorl.runtime.programs.program` inside its
compiled code.
"""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from gorl.runtime.trees import PyTree


def vmap_seeds(function: Callable[..., PyTree], *trees: PyTree) -> PyTree:
    """Maps `function` over the seed axis of the trees. Results have a leading axis [S, ...]. Does not compile."""
    return eqx.filter_vmap(function, in_axes=eqx.if_array(0), out_axes=eqx.if_array(0))(*trees)


def count(tree: PyTree) -> int:
    """Returns S, the number of seeds in a tree with a seed axis."""
    return next(x.shape[0] for x in jax.tree.leaves(tree) if eqx.is_array(x))


def take_seed(tree: PyTree, row: int = 0) -> PyTree:
    """Returns one seed's part of the tree, without the seed axis."""
    return jax.tree.map(lambda x: x[row] if eqx.is_array(x) else x, tree)


def add_seed_axis(tree: PyTree) -> PyTree:
    """Adds the axis S = 1 to one seed's tree."""
    return jax.tree.map(lambda x: x[None] if eqx.is_array(x) else x, tree)


def stack(members: Sequence[PyTree]) -> PyTree:
    """Stacks single seeds' trees along a new axis S, on the host."""

    def stack_leaves(*leaves: object) -> object:
        if not eqx.is_array(leaves[0]):
            return leaves[0]
        if jnp.issubdtype(leaves[0].dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(np.stack([jax.random.key_data(x) for x in leaves]))
        return np.stack([np.asarray(x) for x in leaves])

    return jax.tree.map(stack_leaves, *members)


def mean(values: Sequence[float]) -> float:
    """Returns the mean over the finite values, or NaN if none is finite."""
    finite = [v for v in values if np.isfinite(v)]
    return float(np.mean(finite)) if finite else float("nan")
