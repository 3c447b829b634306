"""Bindings that cannot mean what they say: of the wrong type, still required, or without any effect."""

import inspect
import types
import typing
from typing import Any

from gin import config as gc

from gorl.config.mistakes import show_key
from gorl.config.reader import COMMAND_LINE, Key, Source
from gorl.errors import ConfigError, did_you_mean

_PLAIN = (bool, int, float, str, type(None))


def check_values(source: Source) -> None:
    """Types that gin does not check, and %gin.REQUIRED inside a container."""
    for (scope, selector), bound in gc._CONFIG.items():
        hints = _hints(gc._REGISTRY[selector].wrapped)
        for name, value in bound.items():
            key = (scope, selector, name)
            value, at = through_macros(value, key, source)
            if any(repr(v) == "%gin.REQUIRED" for v in gc._iterate_flattened_values(value)):
                raise ConfigError(f"{at}: {show_key(key)} still contains %gin.REQUIRED. Give it a value in a file or with --set.")
            _check_type(key, value, hints.get(name, Any), at)


def _hints(target: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError, AttributeError):
        return {}


def _check_type(key: Key, value: Any, hint: Any, at: Any) -> None:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union else (hint,)
    if not isinstance(value, _PLAIN) or not all(o in _PLAIN or _is_array(o) for o in options):
        return
    allowed = {o for o in options if o in _PLAIN} | ({int} if float in options else set())
    if type(value) in allowed:
        return
    wanted = " or ".join(sorted("None" if o is type(None) else o.__name__ for o in options if o in _PLAIN))
    fix = ""
    if int in allowed and isinstance(value, float) and value == value and abs(value) < 1e300 and value.is_integer():
        fix = f" Write {int(value):_}."
    elif str in allowed:
        fix = f" Write '{value}'."
    elif isinstance(value, str):
        fix = " Write it without quotes."
    raise ConfigError(f"{at}: {show_key(key)} = {value!r}, but {key[2]} is of type {wanted}.{fix}")


def _is_array(option: Any) -> bool:
    return isinstance(option, type) and option.__module__.partition(".")[0] in ("numpy", "jax", "jaxlib", "jaxtyping")


def through_macros(value: Any, key: Key, source: Source) -> tuple[Any, Any]:
    """The value behind %MACRO, and where it was written."""
    at = source.origins.get(key, "?")
    while isinstance(value, gc.ConfigurableReference) and value.selector == "gin.macro" and value.config_key in gc._CONFIG:
        macro = value.config_key
        value = gc._CONFIG[macro]["value"]
        at = source.origins.get((*macro, "value"), at)
    return value, at


def check_effects(source: Source) -> list[str]:
    """Raises ConfigError for bindings that no call consumed; returns notes on harmless ones. Call after building.

    What is typed on the command line must matter. Files may also speak of parts that this run does not use, and of
    values that a more specific scope overrides everywhere.
    """
    used, entered, seen = _consumed()
    macros = {scope for scope, selector, _ in used if selector == "gin.macro"}
    errors, notes = [], []
    for (scope, selector), bound in gc._CONFIG.items():
        for name in bound:
            key = (scope, selector, name)
            if key in used:
                continue
            grave, text = _verdict(key, entered, seen, macros)
            origin = source.origins.get(key)
            line = f"{origin}: {text}"
            (errors if grave or (origin and origin.file == COMMAND_LINE) else notes).append(line)
    if errors:
        what = "a binding has" if len(errors) == 1 else f"{len(errors)} bindings have"
        raise ConfigError(f"{what} no effect:\n  " + "\n  ".join(errors))
    return notes


def _verdict(key: Key, entered: set[str], seen: dict[str, set[str]], macros: set[str]) -> tuple[bool, str]:
    scope, selector, name = key
    shown = show_key(key)
    if selector == "gin.macro":
        guess = did_you_mean(scope, macros, cutoff=0.8)
        return bool(guess), f"nothing reads %{scope}.{guess}"
    short = selector.removeprefix("gorl.")
    if scope not in entered:
        return True, f"{shown}: scope '{scope}' is never entered.{did_you_mean(scope, entered - macros)}"
    if selector not in seen:
        return False, f"{shown}: {short} is not part of this run."
    if name not in seen[selector]:
        return True, f"{shown}: the code always passes {name} itself."
    return False, f"{shown}: every use is overridden by a more specific scope."


def _consumed() -> tuple[set[Key], set[str], dict[str, set[str]]]:
    """(bindings that some call took, scopes that were entered, parameters taken by configurable)."""
    used: set[Key] = set()
    entered = {""}
    seen: dict[str, set[str]] = {}
    for (scope, selector), values in gc._OPERATIVE_CONFIG.items():
        parts = scope.split("/") if scope else []
        prefixes = ["/".join(parts[:i]) for i in range(len(parts), -1, -1)]  # most specific first, as gin resolves
        entered.update(prefixes)
        seen.setdefault(selector, set()).update(values)
        for name in values:
            taken = next((p for p in prefixes if name in gc._CONFIG.get((p, selector), {})), None)
            if taken is not None:
                used.add((taken, selector, name))
    return used, entered, seen
