"""Reads what a run has saved of its configuration, without building anything."""

import dataclasses
from typing import Any

from gin import config_parser


def parameters(config: str) -> dict[str, Any]:
    """The text of an operative_config.gin as nested plain data: {'macros': {name: value}, 'gin': {scope/name: {parameter: value}}}.

    Nothing is built, so no plugin and no simulator is needed: references stay text, such as '@Clip()'.
    """
    macros: dict[str, Any] = {}
    tree: dict[str, Any] = {}
    for statement in config_parser.ConfigParser(config, _Delegate()):
        if isinstance(statement, config_parser.BindingStatement):
            if statement.arg_name:
                name = "/".join(filter(None, (statement.scope, statement.selector)))
                tree.setdefault(name, {})[statement.arg_name] = statement.value
            else:
                macros[statement.selector] = statement.value
    return {"macros": _plain(macros, macros), "gin": _plain(tree, macros)}


@dataclasses.dataclass(frozen=True)
class _Macro:
    name: str


class _Delegate(config_parser.ParserDelegate):
    def configurable_reference(self, scoped_name: str, evaluate: bool) -> str:
        return f"@{scoped_name}{'()' if evaluate else ''}"

    def macro(self, name: str) -> _Macro:
        return _Macro(name)


def _plain(value: Any, macros: dict[str, Any]) -> Any:
    if isinstance(value, _Macro):
        return _plain(macros[value.name], macros) if value.name in macros else f"%{value.name}"
    if isinstance(value, dict):
        return {str(k): _plain(v, macros) for k, v in value.items()}
    return [_plain(v, macros) for v in value] if isinstance(value, (list, tuple)) else value
