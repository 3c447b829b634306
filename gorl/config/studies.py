"""Reads a study from gin files: what varies, as text that can be bound again, and how it is swept."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import gin

from gorl.config import checks, mistakes, tables
from gorl.config.build import Configuration
from gorl.config.checks import STUDY
from gorl.config.reader import read
from gorl.config.sources import COMMAND_LINE, Origin, Source
from gorl.config.text import literal
from gorl.errors import ConfigError

SWEEP = "gorl.Sweep"


@dataclasses.dataclass(frozen=True)
class StudySource:
    """`grid` has its values as one writes them. `bindings` are those of the command line that are for the runs; `at`: where each
    parameter of Study was set."""

    name: str | None
    variants: dict[str, list[str]]
    grid: dict[str, list[str]]
    seeds: int | list[int]
    seeds_together: bool
    variants_together: bool
    append: list[str]
    sweep: Any
    bindings: list[str]
    plugins: tuple[str, ...]
    at: dict[str, Origin]


def read_study(files: Sequence[str], bindings: Iterable[str] = (), plugins: Iterable[str] = ()) -> StudySource:
    """Replaces gin's configuration by these files and bindings. Raises ConfigError; builds the sweep, but no experiment."""
    source = read(files, bindings, plugins)
    try:
        sweep = gin.get_configurable(SWEEP)()
    except Exception as err:
        if mistakes.is_explicable(err):
            raise ConfigError(mistakes.explain_build(err, source)) from err
        raise
    about_sweep = checks.used(source)
    typed = [c for c in source.changes if c.origin.file == COMMAND_LINE]
    mine = [c.origin.text for c in typed if c.key[1] != STUDY and c.key not in about_sweep]
    at = {
        name: source.origins[key] for name in tables.parameters(STUDY) if (key := ("", STUDY, name)) in source.origins
    }
    return StudySource(**_declared(source), sweep=sweep, bindings=mine, plugins=source.plugins, at=at)


def _declared(source: Source) -> dict[str, Any]:
    """The parameters of Study. A grid's values stay text: they are bound in the runs, not here."""
    found = {}
    for name in tables.parameters(STUDY):
        key = ("", STUDY, name)
        if not tables.is_bound(key):
            raise ConfigError(f"Study.{name} is not set. Include parts/base.gin, which has its default, or set it.")
        value, _ = tables.through_macros(tables.value_of(key), key)
        found[name] = value
    found["variants"] = {
        name: [tables.resolved(v) for v in tables.resolved(words)] for name, words in found["variants"].items()
    }
    found["grid"] = {name: _values(name, values, source) for name, values in found["grid"].items()}
    return {name: value if name in ("grid", "variants") else tables.resolved(value) for name, value in found.items()}


def _values(name: str, values: Any, source: Source) -> list[str]:
    values, _ = tables.through_macros(values, ("", STUDY, "grid"))
    if not isinstance(values, list):
        raise ConfigError(
            f"{source.origins['', STUDY, 'grid']}: Study.grid[{name!r}] is {literal(values)}, but it is a list of values: [{literal(values)}]."
        )
    return [literal(v) for v in values]


def seed_bindings(configuration: Configuration) -> list[str]:
    """How to say the first seed and their number of this experiment: texts with {first} and {count}."""
    found = []
    for parameter, field in (("seed", "first"), ("num_seeds", "count")):
        key = ("", "gorl.Experiment", parameter)
        macro = tables.macro_name(configuration.tables.bound[key[:2]][parameter])
        found.append(f"{macro or 'Experiment.' + parameter} = {{{field}}}")
    return found
