"""What a configuration says, resolved: every reference with the bindings that reach it, every macro with its value.

The result is plain data that two configurations share exactly where they build the same.
"""

from typing import Any

from gorl.config import tables

LATER = "()"
"""In the tree of a reference that is not evaluated: it is called when sizes and a key are known."""


def resolved_tree(tables_then: tables.Snapshot, selector: str) -> dict[str, Any]:
    """`selector`, called in no scope: {'@': its name, parameter: value}, with references inside resolved the same way (those that
    are not evaluated have the key `LATER`).

    gin's rules: an evaluated reference without a scope is built in the scope around it; one with a scope, and one that is not
    evaluated, in its own; a macro's value in a scope of the macro's name.
    """
    with tables_then.active():
        return _called(selector, "")


def _called(selector: str, scope: str) -> dict[str, Any]:
    tree: dict[str, Any] = {"@": tables.show_name(selector)}
    for name in sorted(tables.parameters(selector)):
        key = tables.in_effect(selector, name, scope)
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
    own = "/".join(reference.scopes)
    tree = _called(reference.configurable.selector, own or (scope if reference.evaluate else ""))
    return tree if reference.evaluate else {**tree, LATER: True}


def unmade(tree: Any) -> list[Any]:
    """The parts of a tree that are called later, such as networks, in order."""
    if isinstance(tree, dict):
        return [tree] if LATER in tree else [found for value in tree.values() for found in unmade(value)]
    return [found for value in tree for found in unmade(value)] if isinstance(tree, list) else []
