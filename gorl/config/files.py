"""Finds configuration files and plugins."""

import importlib
import importlib.util
import os
import pathlib
import re
import shlex
import sys
import traceback
import types
from collections.abc import Iterable, Sequence

from gorl.config import plugin_sources
from gorl.config.sources import printable
from gorl.errors import ConfigError, did_you_mean
from gorl.version import HOME, __version__

FORMAT = 1
REGISTRY = "gorl.registry"
"""The module that registers gorl's own classes. It is the first plugin, and the only module that a file may import."""
LONGEST_TEXT = 1_000_000
"""Characters of a file that are read. `gorl.config.limits` refuses fewer."""
_HEADER = re.compile(r"^#\s*gorl-format:\s*(\S*)")
_loaded_plugins: dict[str, types.ModuleType] = {}


def shipped() -> pathlib.Path:
    """Returns the folder of the shipped configurations: inside an installed package, or beside it in a checkout."""
    package = HOME
    inside = package / "gin_configs"
    return inside if inside.is_dir() else package.parent / "gin_configs"


def search_paths() -> list[pathlib.Path]:
    """Returns the folders that are searched for files: the working directory, $GORL_CONFIG_PATH, the shipped ones."""
    extra = [pathlib.Path(p).expanduser() for p in os.environ.get("GORL_CONFIG_PATH", "").split(os.pathsep) if p]
    return [pathlib.Path.cwd(), *extra, shipped()]


APPENDED = ("parts", "presets", "controls")
"""Folders of files that do not run by themselves: they are included by, or appended to, one that does."""


def all_files(root: pathlib.Path) -> list[str]:
    """Returns the gin files of a folder, relative to it and sorted."""
    return sorted(str(p.relative_to(root)) for p in root.rglob("*.gin"))


def runnable_files(root: pathlib.Path) -> list[str]:
    """Returns the files of a folder that run by themselves, relative to it and sorted."""
    return [name for name in all_files(root) if not set(APPENDED) & set(pathlib.PurePath(name).parts)]


def find(name: str, beside: pathlib.Path | None) -> pathlib.Path:
    """Returns the file of this name, beside the file that includes it or in the search path. Raises ConfigError."""
    folders = [*([beside.parent] if beside else []), *search_paths()]
    wanted = pathlib.Path(os.path.expanduser(name))
    for folder in folders:
        path = folder / wanted
        if os.path.isfile(path):  # also False for a name that no file can have
            return path.resolve()
    known = {str(p.relative_to(f)) for f in {*folders} - {pathlib.Path.cwd()} if f.is_dir() for p in f.rglob("*.gin")}
    known |= {p.name for p in pathlib.Path.cwd().glob("*.gin")}
    if beside is None and os.path.isdir(wanted):
        raise ConfigError(_is_a_folder(name, wanted))
    if beside is None and "=" in name:
        raise ConfigError(f"{name!r} is a binding, not a file. Write --set in front: --set {name!r}.")
    guess = (
        did_you_mean(name, known, cutoff=0.85)
        or did_you_mean(name, known)
        or " `gorl list configs` shows the shipped ones."
    )
    places = ", ".join(str(f) for f in dict.fromkeys(folders))
    raise ConfigError(f"there is no file {printable(name)!r}.{guess} Looked in: {places}.")


def _is_a_folder(name: str, path: pathlib.Path) -> str:
    quoted = shlex.quote(name.rstrip("/"))
    if (path / "study.json").exists():
        return (
            f"{printable(name)} is a study's folder, not a file. To go on with it, name the files that it began with."
        )
    if (path / "run.json").exists():
        return (
            f"{printable(name)} is a run's folder, not a file. To go on with it: gorl train --resume {quoted}."
            f" To begin another run like it: gorl train {quoted}/config.gin."
        )
    return f"{printable(name)} is a folder, not a file. Name a file in it that ends in .gin."


def shown(path: pathlib.Path) -> str:
    """Returns a path relative to the search folder that contains it, or the whole path."""
    for folder in search_paths():
        if path.is_relative_to(folder.resolve()):
            return str(path.relative_to(folder.resolve()))
    return str(path)


