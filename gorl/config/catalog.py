"""Descriptions of everything that can be named and bound, for `gorl list`."""

import dataclasses
import inspect
import re
from collections.abc import Sequence
from typing import Any

from gorl.config import kinds, tables
from gorl.config.files import REGISTRY, import_plugin
from gorl.config.mistakes import guess
from gorl.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Parameter:
    """The description of a parameter that can be bound."""

    name: str
    kind: str  # its type, for a reader
    default: str | None  # None: it must be bound
    choices: tuple[str, ...]  # the registered classes that it accepts
    doc: str


@dataclasses.dataclass(frozen=True)
class CatalogEntry:
    """The description of a class or function."""

    name: str
    doc: str
    parameters: tuple[Parameter, ...]

    @property
    def summary(self) -> str:
        """The first sentence of `doc`."""
        first = self.doc.partition("\n\n")[0].replace("\n", " ")
        return re.split(r"(?<=[^.][.]) (?=[A-Z`(])", first)[0]


def names(plugins: Sequence[str] = ()) -> list[str]:
    """Returns the name of every class and function that can be named, those of plugins included."""
    for plugin in (REGISTRY, *plugins):
        import_plugin(plugin)
    return tables.configurable_names()


def constant_names() -> list[str]:
    """Returns the constants that gin can name, as they are written: %name."""
    return [f"%{name}" for name in tables.constants()]


def implementations(kind: type) -> list[str]:
    """Returns the registered classes of a kind, as they are written: @Name()."""
    return kinds.choices(kind)


def entry(name: str) -> CatalogEntry:
    """Returns the description of a class or function. Raises ConfigError for an unknown or ambiguous name."""
    found = tables.matches(name.strip("@%()"))
    if len(found) != 1:
        raise ConfigError(
            f"{name} may be {' or '.join(found)}."
            if found
            else f"nothing is called {name!r}.{guess(name, tables.configurable_names())}"
        )
    target = tables.configurable(found[0])
    doc = inspect.getdoc(target) or ""
    hints = kinds.annotations(target)
    arguments = _arguments(doc)
    listed = [
        _parameter(p, hints.get(p.name, Any), arguments.get(p.name, ""))
        for p in tables.bindable_parameters(found[0]).values()
    ]
    return CatalogEntry(tables.show_name(found[0]), doc.partition("\n\n")[0] if arguments else doc, tuple(listed))


def _parameter(parameter: inspect.Parameter, hint: Any, doc: str) -> Parameter:
    default = None if parameter.default is parameter.empty else repr(parameter.default)
    kind = (
        kinds.label(hint)
        if hint is not Any
        else type(parameter.default).__name__
        if parameter.default not in (parameter.empty, None)
        else "anything"
    )
    return Parameter(parameter.name, kind, default, tuple(kinds.choices(hint)), doc)


def _arguments(doc: str) -> dict[str, str]:
    """Returns the descriptions in the 'Args:' section of a docstring, by parameter."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n(?=[ \t]))+)", doc, re.MULTILINE)
    if not section:
        return {}
    found = re.findall(r"^  (\w+)(?: \([^)]*\))?:\s*(.*(?:\n    +.*)*)", section[1], re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}
