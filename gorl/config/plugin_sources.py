"""Finds what a plugin is made of: its code, what that imports from the plugin's folder, and the files that it reads.

Files count that Python opens for reading while the plugin is imported and while a configuration is built and checked.
A hash is of a file as it was when this process first read it: what runs is that, whatever is on disk since.
"""

import collections.abc
import contextlib
import functools
import hashlib
import importlib.util
import os
import pathlib
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence

from gorl.runtime import inputs
from gorl.runtime.inputs import file_hash
from gorl.version import HOME

_LARGEST = 64 * 2**20
"""Bytes of a file that counts as a plugin's. What is larger is data that training reads, and no part of it."""

_SYSTEM = tuple(pathlib.Path(path) for path in ("/proc", "/sys", "/dev", "/etc", "/usr", "/lib", "/lib64", "/bin"))

_TOOLS = {".aim", ".cache", ".config", ".git", ".local", ".pytest_cache"}
"""Folders that tools write."""

_opened: dict[pathlib.Path, str] = {}
"""Hashes of the files that were opened for reading."""
_hashed: dict[pathlib.Path, str] = {}
_read_by: dict[str, set[pathlib.Path]] = {}
"""What was opened for each plugin."""
_modules: dict[str, set[str]] = {}
"""Modules that were first imported for each plugin."""
_variables: dict[str, dict[str, str]] = {}
"""Environment variables that each plugin's code looked up, with hashes of their values."""
_readers: list[tuple[str, ...]] = []
_is_hooked = False


def home(plugin: str) -> pathlib.Path | None:
    """Returns a plugin's own folder: that of the .py file, of the package, or of the module's file."""
    if plugin.endswith(".py"):
        return pathlib.Path(plugin).expanduser().resolve().parent
    try:
        spec = importlib.util.find_spec(plugin.partition(".")[0])
    except (ImportError, ValueError):
        return None
    places = [] if spec is None else [*(spec.submodule_search_locations or ())] or [spec.origin]
    if not places or places[0] is None:
        return None
    place = pathlib.Path(places[0]).resolve()
    return place if place.is_dir() else place.parent


def layout(plugin: str, files: Mapping[str, str]) -> tuple[pathlib.Path, dict[str, str]] | None:
    """Returns a folder that has a plugin and what it reads, and {path relative to it: hash}; None without a plugin.

    The folder is that from which the plugin can be imported, or one around it if the plugin reads files there. Files
    that have no such folder in common with the plugin, since they are elsewhere on the disk, are left out.
    """
    own = home(plugin)
    if own is None:
        return None
    is_package = not plugin.endswith(".py") and own.name == plugin.partition(".")[0]
    root = own.parent if is_package else own
    paths = {pathlib.Path(os.path.normpath(own / name)): sha for name, sha in files.items() if not name.startswith("$")}
    common = [pathlib.Path(os.path.commonpath([root, path.parent])) for path in paths]
    near = {path: folder for path, folder in zip(paths, common, strict=True) if len(folder.parts) > _FAR}
    root = min([root, *near.values()], key=lambda folder: len(folder.parts))
    return root, {str(path.relative_to(root)): paths[path] for path in near}


_FAR = 2
"""Parts of a path, such as / and home, that two files may have in common without having to do with each other."""


@contextlib.contextmanager
def reading(plugins: Sequence[str]) -> Iterator[None]:
    """Context manager in which the files are noted that are opened for reading, as files of these plugins."""
    global _is_hooked
    if not _is_hooked:
        sys.addaudithook(_note)
        _is_hooked = True
    before = set(sys.modules)
    _readers.append(tuple(plugins))
    try:
        with _noting_variables() if plugins else contextlib.nullcontext():
            yield
    finally:
        _readers.pop()
        for plugin in plugins:
            _modules.setdefault(plugin, set()).update(set(sys.modules) - before)


