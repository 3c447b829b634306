"""Names of methods and tasks: one name for one identity, and different names for different ones.

A method's name is its variant's, or its first file's. Runs that have one name but differ in their settings, in their
plugins or in the content of their model are told apart by what differs.
"""

import collections
import dataclasses
import json
import pathlib
from collections.abc import Iterable, Sequence

from gorl.analysis.runs_table import UNKNOWN, RunResult, read_runs
from gorl.runs.identity import Identity

_FEW = 3
"""Bindings that a name may have; more are cut, and a hash tells the rest apart."""


def load_results(paths: Sequence[pathlib.Path]) -> tuple[list[RunResult], list[str]]:
    """Returns (the named results of all runs in folders, one line for each path of another kind), see `read_runs`."""
    runs, problems = read_runs(paths)
    return named(runs), problems


def named(runs: Sequence[RunResult]) -> list[RunResult]:
    """Returns the runs with the names of their methods and tasks."""
    runs = _split_tasks(_by_study(runs))
    for name in dict.fromkeys(run.method for run in runs):
        own = [run for run in runs if run.method == name]
        if _is_mixed(own):
            labels = _labels(own)
            runs = [_with_label(run, labels) if run.method == name else run for run in runs]
    return _by_root(runs)


def notes(runs: Sequence[RunResult]) -> list[str]:
    """Returns a sentence for every method whose settings are not the same on all tasks."""
    methods = dict.fromkeys(run.method for run in runs)
    found = [_differences_between_tasks(name, [run for run in runs if run.method == name]) for name in methods]
    return [note for note in found if note is not None]


def _by_study(runs: Sequence[RunResult]) -> list[RunResult]:
    """Names each run's method by its variant without the axes that name its task, or by its study."""
    by_root: dict[pathlib.Path, list[RunResult]] = {}
    for run in runs:
        by_root.setdefault(run.root, []).append(run)
    task_axes = {root: _task_axes(members) for root, members in by_root.items()}
    found = [dataclasses.replace(run, method=_method_name(run, task_axes[run.root])) for run in runs]
    studies: dict[str, set[str]] = {}
    for run in found:
        studies.setdefault(run.method, set()).add(run.study)
    return [
        dataclasses.replace(r, method=f"{r.study}: {r.method}") if r.variant and len(studies[r.method]) > 1 else r
        for r in found
    ]


def _by_root(runs: Sequence[RunResult]) -> list[RunResult]:
    """Tells methods apart by the paths where they were found, if these have the same seed of the same method."""
    counts = collections.Counter((run.method, run.task, run.seed) for run in runs)
    ambiguous = {method for (method, _, _), count in counts.items() if count > 1}
    return [dataclasses.replace(r, method=f"{r.method} ({r.root})") if r.method in ambiguous else r for r in runs]


def _split_tasks(runs: Sequence[RunResult]) -> list[RunResult]:
    """Tells tasks apart that have one name but other settings, or a model of another content."""
    keys: dict[str, dict[str, Identity]] = {}
    for run in runs:
        if run.identity is not None:
            keys.setdefault(run.task, {})[run.identity.task_key] = run.identity
    labels = {
        (task, key): f"{task} ({_label(dict(identity.task), _varying([dict(i.task) for i in found.values()]), key)})"
        for task, found in keys.items()
        if len(found) > 1
        for key, identity in found.items()
    }
    place = lambda run: (run.task, run.identity.task_key if run.identity else None)  # noqa: E731
    return [dataclasses.replace(run, task=labels.get(place(run), run.task)) for run in runs]


def _is_mixed(runs: Sequence[RunResult]) -> bool:
    """Whether runs of one name and one task have different methods."""
    keys: dict[str, set[str]] = {}
    for run in runs:
        if run.identity is not None:
            keys.setdefault(run.task, set()).add(run.identity.method_key)
    return any(len(found) > 1 for found in keys.values())


