"""Builds the experiment that a configuration declares, and saves the configuration."""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import gin

from gorl.config import checks, mistakes, order, plugin_sources, tables
from gorl.config.files import FORMAT
from gorl.config.reader import read_source
from gorl.config.resolve import resolved_tree
from gorl.config.sources import COMMAND_LINE, Source
from gorl.config.text import render_bindings
from gorl.errors import ConfigError
from gorl.experiment import Experiment
from gorl.fields import Factory
from gorl.runs import inputs as kept_inputs
from gorl.runtime import devices, inputs
from gorl.state import Spaces

_T = TypeVar("_T")

SIZES = Spaces(3, 3, 2)
"""Arbitrary sizes with which every factory is called once."""


@dataclasses.dataclass(frozen=True, eq=False)
class Configuration:
    """A checked experiment and the configuration that declares it."""

    experiment: Experiment
    source: Source
    effective: tables.Table  # the bindings that some call used
    notes: tuple[str, ...]
    tables: tables.GinSnapshot

    @property
    def config(self) -> str:
        """The bindings that were requested and used, as the text of a gin file."""
        return render_bindings(self.effective)

    @property
    def plugins(self) -> tuple[str, ...]:
        """The plugins that were named: modules, and .py files by their absolute paths."""
        return self.source.plugins

    @property
    def asked(self) -> list[str]:
        """The files and the bindings that were named, in order."""
        typed = [change.origin.text for change in self.source.changes if change.origin.file == COMMAND_LINE]
        return [*self.source.named, *typed]

    @property
    def config_hash(self) -> str:
        """A hash of `config`."""
        return hashlib.sha256(self.config.encode()).hexdigest()

    @property
    def operative(self) -> str:
        """Every parameter that was used, defaults included, as the text of a gin file."""
        return render_bindings(self.tables.operative)

    @property
    def tree(self) -> dict[str, Any]:
        """The experiment as nested plain data {'@': class, parameter: value}, with references and macros resolved."""
        return resolved_tree(self.tables, "gorl.Experiment")

    @property
    def tree_here(self) -> dict[str, Any]:
        """The tree of a run that begins on this machine. Starts the device if any value depends on the machine."""
        return resolved_tree(self.tables.rebound(_machine_bindings(self.tables)), "gorl.Experiment")

    @property
    def input_files(self) -> list[inputs.InputFile]:
        """The files that the experiment names, such as MuJoCo models."""
        return list(dict.fromkeys(_instances(self.experiment, inputs.InputFile)))

    @property
    def plugin_files(self) -> dict[str, dict[str, str]]:
        """{plugin: {file: hash}}, with everything that a plugin has imported and read from its own folder so far."""
        return {pathlib.Path(plugin).name: plugin_sources.sources(plugin) for plugin in self.plugins}

    def plugin_files_like(self, then: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        """Returns the present hashes of the files that plugins had, which a process has perhaps not read yet."""
        named = {pathlib.Path(plugin).name: plugin for plugin in self.source.plugins}
        return {name: plugin_sources.like(named[name], files) for name, files in then.items() if name in named}

    def keep_inputs(self, folder: pathlib.Path) -> None:
        """Copies input files and plugins into the folder of a run or study. Raises RunError."""
        known = {plugin: layout for plugin in self.plugins if (layout := self._layout(plugin)) is not None}
        kept_inputs.keep(folder, self.input_files, known)

    def _layout(self, plugin: str) -> tuple[pathlib.Path, dict[str, str]] | None:
        return plugin_sources.layout(plugin, self.plugin_files[pathlib.Path(plugin).name])

    def _copy(self, number: int, plugin: str) -> str:
        """Returns how a plugin is named that the folder of a run has a copy of. A module keeps its name."""
        layout = self._layout(plugin)
        if layout is None or not plugin.endswith(".py"):
            return plugin
        return f"THIS_FOLDER/{kept_inputs.FOLDER}/plugins/{number}/{pathlib.Path(plugin).relative_to(layout[0])}"

    @property
    def study(self) -> str | None:
        """Returns where the files declare a study, which one run ignores: 'Study.grid (st.gin:2)', or None."""
        return order.study_of(self.source, self.tables.bound)

    def save(self, folder: pathlib.Path) -> None:
        """Writes config.gin, operative_config.gin and `sources/`, the files as they were read, to a folder."""
        names = [self._copy(number, plugin) for number, plugin in enumerate(self.plugins)]
        again = f"Run it again: gorl train THIS_FILE{''.join(f' --plugin {name}' for name in names)}"
        for name, what, text in (
            ("config.gin", "What was asked, with every include resolved.", self.config),
            ("operative_config.gin", "What ran, with every default.", self.operative),
        ):
            (folder / name).write_text(f"# gorl-format: {FORMAT}\n# {what} {again}\n\n{text}", encoding="utf-8")
        (folder / "sources").mkdir()
        for i, (path, text) in enumerate(self.source.texts.items()):
            (folder / "sources" / f"{i:02d}-{pathlib.Path(path).name}").write_text(text, encoding="utf-8")

    def for_seed(self, seed: int) -> "Configuration":
        """Returns a copy whose texts declare one seed only. Its `experiment` is unchanged."""
        bound, operative = _with_seed(self.tables.bound, seed), _with_seed(self.tables.operative, seed)
        changed = dataclasses.replace(self.tables, bound=bound, operative=operative)
        return dataclasses.replace(self, effective=_with_seed(self.effective, seed), tables=changed)

    def macros(self) -> dict[str, Any]:
        """Returns the value of every macro, as plain data."""
        return {
            scope: self._plain(v["value"])
            for (scope, selector), v in self.tables.bound.items()
            if selector == tables.MACRO
        }

    def parameters(self) -> dict[str, Any]:
        """Returns the operative configuration as plain data: {'macros': ..., 'gin': {name: {parameter: value}}}."""
        tree: dict[str, Any] = {}
        for (scope, selector), values in self.tables.operative.items():
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


def build(
    files: Sequence[str],
    bindings: Iterable[str] = (),
    plugins: Iterable[str] = (),
    defaults: Sequence[str] = (),
) -> Configuration:
    """Reads, builds and checks a configuration. Raises ConfigError if it cannot run or a binding has no effect.

    `defaults`: files whose bindings hold where `files` have none. Starts no device: modules are built abstractly. gin
    calls constructors here and when a phase starts, never inside a compiled program.
    """
    return _build(_read(files, bindings, plugins, defaults))


def _read(*arguments: Any) -> Source:
    source = read_source(*arguments)
    order.check_order(source)
    return source


def _build(source: Source) -> Configuration:
    with inputs.looking_in(*_places(source)), plugin_sources.reading(source.plugins):
        return _build_here(source)


def _places(source: Source) -> tuple[dict[str, pathlib.Path], list[pathlib.Path]]:
    """Returns the input files that the folders of runs keep whose configurations are read, and the files' folders."""
    kept: dict[str, pathlib.Path] = {}
    for path in map(pathlib.Path, source.texts):
        if (folder := kept_inputs.holder(path)) is not None:
            kept |= kept_inputs.kept_files(folder)
    return kept, list(dict.fromkeys(path.parent for path in map(pathlib.Path, source.texts)))


def _build_here(source: Source) -> Configuration:
    try:
        experiment = gin.get_configurable("gorl.Experiment")()
        experiment.check()
        _check_modules(experiment)
    except RecursionError as err:
        raise ConfigError(mistakes.explain_cycle(source)) from err
    except Exception as err:
        if mistakes.is_explicable(err):
            raise ConfigError(mistakes.explain_build(err, source)) from err
        raise
    notes = tuple(checks.check_effects(source))
    snapshot = tables.GinSnapshot.take()
    for factory in _instances(experiment, Factory):
        factory.function = _with_snapshot(factory.function, snapshot)
    return Configuration(experiment, source, _effective(snapshot.bound, checks.used(source)), notes, snapshot)


def build_here(files: Sequence[str], bindings: Iterable[str] = (), plugins: Iterable[str] = ()) -> Configuration:
    """Builds the configuration of a new run, with machine-dependent values replaced by their values on this machine.

    The run then resumes on any machine as it began. A class lists such parameters in `settled_when_begun`: {parameter:
    function from the class's bound parameters to the value on this machine}. Starts the device.
    """
    source = _read(files, bindings, plugins)
    configuration = _build(source)
    devices.start()
    if not (machine_bindings := _machine_bindings(configuration.tables)):
        return configuration
    for key, value in machine_bindings.items():
        tables.rebind(key, value)
    return _build(source)


def _machine_bindings(snapshot: tables.GinSnapshot) -> dict[tables.Key, Any]:
    """Returns the bindings whose value depends on the machine, with their values on this one."""
    found = {}
    with snapshot.active():
        for (scope, selector), values in snapshot.operative.items():
            for parameter, settle in getattr(tables.configurable(selector), "settled_when_begun", {}).items():
                key = tables.effective_key(selector, parameter, scope)
                if key is not None and (here := settle(tables.resolved(values))) != tables.resolved(values[parameter]):
                    found[tables.follow_macros(tables.value_of(key), key)[1]] = here
    return found


def _with_seed(table: tables.Table, seed: int) -> tables.Table:
    """Returns a copy in which the experiment has one seed. Changes the macro that sets it, or else the binding."""
    table = {place: dict(values) for place, values in table.items()}
    experiment = ("", "gorl.Experiment")
    for name, value in (("seed", seed), ("num_seeds", 1)):
        macro = tables.macro_name(table[experiment][name])
        place, parameter = ((macro, tables.MACRO), "value") if macro else (experiment, name)
        table[place][parameter] = value
    return table


def _effective(bound: tables.Table, used: set[tables.Key]) -> tables.Table:
    """Returns the bindings that some call used. In one flat file the others would look like mistakes."""
    kept = {place: {n: v for n, v in values.items() if (*place, n) in used} for place, values in bound.items()}
    return {place: values for place, values in kept.items() if values}


def _check_modules(experiment: Experiment) -> None:
    """Builds every module with arbitrary sizes, or with the environment's sizes if a network accepts no others."""
    try:
        experiment.check_modules(SIZES)
    except (ConfigError, RecursionError):
        raise
    except Exception as err:
        if mistakes.is_missing(err):
            raise
        experiment.check_modules(experiment.task.environment.spaces())


def _instances(value: Any, kind: type[_T]) -> Iterator[_T]:
    """Yields the objects of a kind in the fields of an experiment, at any depth."""
    if isinstance(value, kind):
        yield value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _instances(getattr(value, field.name, None), kind)
    elif isinstance(value, (list, tuple)):
        for v in value:
            yield from _instances(v, kind)


def _with_snapshot(function: Callable, snapshot: tables.GinSnapshot) -> Callable:
    """Returns the function, called with the bindings of a snapshot whatever gin has read since."""
    places = inputs.current_places()

    @functools.wraps(function, updated=())
    def call(*args: Any, **kwargs: Any) -> Any:
        with snapshot.active(), inputs.looking_in(*places):
            return function(*args, **kwargs)

    return call
