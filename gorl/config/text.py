"""Writes bindings as text that can be read again. gin's own function silently drops infinities."""

import math
from typing import Any

from gorl.config import tables
from gorl.config.sources import shortened
from gorl.errors import ConfigError

_WIDTH = 120


def literal(value: Any) -> str:
    """Returns a value as it is written in a file. Raises ConfigError for a value that no file can hold."""
    if isinstance(value, float) and math.isinf(value):
        return "1e999" if value > 0 else "-1e999"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10_000:
        return f"{value:_}"
    if isinstance(value, (bool, int, str, type(None), tables.Reference)) or (
        isinstance(value, float) and not math.isnan(value)
    ):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(literal, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(k)}: {literal(v)}" for k, v in value.items()) + "}"
    raise ConfigError(f"{value!r} cannot be written in a configuration file.")


def brief(value: Any) -> str:
    """Returns a value as a message shows it: with its middle left out if it is long."""
    return shortened(literal(value))


def render_bindings(table: tables.Table) -> str:
    """Returns the text of a table: macros first, then a block for every class or function and scope."""
    macros = sorted((scope, values["value"]) for (scope, selector), values in table.items() if selector == tables.MACRO)
    lines = [f"{name} = {literal(value)}" for name, value in macros]
    others = {
        place: values for place, values in table.items() if place[1] not in (tables.MACRO, tables.CONSTANT) and values
    }
    for scope, selector in sorted(others, key=lambda place: (tables.show_name(place[1]).lower(), place[0])):
        name = "/".join(filter(None, (scope, tables.show_name(selector))))
        lines += ["", f"{name}:", *_parameters(others[scope, selector])]
    return "\n".join(lines).lstrip("\n") + "\n"


def _parameters(values: dict[str, Any]) -> list[str]:
    lines = []
    for name, value in sorted(values.items()):
        line = f"  {name} = {literal(value)}"
        if len(line) > _WIDTH and isinstance(value, list):
            line = "\n".join([f"  {name} = [", *(f"      {literal(v)}," for v in value), "  ]"])
        lines.append(line)
    return lines
