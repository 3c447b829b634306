"""Compiled programs, counted.

Every computation of a unit that runs on the device is one of these. It is written for one seed and takes three pytrees:
`shared` is the same for all seeds (hyperparameters, environment), `each` is a seed's own and only read (data, keys,
modules), `state` is a seed's own, evolves and is donated. Array leaves are inputs, other leaves are part of the
program's identity. Within `settings_of_each_seed` (`gorl.training.ensemble`) `shared` too is each seed's own. Within `gorl.runtime.devices.on`
it runs on many devices.
"""

import collections
import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
from jax.sharding import Mesh

from gorl.runtime import devices, seeds

TRACES: collections.Counter[str] = collections.Counter()
"""How often each program was traced (each time a compilation or a load from the persistent cache), by name."""


_own_settings: contextvars.ContextVar[bool] = contextvars.ContextVar("own_settings", default=False)


@contextlib.contextmanager
def settings_of_each_seed() -> Iterator[None]:
    """Inside, every array of a program's `shared` has a leading axis of seeds."""
    token = _own_settings.set(True)
    try:
        yield
    finally:
        _own_settings.reset(token)


def program(function: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    """Compiles `function(shared, each, state)` of one seed, donating `state`.

    It is called with a leading axis of seeds on every array of `each` and `state`, and so returns its result. One seed
    runs as it is written, without a batch axis; several are vmapped.
    """
    name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"

    def of_all(shared: Any, each: Any, state: Any, own_settings: bool) -> Any:
        if own_settings:
            return seeds.vmap_seeds(function, shared, each, state)
        if seeds.count(each) == 1:
            return seeds.add_seed_axis(function(shared, seeds.take_seed(each), seeds.take_seed(state)))
        return seeds.vmap_seeds(lambda e, s: function(shared, e, s), each, state)

    def traced(read: tuple[Any, Any], state: Any, own_settings: bool, mesh: Mesh | None) -> Any:
        del mesh  # a part of the program's identity
        TRACES[name] += 1
        return devices.constrain(of_all(*read, state, own_settings))

    compiled = eqx.filter_jit(traced, donate="all-except-first")

    @functools.wraps(function)
    def call(shared: Any, each: Any, state: Any) -> Any:
        return compiled(devices.place((shared, each)), devices.place(state), _own_settings.get(), devices.mesh())

    return call
