"""Reads gin files and command-line bindings, remembering where each binding was made."""

import dataclasses
import importlib
import importlib.util  # gin 0.5.0's resource_reader uses it without importing it
import os
import pathlib
import re
import sys
import tokenize
from collections.abc import Iterable, Sequence
from typing import Any

import gin
from gin import config as gc, config_parser

import gorl
from gorl.config import mistakes
from gorl.errors import ConfigError, did_you_mean

FORMAT = 1
COMMAND_LINE = "command line"
_HEADER = re.compile(r"^#\s*gorl-format:\s*(\S+)", re.MULTILINE)
_loaded_files: dict[str, Any] = {}

Key = tuple[str, str, str]  # (scope, complete selector, parameter)


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a binding was made. `line` is 0 for the command line, whose `text` is the binding itself."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else f"{COMMAND_LINE} `{self.text}`"


@dataclasses.dataclass
class Source:
    """What was read: every binding's origin, the text of every file, and what each file changed."""

    origins: dict[Key, Origin] = dataclasses.field(default_factory=dict)
    texts: dict[str, str] = dataclasses.field(default_factory=dict)  # path -> text
    changes: list[tuple[str, Key, Any, Any, Origin]] = dataclasses.field(default_factory=list)  # (file, key, old, new, origin)
    plugins: tuple[str, ...] = ()


def shipped() -> pathlib.Path:
    """The folder of the shipped configurations: inside an installed package, or beside it in a checkout."""
    package = pathlib.Path(gorl.__file__).parent
    inside = package / "gin_configs"
    return inside if inside.is_dir() else package.parent / "gin_configs"


def search_paths() -> list[pathlib.Path]:
    """Where files are looked for: the working directory, $GORL_CONFIG_PATH, the shipped ones."""
    extra = [pathlib.Path(p) for p in os.environ.get("GORL_CONFIG_PATH", "").split(os.pathsep) if p]
    return [pathlib.Path.cwd(), *extra, shipped()]


def runnable_files(root: pathlib.Path) -> list[str]:
    """The files of a folder that run, relative to it: everything but parts/."""
    files = (p.relative_to(root) for p in root.rglob("*.gin"))
    return sorted(str(p) for p in files if "parts" not in p.parts)


def read(files: Sequence[str], bindings: Iterable[str] = (), plugins: Iterable[str] = ()) -> Source:
    """Replaces gin's configuration by these files, then bindings (later wins), and locks it. Raises ConfigError."""
    gin.clear_config()
    from gorl import registry  # noqa: F401  every name must exist before gin is locked

    source = Source(plugins=tuple(dict.fromkeys([*plugins, *filter(None, os.environ.get("GORL_PLUGINS", "").split(","))])))
    for plugin in source.plugins:
        _import_plugin(plugin)
    if not files:
        raise ConfigError("no configuration file was named. `gorl list configs` shows the shipped ones.")
    for name in files:
        _read_file(source, name, None, ())
    for binding in bindings:
        _read_text(source, binding, COMMAND_LINE, None, ())
    try:
        gin.finalize()
    except (ValueError, KeyError) as err:
        raise ConfigError(mistakes.explain(str(err), source)) from None
    return source


def _find(name: str, beside: pathlib.Path | None) -> pathlib.Path:
    folders = [*([beside.parent] if beside else []), *search_paths()]
    for folder in folders:
        path = (folder / name).expanduser()
        if path.is_file():
            return path.resolve()
    known = {str(p.relative_to(f)) for f in {*folders} - {pathlib.Path.cwd()} if f.is_dir() for p in f.rglob("*.gin")}
    known |= {p.name for p in pathlib.Path.cwd().glob("*.gin")}
    places = ", ".join(str(f) for f in dict.fromkeys(folders))
    raise ConfigError(f"there is no file {name!r}.{did_you_mean(name, known)} Looked in: {places}.")


def _shown(path: pathlib.Path) -> str:
    for folder in search_paths():
        if path.is_relative_to(folder.resolve()):
            return str(path.relative_to(folder.resolve()))
    return str(path)


