"""Field kinds for configuration modules.

A hyperparameter is a float32 array, so it is an input of the compiled program: stages (or sweeps) that differ in its
value share one compilation. A NumPy array, so building a configuration does not start a device.
A structural field (a size, a name) is static: another value is another program.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float32

from gorl.errors import ConfigError

Scalar = Float32[Array | np.ndarray, ""]


def as_float32(value: float | int | np.ndarray) -> np.ndarray:
    return np.asarray(value, np.float32)


def hyperparameter() -> Any:
    """A number that may vary without recompiling: `float` in, float32 array inside."""
    return eqx.field(converter=as_float32)


def structural(**kwargs: Any) -> Any:
    """A value that decides shapes or code. An int among them is a size: programs count with 32 bits."""
    return eqx.field(static=True, **kwargs)


def budget() -> Any:
    """An int that only the host counts with, such as environment steps: it may be larger than a size."""
    return eqx.field(static=True, metadata={"budget": True})


class Factory:
    """A module class (or function) still to be called with sizes and a key, such as gin's `@policy/MLP`.

    All factories compare equal: they build modules before anything is compiled and never take part in a compiled
    program, so phases that differ only in a factory object must not cause a second compilation.
    """

    def __init__(self, function: Callable):
        self.function = function.function if isinstance(function, Factory) else function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Factory)

    def __hash__(self) -> int:
        return hash(Factory)

    def __repr__(self) -> str:
        return f"Factory({getattr(self.function, '__name__', self.function)})"


def factory() -> Any:
    """A field that holds a `Factory`."""
    return eqx.field(static=True, converter=as_factory)


def as_factory(function: Callable) -> Factory:
    if not callable(function) or isinstance(function, eqx.Module):
        raise ConfigError(
            f"expected a class or function to call later (written without parentheses, like @policy/MLP), got {function!r}."
        )
    return Factory(function)


def instances(kind: type, where: str) -> Callable[[Sequence], tuple]:
    """Converter: a list of instances of `kind`, as a tuple; a forgotten '()' is named."""

    def convert(values: Sequence) -> tuple:
        if not isinstance(values, (list, tuple)):
            raise ConfigError(f"{where} is {values!r}, but it is a list: write [{values!r}].")
        for i, value in enumerate(values):
            if not isinstance(value, kind):
                hint = "; did you forget '()' after its name?" if isinstance(value, type) or callable(value) else ""
                raise ConfigError(f"{where}[{i}] is {value!r}, not a {kind.__name__}{hint}")
        return tuple(values)

    return convert


LARGEST_SIZE = 2**31 - 1
MOST_STEPS = 100_000


def require_steps(steps: int, where: str) -> None:
    """Steps of a flow or a diffusion: their times lie in an array."""
    require(1 <= steps <= MOST_STEPS, f"{where} = {steps}: it must be >= 1 and at most {MOST_STEPS:_}.")


def require_finite(owner: Any, *names: str) -> None:
    """Raises ConfigError for the first of these numbers of a configured object that is infinite or NaN."""
    for name in names:
        value = getattr(owner, name)
        require(bool(np.isfinite(value)), f"{type(owner).__name__}.{name} = {value}: it must be finite.")


def require(condition: Any, message: str) -> None:
    """Raises ConfigError(message) unless the condition holds."""
    if not condition:
        raise ConfigError(message)
