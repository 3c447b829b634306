"""Reads a study from gin files: the parameters that vary, as text that can be bound again, and its sweep."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import gin

from gorl.config import checks, mistakes, order, tables
from gorl.config.build import Configuration
from gorl.config.checks import STUDY
from gorl.config.reader import read_source
from gorl.config.sources import COMMAND_LINE, Origin, Source
from gorl.config.text import brief, literal
from gorl.errors import ConfigError

SWEEP = "gorl.Sweep"


@dataclasses.dataclass(frozen=True)
class StudySource:
    """A study as it was read.

    `grid`: values as they are written in a file. `bindings`: those of the command line that apply to the runs. `at`:
    the origin of each parameter of Study.
    """

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
    """Replaces gin's configuration by these files and bindings, and builds the sweep but no experiment.

    Raises ConfigError.
    """
    source = read_source(files, bindings, plugins)
    order.check_order(source)
    try:
        sweep = gin.get_configurable(SWEEP)()
    except Exception as err:
        if mistakes.is_explicable(err):
            raise ConfigError(mistakes.explain_build(err, source)) from err
        raise
    sweep_keys = checks.used(source)
    typed = [c for c in source.changes if c.origin.file == COMMAND_LINE]
    run_bindings = [c.origin.text for c in typed if c.key[1] != STUDY and c.key not in sweep_keys]
    at = {
        name: source.origins[key]
        for name in tables.bindable_parameters(STUDY)
        if (key := ("", STUDY, name)) in source.origins
    }
    return StudySource(**_declared(source), sweep=sweep, bindings=run_bindings, plugins=source.plugins, at=at)


def _declared(source: Source) -> dict[str, Any]:
    """Returns the parameters of Study. A grid's values stay text, because they are bound in the runs and not here."""
    found = {}
    for name in tables.bindable_parameters(STUDY):
        key = ("", STUDY, name)
        if not tables.is_bound(key):
            raise ConfigError(f"Study.{name} is not set. Include parts/base.gin, which has its default, or set it.")
        value, _ = tables.follow_macros(tables.value_of(key), key)
        found[name] = value
    found["variants"] = {
        name: [tables.resolved(v) for v in tables.resolved(words)] for name, words in found["variants"].items()
    }
    found["grid"] = {name: _values(name, values, source) for name, values in found["grid"].items()}
    return {name: value if name in ("grid", "variants") else tables.resolved(value) for name, value in found.items()}


def _values(name: str, values: Any, source: Source) -> list[str]:
    values, _ = tables.follow_macros(values, ("", STUDY, "grid"))
    if not isinstance(values, list):
        raise ConfigError(
            f"{source.origins['', STUDY, 'grid']}: Study.grid[{name!r}] is {brief(values)},"
            f" but it is a list of values: [{brief(values)}]."
        )
    return [literal(v) for v in values]


def seed_bindings(configuration: Configuration) -> list[str]:
    """Returns the bindings that set the first seed and the number of seeds, as texts with {first} and {count}."""
    fields = {"seed": "first", "num_seeds": "count"}
    return [f"{tables.show_key(_setter(configuration, name))} = {{{field}}}" for name, field in fields.items()]


def seed_origin(configuration: Configuration, parameter: str) -> Origin:
    """Returns where Experiment.seed or Experiment.num_seeds is set."""
    return configuration.source.origins[_setter(configuration, parameter)]


def _setter(configuration: Configuration, parameter: str) -> tables.Key:
    """Returns the key of the macro that sets a parameter of Experiment, or else of the parameter."""
    key = ("", "gorl.Experiment", parameter)
    macro = tables.macro_name(configuration.tables.bound[key[:2]][parameter])
    return key if macro is None else (macro, tables.MACRO, "value")
