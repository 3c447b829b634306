"""Runs, groups of seeds and studies on disk as one list of results, with what is missing or cannot be read named in it."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from gorl.errors import RunError
from gorl.runs.files import inside
from gorl.runs.folder import RunFolder
from gorl.runs.record import RecordEntry, entries_of
from gorl.tracking import local

FINALS = ("final_best", "final_last")  # subsets of the Evaluate phases: episodes that chose nothing
SCORES = (*FINALS, "best_evaluation", "last_evaluation")
UNKNOWN = "unknown"


class Evaluation(NamedTuple):
    """An evaluation during training: where it was made, and the mean return of its episodes."""

    env_steps: int
    wall_s: float
    value: float


@dataclasses.dataclass(frozen=True)
class RunResult:
    """One seed's run as found on disk. `method` is its variant, or its study where it belongs to no study folder."""

    folder: pathlib.Path
    root: pathlib.Path  # the path it was found by
    study: str
    variant: str | None
    method: str
    axes: dict[str, str]
    task: str
    seed: int | None
    status: str  # that of status.json, or 'killed' (it says running, and no process does), 'missing' or 'unreadable'
    problem: str = ""  # why it is unreadable
    env_steps: int = 0
    wall_s: float = 0.0
    evaluations: tuple[Evaluation, ...] = ()
    scores: dict[str, float] = dataclasses.field(default_factory=dict)  # the mean returns it has, by names of SCORES
    source: str = ""  # gorl's version and commit, and the device


class _Place(NamedTuple):
    """A run that should be there."""

    folder: pathlib.Path
    root: pathlib.Path
    study: str
    variant: str | None = None
    seed: int | None = None
    task: str = UNKNOWN
    axes: dict[str, str] = {}


def load(paths: Sequence[pathlib.Path]) -> tuple[list[RunResult], list[str]]:
    """(runs, problems): the results of all runs under run, group and study folders, and one line for each path that is none of them.

    A run is listed once, however often it is named. Raises RunError where no path is any of them.
    """
    places: dict[pathlib.Path, _Place] = {}
    problems = []
    for path in paths:
        try:
            for place in _places(path):
                places.setdefault(place.folder.resolve(), place)
        except RunError as err:
            problems.append(str(err))
    if not places:
        raise RunError("\n".join(problems))
    return _named(_completed([_result(place) for place in places.values()])), problems


def _places(path: pathlib.Path) -> Iterator[_Place]:
    if (path / "study.json").is_file():
        yield from _study(path)
    elif (path / "run.json").is_file():
        folder = RunFolder(path)
        try:
            facts = folder.facts()
            grouped = bool(facts.get("members"))
            study, task = str(facts["study"]), str(facts["environment"]["name"])
        except (RunError, KeyError, TypeError, AttributeError):
            yield _Place(path, path, study=path.name)  # to be listed as unreadable
            return
        for member in folder.members if grouped else []:
            yield _Place(member.path, path, study, seed=_number(member.path.name), task=task)
        if not grouped:
            yield _Place(path, path, study, task=task)
    else:
        raise RunError(f"{path} is not a run, a group of seeds or a study: it has neither run.json nor study.json.")


