"""Optax for configuration files.

An optax transformation is a bundle of closures. Two with equal settings are different objects, and a program compiled
for one is compiled again for the other. So `@optax.adam()` yields an `OptaxCall`, which holds the function and its
arguments. It is a pytree whose numbers are arrays, and it is called inside the compiled program.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal, get_origin

import equinox as eqx
import gin
import jax
import jax.numpy as jnp
import numpy as np
import optax

from gorl.errors import ConfigError
from gorl.fields import as_float32, instances, require, structural
from gorl.state import Array, PyTree

OPTIMIZERS = ("adabelief", "adam", "adamw", "lamb", "lion", "nadam", "nadamw", "radam", "rmsprop", "sgd")
TRANSFORMS = ("add_decayed_weights", "centralize", "clip", "clip_by_block_rms", "scale_by_adam", "scale_by_belief",
              "scale_by_lion", "scale_by_radam", "scale_by_rms", "trace")  # fmt: skip
SCHEDULES = ("constant_schedule", "cosine_decay_schedule", "exponential_decay", "linear_schedule",
             "polynomial_schedule", "warmup_cosine_decay_schedule")  # fmt: skip
# Optax branches on the value of these in Python, so they cannot be inputs of a compiled program.
BRANCHED_ON = ("decay_rate", "decay_steps", "peak_value", "transition_begin", "transition_steps", "warmup_steps")


class OptaxCall(eqx.Module):
    """A deferred call of an optax function.

    Floats are arrays. Everything else, and whatever optax branches on, is part of the program.
    """

    function: Callable = structural()
    numbers: dict[str, np.ndarray]
    options: tuple[tuple[str, Any], ...] = structural()

    def __call__(self, **arguments: Any) -> Any:
        numbers = {name: jnp.asarray(value) for name, value in self.numbers.items()}
        try:
            return self.function(**numbers, **dict(self.options), **arguments)
        except (TypeError, ValueError, AssertionError, AttributeError) as err:  # of settings that do not fit together
            known = {k: v for k, v in {**self.numbers, **dict(self.options)}.items() if v is not None}
            settings = ", ".join(f"{name} = {value}" for name, value in known.items())
            raise ConfigError(f"optax.{self.function.__name__}({settings}) fails: {err}") from err


class OptimizerCall(OptaxCall):
    """A deferred call that makes an optimizer, which takes the learning rate later."""


class Transformation(OptaxCall):
    """A deferred call that makes a transformation of gradients, for `Chain`."""


class Schedule(OptaxCall):
    """A deferred call that makes a schedule of learning rates over optimizer updates."""


@gin.register(module="gorl")
class Chain(eqx.Module):
    """A chain of optax transformations, followed by the learning rate.

    For example, `Chain.transforms = [@optax.clip(), @optax.scale_by_adam()]`.
    """

    transforms: tuple[OptaxCall, ...] = eqx.field(
        converter=instances(OptaxCall, "Chain.transforms"), metadata={"takes": list[Transformation]}
    )

    def __call__(self, *, learning_rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
        return optax.chain(*[t() for t in self.transforms], optax.scale_by_learning_rate(learning_rate))


Optimizer = OptaxCall | Chain


def as_rate(value: Any) -> OptaxCall | np.ndarray:
    """Converts a learning rate: a number, or a schedule such as `@optax.linear_schedule()` over optimizer updates.

    Raises ConfigError for anything else, and for a number that is negative or not finite.
    """
    if isinstance(value, OptaxCall):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float, np.ndarray)):
        shown = getattr(value, "__name__", repr(value))
        raise ConfigError(
            f"learning_rate is {shown}, but it must be a number or a schedule such as @optax.linear_schedule()."
        )
    require(
        bool(np.all((np.asarray(value) >= 0) & np.isfinite(value))),
        f"learning_rate = {value}: it must be >= 0 and finite.",
    )
    return as_float32(value)


def optimizer() -> Any:
    """Declares an optimizer, such as `@optax.adam()` or `@Chain()`."""
    return eqx.field(metadata={"takes": OptimizerCall | Chain})


def rate() -> Any:
    """Declares a learning rate: a number, or a schedule such as `@optax.linear_schedule()`."""
    return eqx.field(converter=as_rate, metadata={"takes": float | Schedule})


def require_grad_norm(max_grad_norm: np.ndarray) -> None:
    """Raises ConfigError for a norm that no gradient has."""
    require(bool(np.all(max_grad_norm > 0)), f"max_grad_norm = {max_grad_norm}: it must be > 0 (1e999: off).")


def clip_each_by_norm(max_norm: Array) -> optax.GradientTransformation:
    """Clips the global norm of every entry of a tuple of gradients apart.

    Its state is that of `optax.clip_by_global_norm`, which clips the norm of all entries together.
    """
    one = optax.clip_by_global_norm(max_norm)

    def update(updates: tuple, state: optax.OptState, params: PyTree = None) -> tuple[tuple, optax.OptState]:
        del params
        return tuple(one.update(entry, state)[0] for entry in updates), state

    return optax.GradientTransformation(one.init, update)


def build_transformation(
    optimizer: Optimizer,
    learning_rate: OptaxCall | Array,
    max_grad_norm: Array,
    clip: Callable[[Array], optax.GradientTransformation] = optax.clip_by_global_norm,
) -> optax.GradientTransformation:
    """Returns the optax transformation, which first clips the gradient's norm with `clip` (inf: not at all)."""
    if isinstance(max_grad_norm, np.ndarray):  # while the configuration is checked; in a program it is traced
        require_grad_norm(max_grad_norm)
    rate = learning_rate() if isinstance(learning_rate, OptaxCall) else jnp.asarray(learning_rate)
    return _in_float32(optax.chain(clip(jnp.asarray(max_grad_norm)), optimizer(learning_rate=rate)))


