"""Compares what a run was made with and what is there now."""

from collections.abc import Callable
from typing import Any

from gorl.config import Configuration
from gorl.errors import ConfigError
from gorl.runs import inputs
from gorl.runs.beginning import made_with
from gorl.runs.folder import RunFolder
from gorl.runs.provenance import provenance_differences
from gorl.runs.saved_config import parse_parameters


def require_unchanged(folder: RunFolder, configuration: Configuration) -> None:
    """Raises ConfigError if the config.gin of a run was edited after the run began."""
    known = folder.facts().get("config_sha256")
    if known in (None, configuration.config_hash):  # older runs have no hash
        return
    raise ConfigError(
        f"{folder.config_path} was edited after the run began{_edited(folder)}. A run has one configuration, so this"
        f" one is not resumed. Undo the edit, or begin a new run: gorl train {folder.config_path} --run-dir NEW."
    )


def _edited(folder: RunFolder) -> str:
    """Returns ': X = 1 became 2' for the first bindings that differ from operative_config.gin, which has them all."""
    try:
        then = _flat((folder.path / "operative_config.gin").read_text(encoding="utf-8"))
        now = _flat(folder.config_path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return ""
    names = [name for name in now if name in then and then[name] != now[name]]
    changed = [f"{name} = {then[name]!r} became {now[name]!r}" for name in names]
    return f": {', '.join(changed[:3])}{', ...' if len(changed) > 3 else ''}" if changed else ""


def _flat(config: str) -> dict[str, Any]:
    found = parse_parameters(config)
    parameters = {f"{owner}.{name}": v for owner, values in found["gin"].items() for name, v in values.items()}
    return {**found["macros"], **parameters}


def name_changes(folder: RunFolder, configuration: Configuration, say: Callable[[str], None]) -> None:
    """Says what differs from what the run was made with, if anything does."""
    then, own = folder.facts(), inputs.changes(folder.path)
    now = made_with(configuration)
    now["plugin_files"] = configuration.plugin_files_like(then.get("plugin_files", {}))
    if changed := provenance_differences(then, now):
        say(
            "not the same as when the run began, so it resumes from the same state, but perhaps not bit for bit: "
            + "; ".join(changed)
        )
    for change in own:
        say(f"{change}.")