def sources(plugin: str) -> dict[str, str]:
    """Returns {path relative to the plugin's folder: hash} of everything that an imported plugin is made of so far."""
    folder = home(plugin)
    if folder is None:
        return {}
    installed = [other for other in (*_installed(), HOME) if not folder.is_relative_to(other)]
    loaded = {name: m for name, m in list(sys.modules.items()) if isinstance(getattr(m, "__file__", None), str)}
    code = {name: pathlib.Path(m.__file__).resolve() for name, m in loaded.items() if m.__file__.endswith(".py")}
    new = _modules.get(plugin, set())
    near = {path for name, path in code.items() if path.is_relative_to(folder) or name in new}
    own = {path for path in near if not _is_below(path, installed)}
    for path in own - _hashed.keys():
        if path.is_file():
            _hashed[path] = file_hash(path)
    found = {path: _hashed[path] for path in own if path in _hashed}
    read = {path for path in _read_by.get(plugin, ()) if path not in inputs.named and path.is_file()}
    found |= {path: _opened[path] for path in read if _opened.get(path)}
    files = {os.path.relpath(path, folder): sha for path, sha in sorted(found.items())}
    return files | {f"${name}": sha for name, sha in sorted(_variables.get(plugin, {}).items())}


def like(plugin: str, then: Mapping[str, str]) -> dict[str, str]:
    """Returns the hashes of these files and variables of a plugin as they are now, without those that are gone."""
    folder, now = home(plugin), sources(plugin)
    for name in then.keys() - now.keys():
        if name.startswith("$"):
            now[name] = hashlib.sha256(os.environb.get(name[1:].encode(), b"")).hexdigest()
        elif folder is not None and (folder / name).is_file():
            now[name] = file_hash(folder / name)
    return {name: sha for name, sha in now.items() if name in then}


def _is_below(path: pathlib.Path, folders: Iterable[pathlib.Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


@contextlib.contextmanager
def _noting_variables() -> Iterator[None]:
    """Context manager in which the environment variables are noted that code looks up which is not installed."""
    original = type(os.environ).__getitem__

    def noted(environ: os._Environ, name: str) -> str:
        frame = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename.startswith(("<frozen", *_LOOKUPS)):
            frame = frame.f_back
        if (
            frame is not None
            and _readers
            and not _is_below(pathlib.Path(frame.f_code.co_filename), (*_installed(), HOME))
        ):
            value = environ._data.get(environ.encodekey(name), b"")
            for plugin in _readers[-1]:
                _variables.setdefault(plugin, {})[name] = hashlib.sha256(value).hexdigest()
        return original(environ, name)

    type(os.environ).__getitem__ = noted
    try:
        yield
    finally:
        type(os.environ).__getitem__ = original


_LOOKUPS = (os.__file__, collections.abc.__file__)
"""Modules through which a variable is looked up: os.getenv, Mapping.get."""


@functools.cache
def _installed() -> tuple[pathlib.Path, ...]:
    """Returns the folders of installed packages and of Python itself."""
    paths = sysconfig.get_paths()
    found = [paths["purelib"], paths["platlib"], paths["stdlib"], *site.getsitepackages(), sys.prefix]
    return tuple(pathlib.Path(path).resolve() for path in dict.fromkeys(found))


def _note(event: str, arguments: tuple) -> None:
    """Notes a file that is opened. Python calls it at every audited event, so it must be fast and must not raise."""
    if event != "open" or not _readers or not _readers[-1]:
        return
    path, mode, flags = arguments
    reads = mode.startswith("r") and "+" not in mode if isinstance(mode, str) else flags & os.O_ACCMODE == os.O_RDONLY
    if not reads or not isinstance(path, str) or path.endswith((".py", ".pyc", ".gin", ".so")):
        return
    absolute = pathlib.Path(os.path.abspath(path))
    if _is_below(absolute, (*_SYSTEM, *_installed(), *_caches(), HOME)) or _is_a_runs(absolute):
        return
    for plugin in _readers[-1]:
        _read_by.setdefault(plugin, set()).add(absolute)
    with contextlib.suppress(OSError):
        if absolute not in _opened and absolute.is_file() and absolute.stat().st_size <= _LARGEST:
            _opened[absolute] = ""  # the next line opens it again
            _opened[absolute] = file_hash(absolute)


def _caches() -> Iterator[pathlib.Path]:
    """Yields the folders of compiled programs and stored phases."""
    for name in ("GORL_CACHE", "JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME"):
        if path := os.environ.get(name):
            yield pathlib.Path(os.path.abspath(os.path.expanduser(path)))


def _is_a_runs(path: pathlib.Path) -> bool:
    """Whether a file is in the folder of a run, a study, a tracker or a tool."""
    return any(
        parent.name in _TOOLS or (parent / "run.json").is_file() or (parent / "study.json").is_file()
        for parent in path.parents
    )
