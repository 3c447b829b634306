"""Builds the experiment that a configuration declares, and saves the configuration."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import gin

from gorl.config import checks, mistakes, tables
from gorl.config.files import FORMAT
from gorl.config.reader import read
from gorl.config.resolve import resolved_tree
from gorl.config.sources import Source
from gorl.config.text import render
from gorl.errors import ConfigError
from gorl.experiment import Experiment
from gorl.fields import Factory
from gorl.state import Spaces

_SIZES = Spaces(3, 3, 2)  # any sizes will do to call every factory once


@dataclasses.dataclass(frozen=True)
class Configuration:
    """A checked experiment with the texts that declare it."""

    experiment: Experiment
    source: Source
    effective: tables.Table  # the bindings that some call took
    notes: tuple[str, ...]
    tables: tables.Snapshot

    @property
    def config(self) -> str:
        """What was asked, as text."""
        return render(self.effective)

    @property
    def operative(self) -> str:
        """What ran, as text."""
        return render(self.tables.taken)

    @property
    def tree(self) -> dict[str, Any]:
        """The experiment as nested plain data: {'@': class, parameter: value}, every reference and macro resolved."""
        return resolved_tree(self.tables, "gorl.Experiment")

    @property
    def tree_here(self) -> dict[str, Any]:
        """The tree of a run that begins on this machine. Starts the device if anything is left to that."""
        return resolved_tree(self.tables.rebound(_settled(self.tables)), "gorl.Experiment")

    def save(self, folder: pathlib.Path) -> None:
        """config.gin, operative_config.gin and the files as read."""
        plugins = "".join(f" --plugin {p}" for p in self.source.plugins)
        again = f"Run it again: gorl train THIS_FILE{plugins}"
        for name, what, text in (
            ("config.gin", "What was asked, with every include resolved.", self.config),
            ("operative_config.gin", "What ran, with every default.", self.operative),
        ):
            (folder / name).write_text(f"# gorl-format: {FORMAT}\n# {what} {again}\n\n{text}", encoding="utf-8")
        (folder / "sources").mkdir()
        for i, (path, text) in enumerate(self.source.texts.items()):
            (folder / "sources" / f"{i:02d}-{pathlib.Path(path).name}").write_text(text, encoding="utf-8")

    def alone(self, seed: int) -> "Configuration":
        """The texts for one of the seeds alone. (Its experiment is this one still.)"""
        bound, taken = _with_seed(self.tables.bound, seed), _with_seed(self.tables.taken, seed)
        changed = dataclasses.replace(self.tables, bound=bound, taken=taken)
        return dataclasses.replace(self, effective=_with_seed(self.effective, seed), tables=changed)

    def macros(self) -> dict[str, Any]:
        """The macros' values, as plain data."""
        return {
            scope: self._plain(v["value"])
            for (scope, selector), v in self.tables.bound.items()
            if selector == tables.MACRO
        }

    def parameters(self) -> dict[str, Any]:
        """The whole operative configuration as nested plain data: {'macros': …, 'gin': {name: {parameter: value}}}."""
        tree: dict[str, Any] = {}
        for (scope, selector), values in self.tables.taken.items():
            if not selector.startswith("gin."):
                name = "/".join(filter(None, (scope, tables.show_name(selector))))
                tree[name] = {k: self._plain(v) for k, v in values.items()}
        return {"macros": self.macros(), "gin": tree}

    def _plain(self, value: Any) -> Any:
        with self.tables.active():
            value = tables.resolved(value)
        if isinstance(value, (list, tuple)):
            return [self._plain(v) for v in value]
        if isinstance(value, dict):
            return {str(k): self._plain(v) for k, v in value.items()}
        return value if isinstance(value, (bool, int, float, str, type(None))) else repr(value)


def build(files: Sequence[str], bindings: Iterable[str] = (), plugins: Iterable[str] = ()) -> Configuration:
    """Reads, builds and checks. Raises ConfigError for whatever would not run, or not do what it says.

    Starts no device: modules are built abstractly. gin's calls happen here and when a phase starts, never in a compiled
    program.
    """
    return _build(read(files, bindings, plugins))


def _build(source: Source) -> Configuration:
    try:
        experiment = gin.get_configurable("gorl.Experiment")()
        experiment.check()
        _check_modules(experiment)
    except RecursionError as err:
        raise ConfigError(mistakes.explain_circle(source)) from err
    except Exception as err:
        if mistakes.is_explicable(err):
            raise ConfigError(mistakes.explain_build(err, source)) from err
        raise
    notes = tuple(checks.check_effects(source))
    now = tables.Snapshot.take()
    for factory in _factories(experiment):
        factory.function = _pinned(factory.function, now)
    return Configuration(experiment, source, _effective(now.bound, checks.used(source)), notes, now)


def build_here(files: Sequence[str], bindings: Iterable[str] = (), plugins: Iterable[str] = ()) -> Configuration:
    """`build` for a run that begins, with what was left to the machine written out, so that it goes on anywhere as it began.

    A class names such parameters in `settled_when_begun`: {parameter: function from all that is bound to its value on
    this machine}. Starts the device if there are any.
    """
    source = read(files, bindings, plugins)
    configuration = _build(source)
    if not (settled := _settled(configuration.tables)):
        return configuration
    for key, value in settled.items():
        tables.rebind(key, value)
    return _build(source)


def _settled(now: tables.Snapshot) -> dict[tables.Key, Any]:
    """The bindings whose value depends on the machine, and that value."""
    found = {}
    with now.active():
        for (scope, selector), values in now.taken.items():
            for parameter, settle in getattr(tables.target(selector), "settled_when_begun", {}).items():
                key = tables.in_effect(selector, parameter, scope)
                if key is not None and (here := settle(tables.resolved(values))) != tables.resolved(values[parameter]):
                    found[tables.through_macros(tables.value_of(key), key)[1]] = here
    return found


def _with_seed(table: tables.Table, seed: int) -> tables.Table:
    """A copy in which the experiment has one seed, changed where the number stands: in a macro, or in the binding itself."""
    table = {where: dict(values) for where, values in table.items()}
    experiment = ("", "gorl.Experiment")
    for name, value in (("seed", seed), ("num_seeds", 1)):
        macro = tables.macro_name(table[experiment][name])
        where, parameter = ((macro, tables.MACRO), "value") if macro else (experiment, name)
        table[where][parameter] = value
    return table


def _effective(bound: dict, used: set[tables.Key]) -> dict:
    """The bindings that some call took. In one flat file the others could not be told from mistakes."""
    kept = {where: {n: v for n, v in values.items() if (*where, n) in used} for where, values in bound.items()}
    return {where: values for where, values in kept.items() if values}


def _check_modules(experiment: Experiment) -> None:
    """Builds every module with made-up sizes, or with the environment's own for a network that accepts no others."""
    try:
        experiment.check_modules(_SIZES)
    except ConfigError:
        raise
    except Exception as err:
        if mistakes.is_missing(err):
            raise
        experiment.check_modules(experiment.task.environment.spaces())


def _factories(value: Any) -> Iterator[Factory]:
    """The factories in the fields of an experiment."""
    if isinstance(value, Factory):
        yield value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _factories(getattr(value, field.name, None))
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from _factories(v)


def _pinned(function: Callable, now: tables.Snapshot) -> Callable:
    """The function, called with the bindings of this moment whatever gin has read since."""

    @functools.wraps(function, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        with now.active():
            return function(*args, **kwargs)

    return call
