"""The results of runs, groups of seeds and studies on disk, including missing and unreadable runs."""

import dataclasses
import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from gorl.errors import RunError
from gorl.runs.files import inside, parse_json, read_plain
from gorl.runs.folder import RunFolder
from gorl.runs.identity import Identity, read_identity
from gorl.runs.summary import FINALS, Swaps, best_stage, final_returns, read_results, swaps
from gorl.runtime.streams import one_line
from gorl.tracking import local

SCORES = (*FINALS, "best_evaluation", "last_evaluation")
UNKNOWN = "unknown"


class EvaluationPoint(NamedTuple):
    """An evaluation during training: its position in the run, and the mean return of its episodes."""

    env_steps: int
    wall_s: float
    value: float


@dataclasses.dataclass(frozen=True)
class RunResult:
    """The result of one seed's run. `method` is its variant, or its study; see `gorl.analysis.naming`."""

    folder: pathlib.Path
    root: pathlib.Path  # the path under which it was found
    study: str
    variant: str | None
    method: str
    axes: dict[str, str]
    task: str
    seed: int | None
    status: str  # of status.json, or 'killed' (running without a process), 'missing', 'unreadable'
    problem: str = ""  # the reason why it is unreadable
    env_steps: int = 0
    wall_s: float = 0.0
    evaluations: tuple[EvaluationPoint, ...] = ()
    scores: dict[str, float] = dataclasses.field(default_factory=dict)  # mean returns by names of SCORES
    best_stage: int | None = None  # the stage of 'final_best'
    swaps: Swaps = dataclasses.field(default_factory=dict)
    identity: Identity | None = None  # None: its configuration cannot be read
    asked: tuple[str, ...] = ()  # the files and bindings of its command
    source: str = ""  # gorl's version and commit, and the device


class _Place(NamedTuple):
    """The place of a run that should exist."""

    folder: pathlib.Path
    root: pathlib.Path
    study: str
    variant: str | None = None
    seed: int | None = None
    task: str = UNKNOWN
    axes: dict[str, str] = {}


def read_runs(paths: Sequence[pathlib.Path]) -> tuple[list[RunResult], list[str]]:
    """Returns (the results of all runs in run, group and study folders, one line for each path of another kind).

    A run that is named several times is listed once. Raises RunError if no path is such a folder.
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
    return [_shown(run) for run in _fill_from_siblings([_result(place) for place in places.values()])], problems


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
            yield _Place(path, path, study=path.name)  # it will be listed as unreadable
            return
        for member in folder.members if grouped else []:
            yield _Place(member.path, path, study, seed=_parse_seed(member.path.name), task=task)
        if not grouped:
            yield _Place(path, path, study, task=task)
    else:
        raise RunError(f"{path} is not a run, a group of seeds or a study: it has neither run.json nor study.json.")


def _study(path: pathlib.Path) -> Iterator[_Place]:
    try:
        study = parse_json(read_plain(path / "study.json"))
        name, seeds = str(study["name"]), [int(seed) for seed in study["seeds"]]
        variants = [(str(v["name"]), str(v["folder"]), _as_text(v.get("axes"))) for v in study["variants"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise RunError(f"cannot read the study {path / 'study.json'}: {type(err).__name__}: {err}") from err
    for variant, folder, axes in variants:
        for seed in seeds:
            place = inside(path, f"{folder}/seed{seed}", f"study.json of {path}")
            yield _Place(place, path, name, variant, seed, axes=axes)


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
            "axes": _as_text(facts.get("axes")) or place.axes,
        }
        known["study"] = place.study if place.variant else str(facts["study"])
        status = local.final_status(place.folder) or str(folder.status()["status"])
        return RunResult(
            **known,
            variant=variant,
            method=variant or known["study"],
            status=status,
            identity=read_identity(folder),
            asked=_asked(facts),
            source=_source(facts),
            **_recorded(folder.record_path),
        )
    except RunError as err:
        problem = str(err)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        problem = f"{place.folder} cannot be read: {type(err).__name__}: {err}"
    return RunResult(**known, variant=variant, method=variant or known["study"], status="unreadable", problem=problem)


def _recorded(path: pathlib.Path) -> dict[str, Any]:
    """Returns the fields of a result that come from the record. Raises RunError if a complete line is not an entry."""
    try:
        last, entries = read_results(path)
        points = [EvaluationPoint(e.env_steps, e.wall_s, e.metrics["return"]) for e in entries if e.subset == "eval"]
        scores, best, swapped = final_returns(entries), best_stage(entries), swaps(entries)
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise RunError(f"{path} is broken: {type(err).__name__}: {err}") from err
    if last is None:
        return {}
    evaluations = tuple(point for point in points if math.isfinite(point.value))
    if evaluations:
        scores |= {"best_evaluation": max(e.value for e in evaluations), "last_evaluation": evaluations[-1].value}
    return {
        "env_steps": last.env_steps,
        "wall_s": last.wall_s,
        "evaluations": evaluations,
        "scores": scores,
        "best_stage": best,
        "swaps": swapped,
    }


def _asked(facts: dict[str, Any]) -> tuple[str, ...]:
    words = facts.get("asked")
    return tuple(map(str, words)) if isinstance(words, list) else ()


def _source(facts: dict[str, Any]) -> str:
    git, device = facts.get("git") or {}, facts.get("device") or {}
    commit = f", commit {git['commit'][:10]}" if git.get("commit") else ""
    changed = " with uncommitted changes" if git.get("dirty") else ""
    name = device.get("cpu") if device.get("platform") == "cpu" else device.get("kind", UNKNOWN)
    return f"gorl {facts.get('gorl', UNKNOWN)}{commit}{changed}; {name}"


def _fill_from_siblings(runs: list[RunResult]) -> list[RunResult]:
    """Fills the task and axes of missing and unreadable runs from other seeds of their variant."""
    tasks: dict[tuple[pathlib.Path, str | None], set[str]] = {}
    axes: dict[tuple[pathlib.Path, str | None], dict[str, str]] = {}
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


def _shown(run: RunResult) -> RunResult:
    """Returns a result whose names, which may be anybody's, have no characters that a terminal or a page obeys."""
    names = {name: one_line(getattr(run, name)) for name in ("study", "method", "task", "status", "source", "problem")}
    return dataclasses.replace(run, **names)


def _as_text(axes: Any) -> dict[str, str]:
    return {str(name): str(value) for name, value in (axes or {}).items()}


def _parse_seed(name: str) -> int | None:
    digits = name.removeprefix("seed")
    return int(digits) if digits.isdigit() else None