def _study(path: pathlib.Path) -> Iterator[_Place]:
    try:
        study = json.loads((path / "study.json").read_text())
        name, seeds = str(study["name"]), [int(seed) for seed in study["seeds"]]
        variants = [(str(v["name"]), str(v["folder"]), _texts(v.get("axes"))) for v in study["variants"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise RunError(f"cannot read the study {path / 'study.json'}: {type(err).__name__}: {err}") from err
    for variant, folder, axes in variants:
        for seed in seeds:
            yield _Place(
                inside(path, folder, f"study.json of {path}") / f"seed{seed}", path, name, variant, seed, axes=axes
            )


def _result(place: _Place) -> RunResult:
    variant = place.variant
    known = {
        "folder": place.folder,
        "root": place.root,
        "study": place.study,
        "axes": place.axes,
        "task": place.task,
        "seed": place.seed,
    }
    if not place.folder.exists():
        return RunResult(**known, variant=variant, method=variant or place.study, status="missing")
    try:
        folder = RunFolder.open(place.folder)
        facts = folder.facts()
        variant = variant or facts.get("variant")
        known |= {
            "task": str(facts["environment"]["name"]),
            "seed": int(facts["seed"]),
            "axes": _texts(facts.get("axes")) or place.axes,
        }
        known["study"] = place.study if place.variant else str(facts["study"])
        status = local.fate(place.folder) or str(folder.status()["status"])
        return RunResult(
            **known,
            variant=variant,
            method=variant or known["study"],
            status=status,
            source=_source(facts),
            **_recorded(folder.record_path),
        )
    except RunError as err:
        problem = str(err)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        problem = f"{place.folder} cannot be read: {type(err).__name__}: {err}"
    return RunResult(**known, variant=variant, method=variant or known["study"], status="unreadable", problem=problem)


def _recorded(path: pathlib.Path) -> dict[str, Any]:
    """What the record says. Raises RunError where a whole line is no entry."""
    try:
        last, returns = None, []
        for last in entries_of(path):
            if last.subset in ("eval", *FINALS) and math.isfinite(last.metrics["return"]):
                returns.append((last, last.metrics["return"]))
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise RunError(f"{path} is broken: {type(err).__name__}: {err}") from err
    if last is None:
        return {}
    evaluations = tuple(Evaluation(e.env_steps, e.wall_s, value) for e, value in returns if e.subset == "eval")
    return {
        "env_steps": last.env_steps,
        "wall_s": last.wall_s,
        "evaluations": evaluations,
        "scores": _scores(returns, evaluations),
    }


def _scores(returns: Sequence[tuple[RecordEntry, float]], evaluations: Sequence[Evaluation]) -> dict[str, float]:
    scores = {e.subset: value for e, value in returns if e.subset in FINALS}  # of the latest Evaluate phase
    if evaluations:
        scores |= {"best_evaluation": max(e.value for e in evaluations), "last_evaluation": evaluations[-1].value}
    return scores


def _source(facts: dict[str, Any]) -> str:
    git, device = facts.get("git") or {}, facts.get("device") or {}
    commit = f", commit {git['commit'][:10]}" if git.get("commit") else ""
    changed = " with uncommitted changes" if git.get("dirty") else ""
    return f"gorl {facts.get('gorl', UNKNOWN)}{commit}{changed}; {device.get('cpu') if device.get('platform') == 'cpu' else device.get('kind', UNKNOWN)}"


def _completed(runs: list[RunResult]) -> list[RunResult]:
    """What runs that are missing or unreadable do not say themselves, from other seeds of their variant."""
    tasks: dict[Any, set[str]] = {}
    axes: dict[Any, dict[str, str]] = {}
    for run in runs:
        if run.task != UNKNOWN:
            tasks.setdefault((run.root, run.variant), set()).add(run.task)
            axes.setdefault((run.root, run.variant), run.axes)

    def complete(run: RunResult) -> RunResult:
        key = (run.root, run.variant)
        if run.task != UNKNOWN or len(tasks.get(key, ())) != 1:
            return run
        return dataclasses.replace(run, task=next(iter(tasks[key])), axes=run.axes or axes[key])

    return [complete(run) for run in runs]


def _named(runs: list[RunResult]) -> list[RunResult]:
    """Gives each run its method's name: one for all tasks, and a different one for what is not the same."""
    by_root: dict[pathlib.Path, list[RunResult]] = {}
    for run in runs:
        by_root.setdefault(run.root, []).append(run)
    task_axes = {root: _task_axes(members) for root, members in by_root.items()}
    named = [dataclasses.replace(run, method=_without(run, task_axes[run.root])) for run in runs]
    studies: dict[str, set[str]] = {}
    for run in named:
        studies.setdefault(run.method, set()).add(run.study)
    named = [
        dataclasses.replace(r, method=f"{r.study}: {r.method}") if r.variant and len(studies[r.method]) > 1 else r
        for r in named
    ]
    counts: dict[Any, int] = {}
    for run in named:
        counts[run.method, run.task, run.seed] = counts.get((run.method, run.task, run.seed), 0) + 1
    twice = {method for (method, _, _), count in counts.items() if count > 1}
    return [dataclasses.replace(r, method=f"{r.method} ({r.root})") if r.method in twice else r for r in named]


def _task_axes(runs: Sequence[RunResult]) -> set[str]:
    """The axes of a study whose values name the task: they do not distinguish methods."""
    known = [run for run in runs if run.task != UNKNOWN]
    if len({run.task for run in known}) < 2:
        return set()
    return {axis for axis in known[0].axes if all(run.task in run.axes.get(axis, "") for run in known)}


def _without(run: RunResult, axes: set[str]) -> str:
    if not run.variant or not axes & set(run.axes):
        return run.method
    rest = {name: value for name, value in run.axes.items() if name not in axes}
    return (
        next(iter(rest.values()))
        if len(rest) == 1
        else ", ".join(f"{name}={value}" for name, value in rest.items()) or run.study
    )


def _texts(axes: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in (axes or {}).items()}


def _number(name: str) -> int | None:
    digits = name.removeprefix("seed")
    return int(digits) if digits.isdigit() else None