def _labels(runs: Sequence[RunResult]) -> dict[str, str]:
    """Returns by the key of a method what tells it apart from the others of its name."""
    by_task: dict[str, dict[str, dict[str, str]]] = {}
    for run in runs:
        if run.identity is not None:
            by_task.setdefault(run.task, {})[run.identity.method_key] = dict(run.identity.method)
    varying = list(dict.fromkeys(name for found in by_task.values() for name in _varying(list(found.values()))))
    identities = {run.identity.method_key: dict(run.identity.method) for run in runs if run.identity is not None}
    labels = {key: _label(settings, varying, key) for key, settings in identities.items()}
    if len(varying) > _FEW and (files := _files(runs)):
        labels |= files
    return labels


def _files(runs: Sequence[RunResult]) -> dict[str, str]:
    """Returns the files of each method that the others lack, or nothing if files do not tell all apart."""
    asked = {run.identity.method_key: run.asked for run in runs if run.identity is not None}
    if len(set(asked.values())) < len(asked):
        return {}
    shared = set.intersection(*(set(words) for words in asked.values()))
    own = {key: " + ".join(_stem(word) for word in words if word not in shared) for key, words in asked.items()}
    return {key: words or "nothing more" for key, words in own.items()}


def _stem(word: str) -> str:
    return word if "=" in word else pathlib.PurePath(word).stem


def _varying(found: Sequence[dict[str, str]]) -> list[str]:
    """Returns the names whose values differ."""
    names = dict.fromkeys(name for settings in found for name in settings)
    return [name for name in names if len({settings.get(name) for settings in found}) > 1]


def _label(settings: dict[str, str], varying: Sequence[str], key: str) -> str:
    """Returns 'learning_rate = 0.5', with as many of the names that vary as a name may have."""
    short = _short_names(varying)
    words = [f"{short[name]} = {_value(settings[name])}" for name in varying if name in settings]
    shown = [word for word in words if len(word) < 60][:_FEW]
    return ", ".join(shown if len(shown) == len(words) and words else [*shown, key])


def _short_names(names: Iterable[str]) -> dict[str, str]:
    """Maps 'stage0/OnPolicy.learning_rate' to its last part, or to the whole where two would be the same."""
    names = list(names)
    last = {name: name.rpartition(".")[2] if not name.startswith("plugin ") else name for name in names}
    return {name: part if list(last.values()).count(part) == 1 else name for name, part in last.items()}


def _value(text: str) -> str:
    value = json.loads(text)
    return value.removeprefix("@").removesuffix("()") if isinstance(value, str) else text


def _with_label(run: RunResult, labels: dict[str, str]) -> RunResult:
    if run.identity is None:
        return run
    return dataclasses.replace(run, method=f"{run.method} ({labels[run.identity.method_key]})")


def _differences_between_tasks(name: str, runs: Sequence[RunResult]) -> str | None:
    """Returns a sentence on the settings of a method that are not the same on all tasks, or None."""
    by_task = {run.task: dict(run.identity.method) for run in runs if run.identity is not None}
    varying = _varying(list(by_task.values()))
    if not varying:
        return None
    short = _short_names(varying)
    shown = "; ".join(
        f"{short[name]} is {', '.join(f'{_value(s[name])} on {task}' for task, s in by_task.items() if name in s)}"
        for name in varying[:_FEW]
    )
    more = f"; and {len(varying) - _FEW} more" if len(varying) > _FEW else ""
    return f"{name} has not the same settings on all tasks: {shown}{more}."


def _task_axes(runs: Sequence[RunResult]) -> set[str]:
    """Returns the axes of a study whose values name the task. Such axes do not distinguish methods."""
    known = [run for run in runs if run.task != UNKNOWN]
    if len({run.task for run in known}) < 2:
        return set()
    return {axis for axis in known[0].axes if all(run.task in run.axes.get(axis, "") for run in known)}


def _method_name(run: RunResult, axes: set[str]) -> str:
    """Returns the name of a run's method without the `axes` that name its task."""
    if not run.variant or not axes & set(run.axes):
        return run.method
    rest = {name: value for name, value in run.axes.items() if name not in axes}
    if len(rest) == 1:
        return next(iter(rest.values()))
    return ", ".join(f"{name}={value}" for name, value in rest.items()) or run.study