def _read_file(source: Source, name: str, beside: pathlib.Path | None, stack: tuple[pathlib.Path, ...]) -> None:
    path = _find(name, beside)
    if path in stack:
        raise ConfigError(f"{_shown(path)} includes itself: {' -> '.join(_shown(p) for p in (*stack, path))}.")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"cannot read {_shown(path)}: {err}") from None
    found = _HEADER.search(text)
    if found and found[1] != str(FORMAT):
        raise ConfigError(f"{_shown(path)} has configuration format {found[1]}; gorl {gorl.__version__} reads format {FORMAT}.")
    source.texts[str(path)] = text
    _read_text(source, text, _shown(path), path, (*stack, path))


def _read_text(source: Source, text: str, where: str, path: pathlib.Path | None, stack: tuple[pathlib.Path, ...]) -> None:
    seen: dict[Key, Origin] = {}
    lines = text.splitlines()
    line = 0

    def origin() -> Origin:
        content = lines[line - 1].strip() if 0 < line <= len(lines) else ""
        return Origin(where, line, content) if path else Origin(where, 0, text.strip())

    try:
        with gc._parse_scope() as context:
            for statement in config_parser.ConfigParser(text, gc.ParserDelegate()):
                line = statement.location.line_num
                if isinstance(statement, config_parser.BindingStatement):
                    _bind(source, statement, origin(), seen)
                elif isinstance(statement, config_parser.BlockDeclaration):
                    if not context.get_configurable(statement.selector):
                        gc._raise_unknown_configurable_error(statement.selector)
                elif isinstance(statement, config_parser.IncludeStatement):
                    _read_file(source, statement.filename, path, stack)
                else:
                    _check_import(statement.module, source.plugins)
                line = 0
    except ConfigError as err:
        raise (err if line == 0 or str(err).startswith(tuple(f"{w}:" for w in source_names(source))) else ConfigError(f"{origin()}: {err}")) from None
    except (ValueError, KeyError, TypeError, SyntaxError, tokenize.TokenError) as err:
        line = _line_of(err) or line
        message = err.msg if isinstance(err, SyntaxError) else str(err.args[0] if err.args else err)
        raise ConfigError(f"{origin()}: {mistakes.explain(message, source, origin().text)}") from None


def source_names(source: Source) -> list[str]:
    return [_shown(pathlib.Path(p)) for p in source.texts]


def _line_of(err: Exception) -> int:
    if isinstance(err, tokenize.TokenError):
        return err.args[1][0]
    return (getattr(err, "lineno", None) or 0) if isinstance(err, SyntaxError) else 0


def _bind(source: Source, statement: Any, origin: Origin, seen: dict[Key, Origin]) -> None:
    scope, selector, parameter = statement.scope, statement.selector, statement.arg_name
    if parameter:
        where: Any = (scope, selector, parameter)
    else:
        name = f"{scope}/{selector}" if scope else selector
        if not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
            raise ConfigError(mistakes.explain_macro_name(name))
        where = (name, "gin.macro", "value")
    key = gc.ParsedBindingKey.parse(where)
    full = (key.scope, key.complete_selector, key.arg_name)
    if full in seen:
        raise ConfigError(f"{mistakes.show_key(full)} is bound twice in this file: here and at {seen[full]}. Remove one.")
    seen[full] = origin
    old = gc._CONFIG.get((full[0], full[1]), {}).get(full[2])
    gin.bind_parameter(where, statement.value)
    source.changes.append((origin.file, full, old, statement.value, origin))
    source.origins[full] = origin


def _check_import(module: str, plugins: tuple[str, ...]) -> None:
    """A configuration from a stranger must not import arbitrary code."""
    if module != "gorl.registry" and module not in plugins:
        raise ConfigError(f"import {module}: a configuration imports gorl.registry only. Name your own modules on the command line: --plugin {module}")


def _import_plugin(plugin: str) -> None:
    """A module's name, or a path of a .py file. Registers what it registers."""
    try:
        if not plugin.endswith(".py"):
            if str(pathlib.Path.cwd()) not in sys.path:
                sys.path.insert(0, str(pathlib.Path.cwd()))
            importlib.import_module(plugin)
            return
        path = pathlib.Path(plugin).resolve()
        if str(path) not in _loaded_files:
            spec = importlib.util.spec_from_file_location(f"gorl_plugin_{path.stem}", path)
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            _loaded_files[str(path)] = module
    except (ImportError, FileNotFoundError) as err:
        raise ConfigError(f"--plugin {plugin}: {err}. It is a module that can be imported from {pathlib.Path.cwd()}, or a path of a .py file.") from err