def read_text(path: pathlib.Path) -> str:
    """Returns a file's text. Raises ConfigError if it is not UTF-8 or this version of gorl does not read its format."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(LONGEST_TEXT)
    except OSError as err:
        raise ConfigError(f"cannot read {shown(path)}: {err.strerror}.") from None
    except UnicodeDecodeError as err:
        line = err.object[: err.start].count(b"\n") + 1
        raise ConfigError(
            f"{shown(path)}:{line}: this is not UTF-8 text (byte {err.object[err.start]:#04x}). Save the file as UTF-8."
        ) from None
    for number, line in enumerate(text.splitlines(), 1):
        found = _HEADER.match(line)
        if found and found[1] != str(FORMAT):
            newer = found[1].isdigit() and int(found[1]) > FORMAT
            fix = "Install a newer gorl: pip install -U gorl." if newer else f"Write {FORMAT}."
            raise ConfigError(
                f"{shown(path)}:{number}: this file has format {found[1] or '(none)'},"
                f" and gorl {__version__} reads format {FORMAT}. {fix}"
            )
    return text


def named_plugins(plugins: Iterable[str]) -> tuple[str, ...]:
    """Returns these plugins and those of $GORL_PLUGINS without duplicates, files by their absolute paths."""
    return tuple(
        dict.fromkeys(map(_absolute, [*plugins, *filter(None, os.environ.get("GORL_PLUGINS", "").split(","))]))
    )


def confirmed(recorded: Sequence[str], plugins: Iterable[str], where: str) -> tuple[str, ...]:
    """Returns the plugins to import for the run in the folder `where`: the named ones, and recorded ones in use.

    Raises ConfigError if a `recorded` plugin is neither named now nor already imported. A run's folder may come from
    anybody and a plugin is code, so the folder's word, even with a hash, is no reason to run it. Files are compared by
    name, so a plugin file may have moved since.
    """
    named = named_plugins(plugins)
    known = {_short(p) for p in named}
    for plugin in recorded:
        if _short(plugin) not in known and plugin not in _loaded_plugins:
            raise ConfigError(
                f"{where} was made with the plugin {plugin},"
                " which is code, and a run's folder runs no code of its own accord."
                f" If you trust it, name it again: --plugin {plugin}, or GORL_PLUGINS={plugin}"
                f" (in Python: plugins=[{plugin!r}])."
            )
    return (*named, *(p for p in recorded if _short(p) not in known))


def _absolute(plugin: str) -> str:
    return str(pathlib.Path(plugin).expanduser().resolve()) if plugin.endswith(".py") else plugin


def _short(plugin: str) -> str:
    return pathlib.Path(plugin).name if plugin.endswith(".py") else plugin


def import_plugin(plugin: str) -> None:
    """Imports a module or .py file of the user, which registers its classes. Raises ConfigError if that fails."""
    name = shown(pathlib.Path(plugin)) if plugin.endswith(".py") else plugin
    if plugin.endswith(".py") and not pathlib.Path(plugin).expanduser().is_file():
        raise ConfigError(f"--plugin {name}: there is no such file. Name a .py file, or a module that can be imported.")
    try:
        with plugin_sources.reading([plugin] if plugin != REGISTRY else []):
            _import(plugin)
    except ModuleNotFoundError as err:
        here = pathlib.Path.cwd()
        raise ConfigError(
            f"--plugin {name}: {err}. Name a module that can be imported from {here}, or the path of a .py file."
        ) from err
    except Exception as err:
        frame = traceback.extract_tb(err.__traceback__)[-1]
        where = f"{err.filename}:{err.lineno}" if isinstance(err, SyntaxError) else f"{frame.filename}:{frame.lineno}"
        raise ConfigError(
            f"--plugin {name} fails to import: {type(err).__name__}: {err} ({where}). --debug shows the traceback."
        ) from err


def _import(plugin: str) -> None:
    if not plugin.endswith(".py"):
        if str(pathlib.Path.cwd()) not in sys.path:
            sys.path.insert(0, str(pathlib.Path.cwd()))
        _loaded_plugins[plugin] = importlib.import_module(plugin)
        return
    path = pathlib.Path(plugin).expanduser().resolve()
    if str(path) not in _loaded_plugins:
        if str(path.parent) not in sys.path:  # so that it can import the files beside it
            sys.path.append(str(path.parent))
        spec = importlib.util.spec_from_file_location(f"gorl_plugin_{path.stem}", path)
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        _loaded_plugins[str(path)] = module