def _in_float32(one: optax.GradientTransformation) -> optax.GradientTransformation:
    """Computes the updates of narrower parameters, such as bfloat16, in float32, where hyperparameters are.

    Its state is float32, and the updates have the types of the parameters. Of float32 parameters nothing changes.
    """
    is_narrow = lambda x: jnp.issubdtype(x.dtype, jnp.floating) and x.dtype.itemsize < 4
    widen = lambda tree: jax.tree.map(lambda x: x.astype(jnp.float32) if is_narrow(x) else x, tree)

    def update(updates: PyTree, state: optax.OptState, params: PyTree = None) -> tuple[PyTree, optax.OptState]:
        found, state = one.update(widen(updates), state, widen(params))
        return jax.tree.map(lambda new, u: new.astype(u.dtype) if is_narrow(u) else new, found, updates), state

    return optax.GradientTransformation(lambda params: one.init(widen(params)), update)


def _below_one(x: float) -> bool:
    return 0 <= x < 1


_RANGES: tuple[tuple[tuple[str, ...], Callable[[float], bool], str], ...] = (
    (("b1", "b2", "decay", "momentum"), _below_one, "in [0, 1)"),
    (("eps", "eps_root", "initial_scale", "transition_begin", "warmup_steps"), lambda x: x >= 0, ">= 0"),
    (("value", "init_value", "peak_value", "end_value", "weight_decay"), lambda x: x >= 0, ">= 0"),
    (("decay_steps", "transition_steps"), lambda x: x >= 1, ">= 1"),
    (("decay_rate", "max_delta", "threshold", "power"), lambda x: x > 0, "> 0"),
)
"""What the parameters of optax's functions may be. Optax itself makes something else of other numbers, or NaN."""


def _check_numbers(name: str, arguments: dict[str, Any]) -> None:
    for parameter, value in arguments.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            where = f"optax.{name}.{parameter} = {value}"
            require(np.isfinite(value), f"{where}: it must be finite.")
            for parameters, fits, what in _RANGES:
                require(parameter not in parameters or fits(value), f"{where}: it must be {what}.")
        if parameter.endswith("dtype") and value is not None:
            try:
                fits = jnp.issubdtype(jnp.dtype(value), jnp.floating)
            except TypeError:
                fits = False
            require(fits, f"optax.{name}.{parameter} = {value!r}: it must name a type such as 'bfloat16' or 'float32'.")
        require(
            parameter != "mask" or value is None or callable(value),
            f"optax.{name}.mask = {value!r}: it must be None or a function, such as %mine.mask, a plugin's constant.",
        )


def _hint(parameter: inspect.Parameter) -> Any:
    """Returns the type of what a file may bind. Optax's own annotations take arrays too."""
    if parameter.name == "mask" or parameter.name.endswith("dtype"):
        return Any
    if parameter.annotation in (bool, int) or get_origin(parameter.annotation) is Literal:
        return parameter.annotation
    return float | None if parameter.default is None else float


def _deferred(name: str, makes: type[OptaxCall], *, without: tuple[str, ...] = ()) -> Callable:
    """Wraps an optax function for gin: a call returns a `makes`, which takes the parameters `without` later."""
    function = getattr(optax, name)
    signature = inspect.signature(function)
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = [
        p.replace(kind=p.KEYWORD_ONLY, annotation=p.empty)
        for p in signature.parameters.values()
        if p.name not in without and p.kind not in kinds
    ]

    hints = {p.name: _hint(signature.parameters[p.name]) for p in parameters}
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}

    @functools.wraps(function)
    def call(**arguments: Any) -> OptaxCall:
        arguments = {**defaults, **arguments}  # so that a default that is bound explicitly is the same program
        _check_numbers(name, arguments)
        numbers = {k: as_float32(v) for k, v in arguments.items() if isinstance(v, float) and k not in BRANCHED_ON}
        options = tuple((k, v) for k, v in arguments.items() if k not in numbers)
        return makes(function=function, numbers=numbers, options=options)

    del call.__wrapped__
    call.__signature__ = inspect.Signature(parameters)
    call.__annotations__ = {**hints, "return": makes}
    return call


for _name in OPTIMIZERS:
    _call = _deferred(_name, OptimizerCall, without=("learning_rate",))
    gin.external_configurable(_call, name=_name, module="optax")
for _names, _makes in ((TRANSFORMS, Transformation), (SCHEDULES, Schedule)):
    for _name in _names:
        gin.external_configurable(_deferred(_name, _makes), name=_name, module="optax")
