"""Kinds of fields for configuration modules.

A hyperparameter is a float32 array and so an input of the compiled program: stages (or sweeps) that differ in its value
share one compilation. It is a NumPy array, so building a configuration does not start a device.
A structural field (a size, a name) is static: a different value makes a different program.
A field's metadata `takes` is the type of what a file may bind, where the field's own annotation is wider.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float32

from gorl.errors import ConfigError
from gorl.runtime.inputs import InputFile

Scalar = Float32[Array | np.ndarray, ""]


def as_float32(value: float | int | np.ndarray) -> np.ndarray:
    """Converts a number to a float32 array."""
    return np.asarray(value, np.float32)


def hyperparameter() -> Any:
    """Declares a number that may vary without recompiling. It is given as a `float` and stored as a float32 array."""
    return eqx.field(converter=as_float32, metadata={"takes": float})


def structural(**kwargs: Any) -> Any:
    """Declares a value that determines shapes or code. An int is a size, which must fit 32 bits."""
    return eqx.field(static=True, **kwargs)


def input_file() -> Any:
    """Declares a file that is read, such as a MuJoCo model. It is given as a path and stored as an `InputFile`."""
    return eqx.field(static=True, converter=_find)


def _find(path: str) -> InputFile:
    return InputFile.find(path)


def budget() -> Any:
    """Declares an int that only the host counts with, such as environment steps. It may be larger than a size."""
    return eqx.field(static=True, metadata={"budget": True})


class Factory:
    """A module class (or function) to be called later with sizes and a key, such as gin's `@policy/MLP`.

    All factories compare equal. They build modules before anything is compiled and are not part of any compiled
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
    """Declares a field that holds a `Factory`."""
    return eqx.field(static=True, converter=as_factory)


def as_factory(function: Callable) -> Factory:
    """Wraps a class or function in a `Factory`. Raises ConfigError for anything else, such as an instance."""
    if not callable(function) or isinstance(function, eqx.Module):
        raise ConfigError(
            "expected a class or function to call later (written without parentheses, like @policy/MLP),"
            f" got {function!r}."
        )
    return Factory(function)


def instances(kind: type, where: str) -> Callable[[Sequence], tuple]:
    """Returns a converter of a list of `kind` instances to a tuple. Its ConfigError points out a forgotten '()'."""

    def convert(values: Sequence) -> tuple:
        if not isinstance(values, (list, tuple)):
            raise ConfigError(f"{where} is {values!r}, but it must be a list: write [{values!r}].")
        for i, value in enumerate(values):
            if not isinstance(value, kind):
                hint = "; did you forget '()' after its name?" if isinstance(value, type) or callable(value) else ""
                raise ConfigError(f"{where}[{i}] is {value!r}, not a {kind.__name__}{hint}")
        return tuple(values)

    return convert


LARGEST_SIZE = 2**31 - 1
"""Largest size: programs count with 32 bits."""
MOST_STEPS = 100_000
"""Largest number of steps of a flow or a diffusion, whose times are stored in an array."""


def require_steps(steps: int, where: str) -> None:
    """Raises ConfigError unless 1 <= steps <= MOST_STEPS. `where` names the parameter."""
    require(1 <= steps <= MOST_STEPS, f"{where} = {steps}: it must be >= 1 and at most {MOST_STEPS:_}.")


def require_finite(component: object, *names: str) -> None:
    """Raises ConfigError for the first of the component's numbers `names` that is infinite or NaN."""
    for name in names:
        value = getattr(component, name)
        require(bool(np.isfinite(value)), f"{type(component).__name__}.{name} = {value}: it must be finite.")


def require(condition: object, message: str) -> None:
    """Raises ConfigError(message) unless the condition holds."""
    if not condition:
        raise ConfigError(message)
