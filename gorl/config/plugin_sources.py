"""Finds what a plugin is made of: its code, what that imports from the plugin's folder, and what it reads there.

A hash is of a file as it was when this process first read it: what runs is that, whatever is on disk since.
"""

import importlib.util
import os
import pathlib
import site
import sys
import sysconfig

from gorl.runtime.inputs import file_hash

_LARGEST = 64 * 2**20
"""Bytes of a file that counts as a plugin's. What is larger is data that training reads, and no part of it."""

_opened: dict[pathlib.Path, str] = {}
"""Hashes of files that were opened for reading below a plugin's folder."""
_hashed: dict[pathlib.Path, str] = {}
_folders: set[pathlib.Path] = set()
_is_watching = False


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


def root(plugin: str) -> pathlib.Path | None:
    """Returns the folder from which a plugin can be imported: that around a package, else its own."""
    own = home(plugin)
    is_package = own is not None and not plugin.endswith(".py") and own.name == plugin.partition(".")[0]
    return own.parent if is_package else own


def watch(folder: pathlib.Path | None) -> None:
    """Notes from now on which files below a plugin's folder are opened for reading."""
    global _is_watching
    if folder is not None:
        _folders.add(folder)
        if not _is_watching:
            sys.addaudithook(_note)
            _is_watching = True


def sources(plugin: str) -> dict[str, str]:
    """Returns {path relative to the plugin's folder: hash} of everything that an imported plugin is made of so far."""
    folder = home(plugin)
    if folder is None:
        return {}
    loaded = [m for m in list(sys.modules.values()) if isinstance(getattr(m, "__file__", None), str)]
    code = {pathlib.Path(m.__file__).resolve() for m in loaded if m.__file__.endswith(".py")}
    own = {path for path in code if _is_own(path, folder)}
    for path in own - _hashed.keys():
        if path.is_file():
            _hashed[path] = file_hash(path)
    found = {path: _hashed[path] for path in own if path in _hashed}
    found |= {path: sha for path, sha in _opened.items() if _is_own(path, folder)}
    return {str(path.relative_to(folder)): sha for path, sha in sorted(found.items())}


def _is_own(path: pathlib.Path, folder: pathlib.Path) -> bool:
    """Whether a file below a plugin's folder belongs to the plugin, and not to an environment of Python in there."""
    if not path.is_relative_to(folder):
        return False
    return not any(path.is_relative_to(other) and not folder.is_relative_to(other) for other in _installed())


def _installed() -> list[pathlib.Path]:
    """Returns the folders of installed packages and of Python itself."""
    paths = sysconfig.get_paths()
    found = [paths["purelib"], paths["platlib"], paths["stdlib"], *site.getsitepackages(), sys.prefix]
    return [pathlib.Path(path).resolve() for path in dict.fromkeys(found)]


def _note(event: str, arguments: tuple) -> None:
    """Notes a file that is opened. Python calls it at every audited event, so it must be fast and must not raise."""
    if event != "open":
        return
    path, mode, flags = arguments
    reads = mode.startswith("r") and "+" not in mode if isinstance(mode, str) else flags & os.O_ACCMODE == os.O_RDONLY
    if not reads or not isinstance(path, str) or path.endswith((".py", ".pyc", ".gin", ".so")):
        return
    absolute = os.path.abspath(path)
    for folder in _folders:
        if absolute.startswith(f"{folder}{os.sep}"):
            _hash_opened(pathlib.Path(absolute), folder)


def _hash_opened(path: pathlib.Path, folder: pathlib.Path) -> None:
    if path in _opened:
        return
    try:
        if path.is_file() and path.stat().st_size <= _LARGEST and not _is_a_runs(path, folder):
            _opened[path] = ""  # the next line opens it again
            _opened[path] = file_hash(path)
    except OSError:
        _opened.pop(path, None)


def _is_a_runs(path: pathlib.Path, folder: pathlib.Path) -> bool:
    """Whether a file below `folder` was written by gorl into a run's or a study's folder, or by a tracker or tool."""
    below = [folder / part for part in path.relative_to(folder).parents][:-1]
    return any(
        parent.name.startswith(".") or (parent / "run.json").is_file() or (parent / "study.json").is_file()
        for parent in below
    )
