"""Environment names, read from the source of the libraries, which are slow to import."""

import ast
import functools
import importlib.util
import pathlib

from gorl.errors import ConfigError


@functools.cache
def dictionary_keys(package: str, path: str, variable: str) -> tuple[str, ...]:
    """Returns the string keys of the dict literal `variable` in a package's source file.

    Raises ConfigError if the package is not installed or the file has no such dict.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"the package {package!r} is not installed: pip install gorl installs it.")
    source = (pathlib.Path(spec.submodule_search_locations[0]) / path).read_text()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == variable for t in node.targets):
            return tuple(k.value for k in node.value.keys)  # type: ignore[attr-defined]
    raise ConfigError(f"{package} has no table {variable} in {path}: an unexpected version?")


def dm_control_names() -> tuple[str, ...]:
    """Returns the name of every task of Playground's dm_control_suite."""
    return dictionary_keys("mujoco_playground", "_src/dm_control_suite/__init__.py", "_envs")


def brax_names() -> tuple[str, ...]:
    """Returns the name of every environment of Brax."""
    return dictionary_keys("brax", "envs/__init__.py", "_envs")
