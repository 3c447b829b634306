"""Identifies what a saved run is a run of: its method and its task, by their resolved settings.

A method is everything in operative_config.gin but the seed, the task's environment, and what only watches a run
(trackers, pictures, checkpoints), with the hashes of the plugins. A task is the environment's settings but for its
physics, which belongs to the method, and the content of its model. Nothing is built, so a stranger's folder is safe.
"""

import dataclasses
import functools
import hashlib
import json
from typing import Any

from gorl.runs.folder import RunFolder
from gorl.runs.saved_config import parse_parameters

_WATCHING = ("checkpoint_interval", "trackers", "pictures")
_SEEDS = ("seed", "num_seeds")
_OWN = ("threads",)
"""Settings of environments on which no number depends."""
_PHYSICS = ("impl", "backend")
_PLACES = ("xml",)
"""Facts about an environment that say where something is, and not what."""


@dataclasses.dataclass(frozen=True)
class Identity:
    """The settings of a run's method and task, by name, as text, with the content of files as hashes."""

    method: tuple[tuple[str, str], ...]
    task: tuple[tuple[str, str], ...]

    @functools.cached_property
    def method_key(self) -> str:
        """A short hash of the method."""
        return _short(self.method)

    @functools.cached_property
    def task_key(self) -> str:
        """A short hash of the task."""
        return _short(self.task)


def _short(settings: tuple) -> str:
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:8]


def identify(parameters: dict[str, Any], facts: dict[str, Any]) -> Identity:
    """Returns the identity of a run from `parse_parameters` of its operative_config.gin and from its run.json."""
    tree = parameters.get("gin", {})
    experiment = tree.get("Experiment", {})
    watching = {_name(v) for part in _WATCHING for v in _listed(experiment.get(part))}
    environment = _name(tree.get("Task", {}).get("environment"))
    method: dict[str, str] = {}
    for owner, values in tree.items():
        kind = owner.rpartition("/")[2]
        for name, value in values.items():
            is_aside = (
                kind in watching
                or kind in ("Study", "Sweep")
                or (kind == "Experiment" and name in (*_WATCHING, *_SEEDS))
                or (kind == environment and name not in _PHYSICS)
                or name in _OWN
            )
            if not is_aside:
                method[f"{owner}.{name}"] = json.dumps(value, default=str)
    for plugin, files in (facts.get("plugin_files") or {}).items():
        method[f"plugin {plugin}"] = json.dumps(_short(tuple(sorted(files.items()))))
    known = facts.get("environment") or {}
    task = {str(k): json.dumps(v, default=str) for k, v in known.items() if k not in (*_PHYSICS, *_PLACES)}
    return Identity(tuple(sorted(method.items())), tuple(sorted(task.items())))


def read_identity(folder: RunFolder) -> Identity | None:
    """Returns the identity of a run on disk, or None if its operative_config.gin cannot be read."""
    try:
        config = (folder.path / "operative_config.gin").read_text(encoding="utf-8")
        return identify(parse_parameters(config), folder.facts())
    except (OSError, ValueError, SyntaxError, RecursionError, AttributeError, TypeError):
        return None


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _name(reference: Any) -> str:
    """Returns the class that a reference such as '@plots/Rollout()' names."""
    return str(reference).removeprefix("@").removesuffix("()").rpartition("/")[2]
