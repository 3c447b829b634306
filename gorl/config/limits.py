"""Limits of what a configuration may expand to, so that no file holds a machine for minutes.

They are far beyond what any experiment needs: the largest shipped file has 20,000 characters and 400 bindings.
"""

from gorl.config import tables
from gorl.config.sources import Source
from gorl.config.tables import Key, show_key
from gorl.errors import ConfigError

MOST_CHARACTERS = 250_000
"""Of one file."""
MOST_READS = 300
"""Files, counted as often as they are read."""
DEEPEST_INCLUDES = 30
MOST_BINDINGS = 5_000
DEEPEST_MACROS = 50
MOST_PARTS = 20_000
"""Of a value, with its macros put in."""
MOST_OBJECTS = 5_000
"""That an experiment builds."""


def check_text(name: str, text: str, within: int, source: Source) -> None:
    """Raises ConfigError for a file that is too long, or one that is included too often or too deeply."""
    source.reads += 1
    for count, most, what in (
        (len(text), MOST_CHARACTERS, "characters"),
        (source.reads, MOST_READS, "files are read, each as often as it is included"),
        (within, DEEPEST_INCLUDES, "files include each other in a row"),
    ):
        if count > most:
            raise ConfigError(f"{name}: more than {most:_} {what}. Split it, or include less.")


def check_expansion(source: Source) -> None:
    """Raises ConfigError for macros of themselves, and for values and experiments that grow beyond all use."""
    sizes: dict[str, int] = {}
    for key, value in tables.bindings():
        size = _size(value, (), sizes, source)
        if size > MOST_PARTS:
            raise ConfigError(
                f"{source.origins[key]}: {show_key(key)} has more than {MOST_PARTS:_} parts, with its macros put in."
                " Write a shorter one."
            )
    if _objects("gorl.Experiment", "", {}) > MOST_OBJECTS:
        key = max((key for key, _ in tables.bindings()), key=_references)
        raise ConfigError(
            f"{source.origins[key]}: this configuration builds more than {MOST_OBJECTS:_} objects, and"
            f" {show_key(key)} alone names {_references(key):_} of them. Name fewer."
        )


def _references(key: Key) -> int:
    return sum(r.evaluate and tables.macro_name(r) is None for r in tables.references(tables.value_of(key)))


def _size(value: object, within: tuple[str, ...], sizes: dict[str, int], source: Source) -> int:
    """Returns the number of parts of a value, with those of its macros. `sizes`: of the macros that are known."""
    total = 0
    for part in tables.flattened(value):
        name = tables.macro_name(part)
        total += 1 if name is None else _macro_size(name, within, sizes, source)
    return total


def _macro_size(name: str, within: tuple[str, ...], sizes: dict[str, int], source: Source) -> int:
    if name not in sizes:
        key = (name, tables.MACRO, "value")
        if name in within:
            cycle = " -> ".join(f"%{n}" for n in (*within[within.index(name) :], name))
            raise ConfigError(
                f"{source.origins[key]}: {name} is defined in terms of itself ({cycle}). Give it a value."
            )
        if len(within) >= DEEPEST_MACROS:
            raise ConfigError(
                f"{source.origins[key]}: {name} is the end of a chain of more than {DEEPEST_MACROS} macros."
                " Give one of them a value."
            )
        sizes[name] = _size(tables.value_of(key), (*within, name), sizes, source)
    return sizes[name]


def _objects(selector: str, scope: str, known: dict[tuple[str, str], int]) -> int:
    """Returns how many objects a call builds, itself included. References that form a cycle are counted once."""
    if (selector, scope) not in known:
        known[selector, scope] = 0  # while it is counted: a cycle is explained elsewhere
        total = 1
        for name in tables.bindable_parameters(selector):
            key = tables.effective_key(selector, name, scope)
            if key is not None:
                total += _objects_in(tables.value_of(key), scope, known)
        known[selector, scope] = total
    return known[selector, scope]


def _objects_in(value: object, scope: str, known: dict[tuple[str, str], int]) -> int:
    total = 0
    for reference in tables.references(value):
        if (name := tables.macro_name(reference)) is not None:
            total += _objects_in(tables.value_of((name, tables.MACRO, "value")), name, known)
        elif reference.evaluate and tables.constant_name(reference) is None:
            total += _objects(reference.configurable.selector, "/".join(reference.scopes) or scope, known)
        if total > 10 * MOST_OBJECTS:
            break
    return total
