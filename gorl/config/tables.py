"""gin's tables, read: what can be named and bound, what is bound, and what the built objects took.

gin keeps these private; a change of gin shows here first.
"""

import contextlib
import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any

from gin import config as gc

Key = tuple[str, str, str]  # (scope, complete selector, parameter)
Table = dict[tuple[str, str], dict[str, Any]]  # (scope, complete selector) -> parameter -> value
Reference = gc.ConfigurableReference
MACRO, CONSTANT = "gin.macro", "gin.constant"


def show_name(selector: str) -> str:
    """A class or function as one writes it: without `gorl.`, unless a plugin has the same name."""
    short = selector.removeprefix("gorl.")
    return short if len(gc._REGISTRY.matching_selectors(short)) == 1 else selector


def show_key(key: Key) -> str:
    """A binding's name as one writes it: `stage0/Clip.epsilon`, or a macro's name."""
    scope, selector, parameter = key
    if selector == MACRO:
        return scope
    return "/".join(filter(None, (scope, f"{show_name(selector)}.{parameter}")))


def registered() -> dict[str, Any]:
    """Every class and function that can be named, by its complete selector."""
    return {selector: entry.wrapped for selector, entry in gc._REGISTRY.items() if not selector.startswith("gin.")}


def configurables() -> list[str]:
    """Every name that can be written for a class or function."""
    return sorted(show_name(selector) for selector in registered())


def constants() -> dict[str, Any]:
    """What %NAME yields without any file setting it."""
    return {name: value for name, value in gc._CONSTANTS.items() if name != "gin.REQUIRED"}


def is_constant(name: str) -> bool:
    """Whether %NAME would yield a constant, even if a file set a macro of that name."""
    return bool(gc._CONSTANTS.matching_selectors(name))


def matches(name: str) -> list[str]:
    """The complete selectors that a name may stand for."""
    return sorted(gc._REGISTRY.matching_selectors(name))


def target(selector: str) -> Any:
    """The class or function itself."""
    return gc._REGISTRY[selector].wrapped


def parameters(selector: str) -> dict[str, inspect.Parameter]:
    """The parameters of a class or function that can be bound."""
    denied = gc._REGISTRY[selector].denylist or ()
    return {name: p for name, p in inspect.signature(target(selector)).parameters.items() if name not in denied}


def runtime_parameters(selector: str) -> tuple[str, ...]:
    """The parameters that the code passes itself, such as sizes and keys."""
    return tuple(gc._REGISTRY[selector].denylist or ())


def bound() -> Table:
    """What is bound: a copy, whose values are gin's."""
    return {where: dict(values) for where, values in gc._CONFIG.items()}


def taken() -> Table:
    """What every call took, by the scope it ran in, defaults included: a copy."""
    return {where: dict(values) for where, values in gc._OPERATIVE_CONFIG.items()}


def bindings() -> Iterator[tuple[Key, Any]]:
    for (scope, selector), values in bound().items():
        for name, value in values.items():
            yield (scope, selector, name), value


def value_of(key: Key) -> Any:
    return gc._CONFIG.get(key[:2], {}).get(key[2])


def rebind(key: Key, value: Any) -> None:
    """Changes what is bound already."""
    gc._CONFIG[key[:2]][key[2]] = value


def is_bound(key: Key) -> bool:
    return key[2] in gc._CONFIG.get(key[:2], {})


def outward(scope: str) -> list[str]:
    """A scope and those around it, most specific first, as gin looks a binding up: 'a/b' -> a/b, a, ''."""
    parts = scope.split("/") if scope else []
    return ["/".join(parts[:i]) for i in range(len(parts), -1, -1)]


def in_effect(selector: str, parameter: str, scope: str) -> Key | None:
    """The binding that a call in this scope takes."""
    keys = ((s, selector, parameter) for s in outward(scope))
    return next(filter(is_bound, keys), None)


def flattened(value: Any) -> Iterator[Any]:
    """A value and everything inside it."""
    return gc._iterate_flattened_values(value)


def references(value: Any) -> list[Reference]:
    """The @references and %macros inside a value."""
    return [v for v in flattened(value) if isinstance(v, Reference)]


def macro_name(value: Any) -> str | None:
    """NAME of %NAME, where it stands for a macro."""
    return "/".join(value.scopes) if isinstance(value, Reference) and value.configurable.selector == MACRO else None


def constant_name(value: Any) -> str | None:
    """NAME of %NAME, where it stands for a constant."""
    return "/".join(value.scopes) if isinstance(value, Reference) and value.configurable.selector == CONSTANT else None


def is_required(value: Any) -> bool:
    return constant_name(value) == "gin.REQUIRED"


def through_macros(value: Any, key: Key) -> tuple[Any, Key]:
    """The value behind %MACRO, and the binding that sets it."""
    while (name := macro_name(value)) is not None and is_bound((name, MACRO, "value")):
        key = (name, MACRO, "value")
        value = value_of(key)
    return value, key


def resolved(value: Any) -> Any:
    """A value with every %MACRO in it replaced by what it stands for. (Macros do not form a circle: `checks` looks.)"""
    value, _ = through_macros(value, ("", "", ""))
    if isinstance(value, (list, tuple)):
        return type(value)(resolved(v) for v in value)
    return {k: resolved(v) for k, v in value.items()} if isinstance(value, dict) else value


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """gin's state at a moment. gin is global: without this, reading another configuration would change what the
    factories of an experiment build that was declared before."""

    bound: Table
    taken: Table
    singletons: dict[str, Any]

    @classmethod
    def take(cls) -> "Snapshot":
        return cls(bound(), taken(), dict(gc._SINGLETONS))

    def rebound(self, changes: dict[Key, Any]) -> "Snapshot":
        """With other values for what is bound already."""
        bound = {where: dict(values) for where, values in self.bound.items()}
        for key, value in changes.items():
            bound[key[:2]][key[2]] = value
        return dataclasses.replace(self, bound=bound)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        now = gc._CONFIG, gc._OPERATIVE_CONFIG, gc._SINGLETONS
        gc._CONFIG, gc._OPERATIVE_CONFIG, gc._SINGLETONS = self.bound, self.taken, self.singletons
        try:
            yield
        finally:
            gc._CONFIG, gc._OPERATIVE_CONFIG, gc._SINGLETONS = now
