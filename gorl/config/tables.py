"""Access to gin's tables: what can be named and bound, what is bound, and what the built objects used.

The tables are private to gin, so this is the first module that a new version of gin can break.
"""

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from gin import config as gc

Key = tuple[str, str, str]  # (scope, complete selector, parameter)
Table = dict[tuple[str, str], dict[str, Any]]  # (scope, complete selector) -> parameter -> value
Reference = gc.ConfigurableReference
MACRO, CONSTANT = "gin.macro", "gin.constant"


def show_name(selector: str) -> str:
    """Returns the name of a class or function as it is written: without `gorl.`, unless a plugin has the same name."""
    short = selector.removeprefix("gorl.")
    return short if len(gc._REGISTRY.matching_selectors(short)) == 1 else selector


def show_key(key: Key) -> str:
    """Returns a binding's name as it is written: `stage0/Clip.epsilon`, or a macro's name."""
    scope, selector, parameter = key
    if selector == MACRO:
        return scope
    return "/".join(filter(None, (scope, f"{show_name(selector)}.{parameter}")))


def registered() -> dict[str, Callable]:
    """Returns every class and function that can be named, by its complete selector."""
    return {selector: entry.wrapped for selector, entry in gc._REGISTRY.items() if not selector.startswith("gin.")}


def configurable_names() -> list[str]:
    """Returns the name of every class and function as it is written, sorted."""
    return sorted(show_name(selector) for selector in registered())


def constants() -> dict[str, Any]:
    """Returns gin's constants by name: the values that %NAME has without any file setting it."""
    return {name: value for name, value in gc._CONSTANTS.items() if name != "gin.REQUIRED"}


def is_constant(name: str) -> bool:
    """Whether %NAME is a constant, even if a file sets a macro of that name."""
    return bool(gc._CONSTANTS.matching_selectors(name))


def matches(name: str) -> list[str]:
    """Returns the complete selectors that a name may refer to, sorted."""
    return sorted(gc._REGISTRY.matching_selectors(name))


def configurable(selector: str) -> Callable:
    """Returns the class or function that is registered under a complete selector."""
    return gc._REGISTRY[selector].wrapped


def bindable_parameters(selector: str) -> dict[str, inspect.Parameter]:
    """Returns the parameters of a class or function that can be bound."""
    denied = gc._REGISTRY[selector].denylist or ()
    return {name: p for name, p in inspect.signature(configurable(selector)).parameters.items() if name not in denied}


def runtime_parameters(selector: str) -> tuple[str, ...]:
    """Returns the parameters that the code passes itself, such as sizes and PRNG keys."""
    return tuple(gc._REGISTRY[selector].denylist or ())


def bound() -> Table:
    """Returns a copy of the table of current bindings. The values are not copied."""
    return {place: dict(values) for place, values in gc._CONFIG.items()}


def operative() -> Table:
    """Returns a copy of the table of what every call used, by the scope it ran in, defaults included."""
    return {place: dict(values) for place, values in gc._OPERATIVE_CONFIG.items()}


def bindings() -> Iterator[tuple[Key, Any]]:
    """Yields the key and value of every current binding."""
    for (scope, selector), values in bound().items():
        for name, value in values.items():
            yield (scope, selector, name), value


def value_of(key: Key) -> Any:
    """Returns the bound value, with macros unresolved, or None if nothing is bound."""
    return gc._CONFIG.get(key[:2], {}).get(key[2])


def rebind(key: Key, value: Any) -> None:
    """Replaces the value of an existing binding. Raises KeyError if nothing in its scope is bound."""
    gc._CONFIG[key[:2]][key[2]] = value


def is_bound(key: Key) -> bool:
    """Whether a binding exists in exactly this scope."""
    return key[2] in gc._CONFIG.get(key[:2], {})


def enclosing_scopes(scope: str) -> list[str]:
    """Returns a scope and those around it in gin's order of lookup, most specific first: 'a/b' -> a/b, a, ''."""
    parts = scope.split("/") if scope else []
    return ["/".join(parts[:i]) for i in range(len(parts), -1, -1)]


def effective_key(selector: str, parameter: str, scope: str) -> Key | None:
    """Returns the key of the binding that a call in this scope uses, or None."""
    keys = ((s, selector, parameter) for s in enclosing_scopes(scope))
    return next(filter(is_bound, keys), None)


def flattened(value: Any) -> Iterator[Any]:
    """Yields a value and everything inside it."""
    return gc._iterate_flattened_values(value)


def references(value: Any) -> list[Reference]:
    """Returns the @references and %macros inside a value."""
    return [v for v in flattened(value) if isinstance(v, Reference)]


def macro_name(value: Any) -> str | None:
    """Returns NAME if a value is %NAME and refers to a macro, else None."""
    return "/".join(value.scopes) if isinstance(value, Reference) and value.configurable.selector == MACRO else None


def constant_name(value: Any) -> str | None:
    """Returns NAME if a value is %NAME and refers to a constant, else None."""
    return "/".join(value.scopes) if isinstance(value, Reference) and value.configurable.selector == CONSTANT else None


def component_name(value: Any) -> str | None:
    """Returns NAME if a value is @NAME or @NAME(), else None."""
    is_component = isinstance(value, Reference) and value.configurable.selector not in (MACRO, CONSTANT)
    return value.configurable.selector if is_component else None


def is_required(value: Any) -> bool:
    """Whether a value is %gin.REQUIRED."""
    return constant_name(value) == "gin.REQUIRED"


def follow_macros(value: Any, key: Key) -> tuple[Any, Key]:
    """Returns the value that a %MACRO resolves to and the key that sets it, or the arguments if it is no macro."""
    while (name := macro_name(value)) is not None and is_bound((name, MACRO, "value")):
        key = (name, MACRO, "value")
        value = value_of(key)
    return value, key


def resolved(value: Any) -> Any:
    """Returns a value with every %MACRO in it replaced by its value. `checks` ensures that macros form no cycle."""
    value, _ = follow_macros(value, ("", "", ""))
    if isinstance(value, (list, tuple)):
        return type(value)(resolved(v) for v in value)
    return {k: resolved(v) for k, v in value.items()} if isinstance(value, dict) else value


@dataclasses.dataclass(frozen=True)
class GinSnapshot:
    """A copy of gin's global state.

    Without it, reading another configuration would change what the factories of an earlier experiment build.
    """

    bound: Table
    operative: Table
    singletons: dict[str, Any]

    @classmethod
    def take(cls) -> "GinSnapshot":
        """Returns a snapshot of gin's current state."""
        return cls(bound(), operative(), dict(gc._SINGLETONS))

    def rebound(self, changes: dict[Key, Any]) -> "GinSnapshot":
        """Returns a copy with other values for existing bindings."""
        bound = {place: dict(values) for place, values in self.bound.items()}
        for key, value in changes.items():
            bound[key[:2]][key[2]] = value
        return dataclasses.replace(self, bound=bound)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Replaces gin's state by this one within a `with` block."""
        previous = gc._CONFIG, gc._OPERATIVE_CONFIG, gc._SINGLETONS
        gc._CONFIG, gc._OPERATIVE_CONFIG, gc._SINGLETONS = self.bound, self.operative, self.singletons
        try:
            yield
        finally:
            gc._CONFIG, gc._OPERATIVE_CONFIG, gc._SINGLETONS = previous
