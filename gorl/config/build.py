"""Builds the experiment that a configuration declares, and saves the configuration."""

import dataclasses
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import equinox as eqx
import gin
import jax
from gin import config as gc

from gorl.config import checks, mistakes
from gorl.config.reader import FORMAT, Source, read
from gorl.errors import ConfigError
from gorl.state import Spaces

_SIZES = Spaces(3, 3, 2)  # any sizes will do to call every factory once


@dataclasses.dataclass(frozen=True)
class Configuration:
    """A checked experiment with the texts that declare it."""

    experiment: Any
    source: Source
    config: str
    operative: str
    notes: tuple[str, ...]

    def save(self, folder: pathlib.Path) -> None:
        """config.gin, operative_config.gin and the files as read."""
        (folder / "config.gin").write_text(_headed(self.config, "What was asked, with every include resolved."))
        (folder / "operative_config.gin").write_text(_headed(self.operative, "What ran, with every default."))
        (folder / "sources").mkdir()
        for i, (path, text) in enumerate(self.source.texts.items()):
            (folder / "sources" / f"{i:02d}-{pathlib.Path(path).name}").write_text(text)

    def macros(self) -> dict[str, Any]:
        """The macros' values, as plain data."""
        return {scope: _plain(v["value"]) for (scope, selector), v in gc._CONFIG.items() if selector == "gin.macro"}

    def parameters(self) -> dict[str, Any]:
        """The whole operative configuration as nested plain data: {'macros': …, 'gin': {name: {parameter: value}}}."""
        tree: dict[str, Any] = {}
        for (scope, selector), values in gc._OPERATIVE_CONFIG.items():
            if not selector.startswith("gin."):
                name = "/".join(filter(None, (scope, selector.removeprefix("gorl."))))
                tree[name] = {k: _plain(v) for k, v in values.items()}
        return {"macros": self.macros(), "gin": tree}


def build(files: Sequence[str], bindings: Iterable[str] = (), plugins: Iterable[str] = ()) -> Configuration:
    """Reads, builds and checks. Raises ConfigError for whatever would not run, or not do what it says.

    Starts no device: modules are built abstractly. gin's calls happen here and when a phase starts, never in a compiled
    program.
    """
    source = read(files, bindings, plugins)
    checks.check_values(source)
    try:
        experiment = gin.get_configurable("gorl.Experiment")()
        experiment.check()
        _build_modules(experiment)
    except ConfigError as err:
        raise ConfigError(mistakes.locate(_without_call_stack(str(err)), source)) from err
    except (TypeError, ValueError, RuntimeError) as err:
        if "configurable" not in str(err):
            raise
        raise ConfigError(mistakes.explain(_without_call_stack(str(err)), source)) from err
    notes = tuple(checks.check_effects(source))
    return Configuration(experiment, source, gin.config_str(), gin.operative_config_str(), notes)


def _build_modules(experiment: Any) -> None:
    """Calls every factory once, with made-up sizes; with the environment's own for a network that accepts no others."""

    def modules(sizes: Spaces) -> Any:
        key = jax.random.key(0)
        decoder = experiment.decoder(sizes.observation, sizes.action, key=key)
        for step in experiment.steps():
            decoder = step.declaration.create(sizes, decoder, key=key)
        return decoder

    try:
        eqx.filter_eval_shape(modules, _SIZES)
    except ConfigError:
        raise
    except Exception as err:
        if "configurable" in str(err) and ("missing" in str(err) or "Required bindings" in str(err) or "macro" in str(err)):
            raise
        eqx.filter_eval_shape(modules, experiment.task.environment.spaces())


def _without_call_stack(message: str) -> str:
    """Without gin's own 'In call to configurable' lines."""
    return "\n".join(line for line in message.splitlines() if not line.strip().startswith("In call to configurable")).strip()


def _headed(text: str, what: str) -> str:
    return f"# gorl-format: {FORMAT}\n# {what} Run it again: gorl train THIS_FILE\n\n{text}"


def _plain(value: Any) -> Any:
    if isinstance(value, (bool, int, float, str, type(None))):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, gc.ConfigurableReference) and value.selector == "gin.macro" and value.config_key in gc._CONFIG:
        return _plain(gc._CONFIG[value.config_key]["value"])
    return repr(value)
