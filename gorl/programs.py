"""Compiled programs, counted.

Every computation of a phase that runs on the device is one of these. The first argument holds what the program only
reads (hyperparameters, environment, data, key); the second evolves and is donated. Both are pytrees whose array leaves
are inputs and whose other leaves are part of the program's identity.
"""

import collections
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx

TRACES: collections.Counter[str] = collections.Counter()
"""How often each program was traced (each time a compilation or a load from the persistent cache), by name."""


def program(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Compiles `function(fixed, state)`, donating `state`."""
    name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"

    def traced(fixed: Any, state: Any) -> Any:
        TRACES[name] += 1
        return function(fixed, state)

    compiled = eqx.filter_jit(traced, donate="all-except-first")

    @functools.wraps(function)
    def call(fixed: Any, state: Any) -> Any:
        return compiled(fixed, state)

    return call
