"""Scores of runs, and rliable's statistics of them (Agarwal et al. 2021, arXiv 2108.13264).

rliable 1.2.0 ignores its argument `random_state`: its bootstraps draw from NumPy's global generator. That generator is
therefore seeded for each call and restored afterwards.
"""

import contextlib
import dataclasses
import math
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from gorl.analysis.runs_table import RunResult
from gorl.errors import ConfigError

ENDED = ("finished", "diverged", "unsound", "stopped")  # statuses whose outcome is known
CUT_SHORT = ("diverged", "unsound", "stopped")
_ENDS = {"diverged": "diverged", "unsound": "ended without a result", "stopped": "were stopped"}
BOOTSTRAP_SEED = 0
REPETITIONS = 2000
CONFIDENCE = 0.95
PROFILE_POINTS = 101
METRICS = ("iqm", "mean", "median", "optimality_gap")
PROBABILITY = "probability_of_improvement"


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A point estimate and its interval. `low` and `high` are NaN with one run per task, which has no spread."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class ScoreMatrices:
    """Returns of each method, [runs, tasks], on the tasks that all methods share. `notes` list what was excluded."""

    tasks: tuple[str, ...]
    scores: dict[str, np.ndarray]
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Profile:
    """The share of runs with a score above each threshold, with its band. All [T]; thresholds are normalized scores."""

    thresholds: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray


def library() -> tuple[types.ModuleType, types.ModuleType]:
    """Returns rliable's modules (library, metrics). Raises ConfigError if they cannot be imported."""
    try:
        from rliable import library, metrics
    except (ImportError, TypeError) as err:  # TypeError: arch 7, which rliable requires, with pandas 3
        raise ConfigError(
            f"gorl report needs rliable, which cannot be imported ({err}): pip install 'rliable>=1.2' 'pandas<3'."
        ) from err
    return library, metrics


def score(run: RunResult, which: str) -> tuple[float, str] | None:
    """Returns (mean return, name of the score) of a run whose outcome is known, else None.

    A run that diverged or was stopped without the requested score gets its last evaluation. Excluding such runs would
    exclude the method's failures.
    """
    if run.status not in ENDED:
        return None
    if which in run.scores:
        return run.scores[which], which
    if run.status in CUT_SHORT and "last_evaluation" in run.scores:
        return run.scores["last_evaluation"], "last_evaluation"
    return None


def scores_by_method(runs: Sequence[RunResult], which: str) -> dict[str, dict[str, list[float]]]:
    """Returns the existing scores by method and task, in the order of seeds. Methods keep their order."""
    found: dict[str, dict[str, list[float]]] = {}
    for run in sorted(runs, key=lambda r: -1 if r.seed is None else r.seed):
        if (scored := score(run, which)) is not None:
            found.setdefault(run.method, {}).setdefault(run.task, []).append(scored[0])
    return {method: found[method] for method in dict.fromkeys(r.method for r in runs) if method in found}


def matrices(runs: Sequence[RunResult], which: str) -> ScoreMatrices:
    """Returns the rectangular score matrices that rliable needs.

    If tasks have different numbers of scores, each uses those of the lowest seeds.
    """
    found = scores_by_method(runs, which)
    notes = [
        f"{m} has no score yet: it is not in the aggregates."
        for m in dict.fromkeys(r.method for r in runs)
        if m not in found
    ]
    known = sorted({task for by_task in found.values() for task in by_task})
    tasks = [task for task in known if all(task in by_task for by_task in found.values())]
    for task in known:
        lacking = [method for method, by_task in found.items() if task not in by_task]
        if lacking:
            notes.append(f"{task} is not in the aggregates: {', '.join(lacking)} has no score there.")
    notes += [
        note
        for method in found
        if (note := _note_substitutions([r for r in runs if r.method == method and r.task in tasks], which))
    ]
    scores = {}
    for method, by_task in found.items() if tasks else ():
        counts = {task: len(by_task[task]) for task in tasks}
        least = min(counts.values())
        if max(counts.values()) > least:
            uneven = ", ".join(f"{count} on {task}" for task, count in counts.items())
            notes.append(
                f"{method} has scores of {uneven}: the aggregates use {least} on each task, of the lowest seeds."
            )
        scores[method] = np.array([by_task[task][:least] for task in tasks], np.float64).T
    return ScoreMatrices(tuple(tasks), scores, tuple(notes))


def _note_substitutions(runs: Sequence[RunResult], which: str) -> str:
    """Returns a note of how many scores of a method are last evaluations instead of the requested score, or ''."""
    scored = [(r, s[1]) for r in runs if (s := score(r, which)) is not None]
    ends = [_ENDS[r.status] for r, kind in scored if kind != which]
    if not ends:
        return ""
    causes = " or ".join(sorted(set(ends)))
    return f"{runs[0].method}: {len(ends)} of {len(scored)} scores are last evaluations, of runs that {causes}."


def aggregates(
    scores: Float[np.ndarray, "runs tasks"], *, names: Sequence[str] = METRICS, repetitions: int = REPETITIONS
) -> dict[str, Estimate]:
    """Returns rliable's estimates of `names`, which are in METRICS.

    They are the interquartile mean, mean, median (over tasks, of means over runs) and optimality gap.
    """
    _, metrics = library()
    functions = [getattr(metrics, f"aggregate_{name}") for name in names]
    points, intervals = _bootstrap(scores, lambda s: np.array([f(s) for f in functions]), repetitions)
    if len(scores) < 2:
        intervals = np.full_like(intervals, math.nan)
    return {
        name: Estimate(float(points[i]), float(intervals[0, i]), float(intervals[1, i])) for i, name in enumerate(names)
    }


def probability_of_improvement(
    scores: Float[np.ndarray, "runs tasks"],
    reference: Float[np.ndarray, "others tasks"],
    *,
    repetitions: int = REPETITIONS,
) -> Estimate:
    """Returns the mean over tasks of P(a run scores above a run of the reference). Ties count half."""
    _, metrics = library()
    point, interval = _bootstrap((scores, reference), metrics.probability_of_improvement, repetitions)
    low, high = (math.nan, math.nan) if min(len(scores), len(reference)) < 2 else map(float, np.ravel(interval))
    return Estimate(float(point), low, high)


def profile(
    scores: Float[np.ndarray, "runs tasks"], lowest: float, highest: float, *, repetitions: int = REPETITIONS
) -> Profile:
    """Returns the run-score distribution at PROFILE_POINTS thresholds from `lowest` to `highest`."""
    rliable, _ = library()
    thresholds = np.linspace(lowest, highest, PROFILE_POINTS)
    with _seeded():
        share, band = rliable.create_performance_profile(
            {"": scores}, thresholds, reps=repetitions, confidence_interval_size=CONFIDENCE
        )
    low, high = band[""] if len(scores) > 1 else np.full((2, PROFILE_POINTS), math.nan)
    return Profile(thresholds, share[""], low, high)


def _bootstrap(
    scores: np.ndarray | tuple[np.ndarray, np.ndarray], function: Callable, repetitions: int
) -> tuple[Any, Any]:
    """Returns rliable's estimates and intervals of one method, so that they do not depend on the others in a report."""
    rliable, _ = library()
    with _seeded():
        points, intervals = rliable.get_interval_estimates(
            {"": scores}, function, reps=repetitions, confidence_interval_size=CONFIDENCE
        )
    return points[""], intervals[""]


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    """Context manager that seeds NumPy's global generator and restores it."""
    state = np.random.get_state()
    np.random.seed(BOOTSTRAP_SEED)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy warns about p-values that are not used
            yield
    finally:
        np.random.set_state(state)
