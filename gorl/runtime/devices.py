"""One program on many devices: the lanes of a batch of environments, and the rows of a minibatch, are shared out evenly.

The program is that of one device. `shard` and `replicate` say in it what is where, and XLA adds the communication. Between
programs a state's `Lanes` are shared out and everything else is on every device. On one device nothing of this happens.
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AXIS = "lanes"


class Sharded(eqx.Module):
    """A part of a state whose arrays [S, B, ...] are shared out over the devices along B. Everything else is whole on every device."""


_mesh: contextvars.ContextVar[Mesh | None] = contextvars.ContextVar("mesh", default=None)


@contextlib.contextmanager
def on(devices: Sequence[jax.Device]) -> Iterator[None]:
    """Inside the block, programs run on these devices."""
    token = _mesh.set(Mesh(np.asarray(devices), (AXIS,)) if len(devices) > 1 else None)
    try:
        yield
    finally:
        _mesh.reset(token)


def mesh() -> Mesh | None:
    """Of the programs that are called now; None: one device."""
    return _mesh.get()


def shard(tree: Any) -> Any:
    """In a program: the leading axis of every array is shared out, where the devices divide it. The same values."""
    return _constrained(tree, lambda x: _on(x, 0))


def replicate(tree: Any) -> Any:
    """In a program: every array is whole on every device. The same values."""
    return _constrained(tree, lambda x: PartitionSpec())


def constrain(tree: Any) -> Any:
    """In a program, of arrays [S, ...]: lanes are shared out, everything else is whole on every device."""
    return (
        tree
        if mesh() is None
        else _by_kind(lambda x, spec: jax.lax.with_sharding_constraint(x, NamedSharding(mesh(), spec)), tree)
    )


def place(tree: Any) -> Any:
    """Between programs: arrays [S, ...] of this process, or spread already, as `constrain`."""
    return tree if mesh() is None else _by_kind(lambda x, spec: _put(x, NamedSharding(mesh(), spec)), tree)


def gather(tree: Any) -> Any:
    """Between programs: every array whole on one device of this process. All processes take part."""
    if mesh() is None:
        return tree
    divided = lambda x: _is_placed(x) and not x.is_fully_replicated
    parts, rest = eqx.partition(tree, divided)
    tree = eqx.combine(_joined(parts, NamedSharding(mesh(), PartitionSpec())), rest)
    return jax.tree.map(lambda x: x.addressable_data(0) if _is_placed(x) else x, tree)


def _constrained(tree: Any, spec: Any) -> Any:
    if mesh() is None:
        return tree
    return jax.tree.map(
        lambda x: jax.lax.with_sharding_constraint(x, NamedSharding(mesh(), spec(x))) if eqx.is_array(x) else x, tree
    )


def _by_kind(function: Any, tree: Any) -> Any:
    def of_kind(node: Any) -> Any:
        spec = (lambda x: _on(x, 1)) if isinstance(node, Sharded) else (lambda x: PartitionSpec())
        return jax.tree.map(lambda x: function(x, spec(x)) if eqx.is_array(x) else x, node)

    return jax.tree.map(of_kind, tree, is_leaf=lambda x: isinstance(x, Sharded))


def _on(x: Any, axis: int) -> PartitionSpec:
    divides = x.ndim > axis and x.shape[axis] > 0 and x.shape[axis] % mesh().size == 0
    return PartitionSpec(*[None] * axis, AXIS) if divides else PartitionSpec()


def _is_placed(x: Any) -> bool:
    return isinstance(x, jax.Array) and isinstance(x.sharding, NamedSharding)


def _put(x: Any, sharding: NamedSharding) -> jax.Array:
    if _is_placed(x):
        return x if x.sharding.is_equivalent_to(sharding, x.ndim) else jax.device_put(x, sharding)
    parts = [
        jax.device_put(x[index], device) for device, index in sharding.addressable_devices_indices_map(x.shape).items()
    ]
    return jax.make_array_from_single_device_arrays(x.shape, sharding, parts)


@functools.partial(jax.jit, static_argnums=1)
def _joined(tree: Any, sharding: NamedSharding) -> Any:
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, sharding), tree)
