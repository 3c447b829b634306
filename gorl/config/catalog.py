"""What can be named and bound, described for `gorl list`."""

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
    name: str
    kind: str  # its type, as one reads it
    default: str | None  # None: it must be bound
    choices: tuple[str, ...]  # what is registered for it
    doc: str


@dataclasses.dataclass(frozen=True)
class CatalogEntry:
    """A class or function."""

    name: str
    doc: str
    parameters: tuple[Parameter, ...]

    @property
    def summary(self) -> str:
        """The first sentence or line."""
        first = self.doc.partition("\n\n")[0].replace("\n", " ")
        return re.split(r"(?<=[^.][.]) (?=[A-Z`(])", first)[0]


def names(plugins: Sequence[str] = ()) -> list[str]:
    """Every class and function that can be named."""
    for plugin in (REGISTRY, *plugins):
        import_plugin(plugin)
    return tables.configurables()


def constants() -> list[str]:
    return [f"%{name}" for name in tables.constants()]


def implementations(kind: type) -> list[str]:
    """What is registered of a kind, as it is written: @Name()."""
    return kinds.choices(kind)


def entry(name: str) -> CatalogEntry:
    """The description of what a name stands for. Raises ConfigError for an unknown name."""
    found = tables.matches(name.strip("@%()"))
    if len(found) != 1:
        raise ConfigError(
            f"{name} may be {' or '.join(found)}."
            if found
            else f"nothing is called {name!r}.{guess(name, tables.configurables())}"
        )
    target = tables.target(found[0])
    doc = inspect.getdoc(target) or ""
    hints = kinds.annotations(target)
    arguments = _arguments(doc)
    listed = [
        _parameter(p, hints.get(p.name, Any), arguments.get(p.name, "")) for p in tables.parameters(found[0]).values()
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
    """The descriptions in an 'Args:' section, by parameter."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n(?=[ \t]))+)", doc, re.MULTILINE)
    if not section:
        return {}
    found = re.findall(r"^  (\w+)(?: \([^)]*\))?:\s*(.*(?:\n    +.*)*)", section[1], re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}
