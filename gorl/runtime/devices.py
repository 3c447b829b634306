"""One program on many devices: the lanes of a batch of environments, and the rows of a minibatch, are sharded evenly.

Programs are written for one device. Inside them `shard` and `replicate` constrain where arrays are, and XLA adds the
communication. Between programs the `Sharded` parts of a state are sharded and everything else is replicated. On a
single device all of this does nothing.
"""

import contextlib
import contextvars
import functools
import os
from collections.abc import Callable, Iterator, Sequence

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gorl.errors import ConfigError
from gorl.runtime.trees import AnyArray, PyTree

AXIS = "lanes"


class Sharded(eqx.Module):
    """A part of a state whose arrays [S, B, ...] are sharded over the devices along B.

    Everything else is replicated on every device.
    """


def start() -> None:
    """Starts JAX's devices. Raises ConfigError if it cannot, such as for a platform that it was installed without."""
    try:
        jax.devices()
    except Exception as err:  # an AssertionError without a word, for CUDA
        asked = os.environ.get("JAX_PLATFORMS", "")
        reason = (str(err).splitlines() or [f"{type(err).__name__}"])[0][:200]
        raise ConfigError(
            f"JAX has no device: JAX_PLATFORMS = {asked!r}, but it cannot use that here ({reason}). Install JAX for it,"
            " as in pip install 'jax[cuda12]', or unset the variable, which takes what is there."
        ) from err


_mesh: contextvars.ContextVar[Mesh | None] = contextvars.ContextVar("mesh", default=None)


@contextlib.contextmanager
def on(devices: Sequence[jax.Device]) -> Iterator[None]:
    """Context manager in which programs run on these devices."""
    token = _mesh.set(Mesh(np.asarray(devices), (AXIS,)) if len(devices) > 1 else None)
    try:
        yield
    finally:
        _mesh.reset(token)


def mesh() -> Mesh | None:
    """Returns the mesh that programs are currently called with, or None on a single device."""
    return _mesh.get()


def shard(tree: PyTree) -> PyTree:
    """Shards the leading axis of every array, where the number of devices divides it. Call it inside a program.

    Values do not change.
    """
    return _constrain_all(tree, lambda x: _spec(x, 0))


def replicate(tree: PyTree) -> PyTree:
    """Replicates every array on every device. Call it inside a program. Values do not change."""
    return _constrain_all(tree, lambda x: PartitionSpec())


def constrain(tree: PyTree) -> PyTree:
    """Shards the `Sharded` parts of a tree of arrays [S, ...] and replicates the rest. Call it inside a program."""
    return (
        tree
        if mesh() is None
        else _map_with_spec(lambda x, spec: jax.lax.with_sharding_constraint(x, NamedSharding(mesh(), spec)), tree)
    )


def place(tree: PyTree) -> PyTree:
    """Places arrays [S, ...] on the devices as `constrain` does. Call it between programs.

    The arrays are this process's own, or were placed before.
    """
    return tree if mesh() is None else _map_with_spec(lambda x, spec: _put(x, NamedSharding(mesh(), spec)), tree)


def gather(tree: PyTree) -> PyTree:
    """Returns the tree with every array whole on one device of this process. Call it between programs.

    All processes must call it.
    """
    if mesh() is None:
        return tree
    is_divided = lambda x: _is_placed(x) and not x.is_fully_replicated
    divided, rest = eqx.partition(tree, is_divided)
    tree = eqx.combine(_reshard(divided, NamedSharding(mesh(), PartitionSpec())), rest)
    return jax.tree.map(lambda x: x.addressable_data(0) if _is_placed(x) else x, tree)


def _constrain_all(tree: PyTree, spec: Callable[[AnyArray], PartitionSpec]) -> PyTree:
    if mesh() is None:
        return tree
    return jax.tree.map(
        lambda x: jax.lax.with_sharding_constraint(x, NamedSharding(mesh(), spec(x))) if eqx.is_array(x) else x, tree
    )


def _map_with_spec(function: Callable[[AnyArray, PartitionSpec], jax.Array], tree: PyTree) -> PyTree:
    """Maps `function(x, spec)` over the arrays [S, ...]: those of `Sharded` nodes are split along their second axis."""

    def map_node(node: PyTree) -> PyTree:
        spec = (lambda x: _spec(x, 1)) if isinstance(node, Sharded) else (lambda x: PartitionSpec())
        return jax.tree.map(lambda x: function(x, spec(x)) if eqx.is_array(x) else x, node)

    return jax.tree.map(map_node, tree, is_leaf=lambda x: isinstance(x, Sharded))


def _spec(x: AnyArray, axis: int) -> PartitionSpec:
    divides = x.ndim > axis and x.shape[axis] > 0 and x.shape[axis] % mesh().size == 0
    return PartitionSpec(*[None] * axis, AXIS) if divides else PartitionSpec()


def _is_placed(x: object) -> bool:
    return isinstance(x, jax.Array) and isinstance(x.sharding, NamedSharding)


def _put(x: AnyArray, sharding: NamedSharding) -> jax.Array:
    if _is_placed(x):
        return x if x.sharding.is_equivalent_to(sharding, x.ndim) else jax.device_put(x, sharding)
    parts = [
        jax.device_put(x[index], device) for device, index in sharding.addressable_devices_indices_map(x.shape).items()
    ]
    return jax.make_array_from_single_device_arrays(x.shape, sharding, parts)


@functools.partial(jax.jit, static_argnums=1)
def _reshard(tree: PyTree, sharding: NamedSharding) -> PyTree:
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, sharding), tree)
