"""Type checks of bound values against annotations, which gin does not do.

Only values that are certainly wrong are refused. An annotation that is not understood accepts anything.
"""

import collections.abc
import dataclasses
import functools
import inspect
import types
import typing
from typing import Any

from gorl.config import tables
from gorl.config.text import literal
from gorl.errors import ConfigError, did_you_mean
from gorl.fields import Factory
from gorl.optimizers import OptaxCall

_PLAIN = (bool, int, float, str, type(None))
_LISTS = (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


@functools.cache
def annotations(target: collections.abc.Callable) -> dict[str, Any]:
    """Returns the annotation of every parameter of a class or function.

    A field's converter hides the type of its result. For lists and factories the field's own annotation is returned.
    """
    try:
        hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
        fields = typing.get_type_hints(target) if inspect.isclass(target) else {}
    except (NameError, TypeError, AttributeError):
        return {}
    for name, field in fields.items():
        if hints.get(name) is collections.abc.Sequence or (
            hints.get(name) is collections.abc.Callable and field is Factory
        ):
            hints[name] = field
    for field in dataclasses.fields(target) if inspect.isclass(target) and dataclasses.is_dataclass(target) else ():
        if "takes" in field.metadata:
            hints[field.name] = field.metadata["takes"]
    return hints


def union_members(hint: Any) -> tuple[Any, ...]:
    """Returns the members of a union, or the hint itself as the only one."""
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    return typing.get_args(hint) if union else (hint,)


def label(hint: Any) -> str:
    """Returns a readable annotation: `float`, `str | None`, `list of AbstractPhase`."""
    names = [_label(o) for o in union_members(hint) if not _is_array(o) or not {float, int} & set(union_members(hint))]
    if "float" in names and "int" in names:
        names.remove("int")
    return " | ".join(dict.fromkeys(names))


def _label(option: Any) -> str:
    if option is type(None):
        return "None"
    if option is Factory:
        return "class (no parentheses)"
    if _origin(option) is collections.abc.Callable:
        return "function or class (no parentheses)"
    if _origin(option) in _LISTS:
        elements = [a for a in typing.get_args(option) if a is not Ellipsis]
        return f"list of {' or '.join(dict.fromkeys(map(label, elements)))}" if elements else "list"
    if _origin(option) in _DICTS:
        return "dict"
    if _origin(option) is typing.Literal:
        return " | ".join(map(repr, typing.get_args(option)))
    return "array" if _is_array(option) else "anything" if option is Any else getattr(option, "__name__", str(option))


def choices(hint: Any) -> list[str]:
    """Returns the registered classes that a parameter (or an entry of its list) accepts, as written: @Name()."""
    found = []
    if any(_is_custom_class(o) and not _implementations(o) for o in union_members(hint)):
        return []
    for option in union_members(hint):
        if _origin(option) in _LISTS:
            found += [name for e in typing.get_args(option) if e is not Ellipsis for name in choices(e)]
        elif _is_component(option):
            found += [f"@{name}()" for name in _implementations(option)]
    return sorted(set(found))


def _implementations(kind: type) -> list[str]:
    """Returns the names of the registered classes of a kind, and of the functions that return one."""
    return [
        tables.show_name(selector)
        for selector, target in tables.registered().items()
        if _is_subclass(_made_by(target), kind)
    ]


def _made_by(target: Any) -> Any:
    """Returns the class itself, or the class of what a function returns, if that is known."""
    return target if inspect.isclass(target) else annotations(target).get("return")


def _is_subclass(target: Any, kind: Any) -> bool:
    try:
        return issubclass(target, kind)
    except TypeError:
        return False


def _origin(option: Any) -> Any:
    return typing.get_origin(option) or option


def _is_array(option: Any) -> bool:
    return isinstance(option, type) and option.__module__.partition(".")[0] in ("numpy", "jax", "jaxlib", "jaxtyping")


def _is_component(option: Any) -> bool:
    """Whether some registered class is a subclass of this class."""
    return _is_custom_class(option) and bool(_implementations(option))


def _is_custom_class(option: Any) -> bool:
    """Whether an annotation is a class of neither Python, NumPy nor JAX."""
    return (
        isinstance(option, type)
        and option.__module__ not in ("builtins", "collections.abc")
        and not _is_array(option)
        and option is not Factory
    )


def numeric_kind(hint: Any) -> type | None:
    """Returns float (which includes ints) or int if a parameter takes numbers, else None."""
    members = union_members(hint)
    return float if float in members or any(map(_is_array, members)) else int if int in members else None


def is_budget(target: collections.abc.Callable, parameter: str) -> bool:
    """Whether a parameter is a `gorl.fields.budget`, which only the host counts with."""
    fields = dataclasses.fields(target) if dataclasses.is_dataclass(target) else ()
    return any(field.name == parameter and "budget" in field.metadata for field in fields)


def mismatch(hint: Any, value: Any, path: str = "") -> tuple[str, Any, Any] | None:
    """Returns the part of a value that its annotation excludes, as ('[1]', annotation, part), or None."""
    if any(_fits(option, value) for option in union_members(hint)):
        return None
    for option in union_members(hint):
        if isinstance(value, (list, tuple)) and _origin(option) in _LISTS:
            parts = (mismatch(_element(option), v, f"{path}[{i}]") for i, v in enumerate(value))
            return next((found for found in parts if found), None)
    return path, hint, value


def _element(option: Any) -> Any:
    """Returns the annotation of a list's entries (Any for tuples of several types and bare lists)."""
    args = [a for a in typing.get_args(option) if a is not Ellipsis]
    return args[0] if len(args) == 1 else Any


def _fits(option: Any, value: Any) -> bool:
    origin = _origin(option)
    if option is Any or option is object:
        return True
    if isinstance(value, tables.Reference):
        return _reference_fits(option, value)
    if isinstance(value, (list, tuple)) and origin in _LISTS:
        return all(mismatch(_element(option), v) is None for v in value)
    if isinstance(value, dict) and origin in _DICTS:
        return True
    if isinstance(value, (int, float)) and not isinstance(value, bool) and (option is float or _is_array(option)):
        return True
    if option in _PLAIN:
        return type(value) is option
    if origin is typing.Literal:
        return value in typing.get_args(option)
    known = origin in (*_LISTS, *_DICTS, collections.abc.Callable) or option is Factory or _is_component(option)
    if _is_array(option):
        return isinstance(value, (list, tuple)) or (
            isinstance(value, bool) and option.__name__.startswith(("Bool", "Shaped"))
        )
    return not known


def _reference_fits(option: Any, value: tables.Reference) -> bool:
    """Whether an annotation accepts @Thing, @Thing() or %constant."""
    origin = _origin(option)
    if (name := tables.constant_name(value)) is not None:
        constant = tables.constants().get(name)
        if origin is collections.abc.Callable or option is Factory:
            return callable(constant)
        return isinstance(constant, option) if option in _PLAIN or _is_component(option) else True
    target = _made_by(value.configurable.wrapped)
    is_optax = _is_subclass(target, OptaxCall)
    later = origin is collections.abc.Callable or option is Factory or option is type
    if is_optax and (later or not value.evaluate):
        return False  # its functions are called in files, and what they make is no function that gorl calls
    if not value.evaluate:
        return later or not isinstance(origin, type) or getattr(option, "_is_protocol", False)
    if not inspect.isclass(target):
        return option is not Factory
    if option in _PLAIN or option is Factory or origin in (*_LISTS, *_DICTS):
        return False
    return (
        _is_subclass(target, collections.abc.Callable)
        if later
        else not isinstance(origin, type) or _is_array(option) or _is_subclass(target, option)
    )


def fix(hint: Any, value: Any) -> str:
    """Returns the sentence that says how to write the intended value, or ''."""
    allowed = union_members(hint)
    if isinstance(value, tables.Reference):
        return _fix_reference(hint, value)
    if (
        isinstance(value, float)
        and int in allowed
        and float not in allowed
        and value.is_integer()
        and abs(value) < 1e18
    ):
        return f" Write {literal(int(value))}."
    if isinstance(value, int) and bool in allowed and value in (0, 1):
        return f" Write {bool(value)}."
    if isinstance(value, str):
        return _fix_string(hint, value)
    if str in allowed:
        return f" Write '{value}'."
    if value is None and {int, float} & set(allowed):
        return " A number that means 'off' is written 0, or 1e999 (infinity)."
    return _fix_list(hint, value)


def _fix_reference(hint: Any, value: tables.Reference) -> str:
    shown = literal(value)
    uncalled = tables.Reference(value.scoped_selector, False)
    if value.evaluate and any(_reference_fits(option, uncalled) for option in union_members(hint)):
        return f" Write it without (): {shown.removesuffix('()')}."
    if not value.evaluate and mismatch(hint, tables.Reference(value.scoped_selector, True)) is None:
        return f" Did you forget '()'? Write {shown}()."
    return _fix_list(hint, value)


def _fix_string(hint: Any, value: str) -> str:
    if any(o in (int, float, bool) or _is_array(o) for o in union_members(hint)):
        try:
            number = float(value) if "." in value or "e" in value else int(value)
            return f" Write it without quotes: {literal(number)}."
        except ValueError:
            return " Write it without quotes." if value in ("True", "False") else ""
    constants = [name for name in tables.constants() if name.split(".")[-1] == value.split(".")[-1]]
    if constants and any(_origin(o) is collections.abc.Callable for o in union_members(hint)):
        return f" Write %{constants[0]}."
    named = [choice for choice in choices(hint) if choice == f"@{value.removesuffix('()')}()"]
    literals = [str(a) for o in union_members(hint) if _origin(o) is typing.Literal for a in typing.get_args(o)]
    return f" Write {named[0]}." if named else did_you_mean(value, literals) or _fix_list(hint, value)


def _fix_list(hint: Any, value: Any) -> str:
    lists = [o for o in union_members(hint) if _origin(o) in _LISTS]
    if any(_fits(o, [value]) for o in lists):
        return f" Write it in brackets: [{_shown(value)}]."
    if lists and value is None:
        return " Write [] for none."
    known = choices(hint)
    return f" It takes {' or '.join(known)}." if 0 < len(known) <= 12 else ""


def _shown(value: Any) -> str:
    try:
        return literal(value)
    except ConfigError:
        return repr(value)
