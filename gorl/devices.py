"""One program on many devices: the lanes of a batch of environments, and the rows of a minibatch, are shared out evenly.

The program is that of one device. `split` and `copied` say in it what is where, and XLA adds the communication. Between
programs a state's `Lanes` are shared out and everything else is on every device. On one device nothing of this happens.
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gorl import hosts
from gorl.errors import ConfigError
from gorl.fields import require
from gorl.state import Lanes

AXIS = "lanes"
_mesh: contextvars.ContextVar[Mesh | None] = contextvars.ContextVar("mesh", default=None)


def used(experiment: Any) -> list[jax.Device]:
    """Those that an experiment runs on, of every process as many. Starts the device. Raises ConfigError, before anything is
    compiled, where there are not so many or lanes cannot be shared out evenly."""
    asked, here = experiment.devices, jax.local_device_count()
    require(asked is None or asked <= here, f"Experiment.devices = {asked}, but {_there_are(here)}. Lower it; None takes all of them.")
    if experiment.task.environment.one_device:
        require(
            asked in (None, 1) and not hosts.many(),
            f"Experiment.devices = {asked} on {hosts.count()} processes: the physics of {experiment.task.environment.describe()['name']}"
            " runs on one device, since XLA cannot share it out."
            " Set Experiment.devices = 1 in one process, or take physics written in JAX (impl = 'jax').",
        )
        asked = 1
    each = asked or here
    experiment.check_devices(each * hosts.count())
    by_process: dict[int, list[jax.Device]] = {}
    for device in jax.devices():
        by_process.setdefault(device.process_index, []).append(device)
    if any(len(d) < each for d in by_process.values()):
        raise ConfigError(f"this process has {each} devices to use, and another has fewer. Set Experiment.devices to what every process has.")
    return [d for own in by_process.values() for d in own[:each]]


def _there_are(count: int) -> str:
    return f"there is 1 {jax.default_backend()} device here" if count == 1 else f"there are {count} {jax.default_backend()} devices here"


@contextlib.contextmanager
def of(experiment: Any) -> Iterator[None]:
    """Inside, programs run on the experiment's devices."""
    found = used(experiment)
    token = _mesh.set(Mesh(np.asarray(found), (AXIS,)) if len(found) > 1 else None)
    try:
        yield
    finally:
        _mesh.reset(token)


def mesh() -> Mesh | None:
    """Of the programs that are called now; None: one device."""
    return _mesh.get()


def split(tree: Any) -> Any:
    """In a program: the leading axis of every array is shared out, where the devices divide it. The same values."""
    return _constrained(tree, lambda x: _on(x, 0))


def copied(tree: Any) -> Any:
    """In a program: every array is whole on every device. The same values."""
    return _constrained(tree, lambda x: PartitionSpec())


def arranged(tree: Any) -> Any:
    """In a program, of arrays [S, ...]: lanes are shared out, everything else is whole on every device."""
    return tree if mesh() is None else _by_kind(lambda x, spec: jax.lax.with_sharding_constraint(x, NamedSharding(mesh(), spec)), tree)


def spread(tree: Any) -> Any:
    """Between programs: arrays [S, ...] of this process, or spread already, as `arranged`."""
    return tree if mesh() is None else _by_kind(lambda x, spec: _put(x, NamedSharding(mesh(), spec)), tree)


def gathered(tree: Any) -> Any:
    """Between programs: every array whole on one device of this process. All processes take part."""
    if mesh() is None:
        return tree
    divided = lambda x: _is_spread(x) and not x.is_fully_replicated
    parts, rest = eqx.partition(tree, divided)
    tree = eqx.combine(_joined(parts, NamedSharding(mesh(), PartitionSpec())), rest)
    return jax.tree.map(lambda x: x.addressable_data(0) if _is_spread(x) else x, tree)


def _constrained(tree: Any, spec: Any) -> Any:
    if mesh() is None:
        return tree
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, NamedSharding(mesh(), spec(x))) if eqx.is_array(x) else x, tree)


def _by_kind(function: Any, tree: Any) -> Any:
    def of_kind(node: Any) -> Any:
        spec = (lambda x: _on(x, 1)) if isinstance(node, Lanes) else (lambda x: PartitionSpec())
        return jax.tree.map(lambda x: function(x, spec(x)) if eqx.is_array(x) else x, node)

    return jax.tree.map(of_kind, tree, is_leaf=lambda x: isinstance(x, Lanes))


def _on(x: Any, axis: int) -> PartitionSpec:
    divides = x.ndim > axis and x.shape[axis] > 0 and x.shape[axis] % mesh().size == 0
    return PartitionSpec(*[None] * axis, AXIS) if divides else PartitionSpec()


def _is_spread(x: Any) -> bool:
    return isinstance(x, jax.Array) and isinstance(x.sharding, NamedSharding)


def _put(x: Any, sharding: NamedSharding) -> jax.Array:
    if _is_spread(x):
        return x if x.sharding.is_equivalent_to(sharding, x.ndim) else jax.device_put(x, sharding)
    parts = [jax.device_put(x[index], device) for device, index in sharding.addressable_devices_indices_map(x.shape).items()]
    return jax.make_array_from_single_device_arrays(x.shape, sharding, parts)


@functools.partial(jax.jit, static_argnums=1)
def _joined(tree: Any, sharding: NamedSharding) -> Any:
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, sharding), tree)
