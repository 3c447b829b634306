"""Reads the saved configuration of a run without building anything."""

import dataclasses
from typing import Any

from gin import config_parser


def parse_parameters(config: str) -> dict[str, Any]:
    """Returns an operative_config.gin as {'macros': {name: value}, 'gin': {scope/name: {parameter: value}}}.

    Nothing is built, so neither plugins nor simulators are needed. References remain text, such as '@Clip()'.
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
    return {"macros": _to_plain_data(macros, macros), "gin": _to_plain_data(tree, macros)}


@dataclasses.dataclass(frozen=True)
class _Macro:
    name: str


class _Delegate(config_parser.ParserDelegate):
    def configurable_reference(self, scoped_name: str, evaluate: bool) -> str:
        return f"@{scoped_name}{'()' if evaluate else ''}"

    def macro(self, name: str) -> _Macro:
        return _Macro(name)


def _to_plain_data(value: Any, macros: dict[str, Any]) -> Any:
    if isinstance(value, _Macro):
        return _to_plain_data(macros[value.name], macros) if value.name in macros else f"%{value.name}"
    if isinstance(value, dict):
        return {str(k): _to_plain_data(v, macros) for k, v in value.items()}
    return [_to_plain_data(v, macros) for v in value] if isinstance(value, (list, tuple)) else value
