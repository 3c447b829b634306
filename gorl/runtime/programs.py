"""Compiled programs, and how often each was traced.

Every computation of a unit that runs on the device is one of these. It is written for one seed and takes three pytrees:
`shared` is the same for all seeds (hyperparameters, environment). `each` is per seed and only read (data, keys,
modules). `state` is per seed, is updated and is donated. Array leaves are inputs; other leaves are part of the
program's identity. Inside `settings_of_each_seed` (`gorl.training.ensemble`) `shared` is per seed too. Inside
`gorl.runtime.devices.on` a program runs on many devices.
"""

import collections
import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator

import equinox as eqx
from jax.sharding import Mesh

from gorl.runtime import devices, seeds
from gorl.runtime.trees import PyTree

TRACES: collections.Counter[str] = collections.Counter()
"""Number of times each program was traced, by name. Each is a compilation or a load from the persistent cache."""


_per_seed_settings: contextvars.ContextVar[bool] = contextvars.ContextVar("per_seed_settings", default=False)


@contextlib.contextmanager
def settings_of_each_seed() -> Iterator[None]:
    """Context manager in which every array of a program's `shared` has a leading axis of seeds."""
    token = _per_seed_settings.set(True)
    try:
        yield
    finally:
        _per_seed_settings.reset(token)


def program(function: Callable[[PyTree, PyTree, PyTree], PyTree]) -> Callable[[PyTree, PyTree, PyTree], PyTree]:
    """Compiles `function(shared, each, state)`, written for one seed, and donates `state`.

    The program is called with a leading axis of seeds on every array of `each` and `state`, and its result has that
    axis too. One seed runs as written, without a batch axis; several are vmapped.
    """
    name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"

    def over_seeds(shared: PyTree, each: PyTree, state: PyTree, per_seed_settings: bool) -> PyTree:
        if per_seed_settings:
            return seeds.vmap_seeds(function, shared, each, state)
        if seeds.count(each) == 1:
            return seeds.add_seed_axis(function(shared, seeds.take_seed(each), seeds.take_seed(state)))
        return seeds.vmap_seeds(lambda e, s: function(shared, e, s), each, state)

    def traced(inputs: tuple[PyTree, PyTree], state: PyTree, per_seed_settings: bool, mesh: Mesh | None) -> PyTree:
        del mesh  # a part of the program's identity
        TRACES[name] += 1
        return devices.constrain(over_seeds(*inputs, state, per_seed_settings))

    compiled = eqx.filter_jit(traced, donate="all-except-first")

    @functools.wraps(function)
    def call(shared: PyTree, each: PyTree, state: PyTree) -> PyTree:
        return compiled(devices.place((shared, each)), devices.place(state), _per_seed_settings.get(), devices.mesh())

    return call
