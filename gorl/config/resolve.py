"""Resolved configurations: every reference with the bindings that reach it, every macro replaced by its value.

Two configurations resolve to equal plain data exactly where they build the same.
"""

from typing import Any

from gorl.config import tables

LATER = "()"
"""The key that marks a reference that is not evaluated: it is called later, when sizes and a PRNG key are known."""


def resolved_tree(snapshot: tables.GinSnapshot, selector: str) -> dict[str, Any]:
    """Returns {'@': name, parameter: value} for `selector` called in no scope, and for every reference inside it.

    References that are not evaluated have the key `LATER`. The scopes follow gin's rules. An evaluated reference
    without a scope is built in the scope around it. A reference with a scope, or one that is not evaluated, is built in
    its own scope. A macro's value is built in a scope of the macro's name.
    """
    with snapshot.active():
        return _called(selector, "")


def _called(selector: str, scope: str) -> dict[str, Any]:
    tree: dict[str, Any] = {"@": tables.show_name(selector)}
    for name in sorted(tables.bindable_parameters(selector)):
        key = tables.effective_key(selector, name, scope)
        if key is not None:
            tree[name] = _value(tables.value_of(key), scope)
    return tree


def _value(value: Any, scope: str) -> Any:
    if isinstance(value, tables.Reference):
        return _reference(value, scope)
    if isinstance(value, (list, tuple)):
        return [_value(v, scope) for v in value]
    if isinstance(value, dict):
        return {str(k): _value(v, scope) for k, v in value.items()}
    return value


def _reference(reference: tables.Reference, scope: str) -> Any:
    if (name := tables.macro_name(reference)) is not None:
        return _value(tables.value_of((name, tables.MACRO, "value")), name)
    if (name := tables.constant_name(reference)) is not None:
        return f"%{name}"
    reference_scope = "/".join(reference.scopes)
    tree = _called(reference.configurable.selector, reference_scope or (scope if reference.evaluate else ""))
    return tree if reference.evaluate else {**tree, LATER: True}


def deferred_parts(tree: Any) -> list[Any]:
    """Returns the parts of a tree that are called later, such as networks, in order."""
    if isinstance(tree, dict):
        return [tree] if LATER in tree else [found for value in tree.values() for found in deferred_parts(value)]
    return [found for value in tree for found in deferred_parts(value)] if isinstance(tree, list) else []
