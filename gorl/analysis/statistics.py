"""Scores of runs, and what rliable makes of them (Agarwal et al. 2021, arXiv 2108.13264).

rliable 1.2.0 takes a `random_state` and ignores it: its bootstraps draw from numpy's global generator, which is therefore seeded around
each call and put back afterwards.
"""

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from gorl.analysis.runs_table import RunResult
from gorl.errors import ConfigError

ENDED = ("finished", "diverged", "stopped")  # statuses whose outcome is known
CUT_SHORT = ("diverged", "stopped")
_ENDS = {"diverged": "diverged", "stopped": "were stopped"}
BOOTSTRAP_SEED = 0
REPETITIONS = 2000
CONFIDENCE = 0.95
PROFILE_POINTS = 101
METRICS = ("iqm", "mean", "median", "optimality_gap")
PROBABILITY = "probability_of_improvement"


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A point estimate and its interval; low and high are NaN where one run a task says nothing about the spread."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class ScoreMatrices:
    """Returns of each method, [runs, tasks], on the tasks that all methods have; `notes` say what had to be left out."""

    tasks: tuple[str, ...]
    scores: dict[str, np.ndarray]
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Profile:
    """The share of runs with a score above each threshold, with its band. All [T]; thresholds are normalised scores."""

    thresholds: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray


def library() -> Any:
    """rliable's (library, metrics). Raises ConfigError where they cannot be imported."""
    try:
        from rliable import library, metrics
    except (ImportError, TypeError) as err:  # TypeError: arch 7, which rliable asks for, under pandas 3
        raise ConfigError(
            f"gorl report needs rliable, which cannot be imported ({err}): pip install 'rliable>=1.2' 'pandas<3'."
        ) from err
    return library, metrics


def score(run: RunResult, which: str) -> tuple[float, str] | None:
    """(mean return, which score it is) of a run whose outcome is known, else None.

    A run that diverged or was stopped, and has not the score asked for, has its last evaluation: leaving it out would
    leave out the method's failures.
    """
    if run.status not in ENDED:
        return None
    if which in run.scores:
        return run.scores[which], which
    if run.status in CUT_SHORT and "last_evaluation" in run.scores:
        return run.scores["last_evaluation"], "last_evaluation"
    return None


def returns(runs: Sequence[RunResult], which: str) -> dict[str, dict[str, list[float]]]:
    """The scores there are, by method and task, in the order of seeds. Methods keep their order."""
    found: dict[str, dict[str, list[float]]] = {}
    for run in sorted(runs, key=lambda r: -1 if r.seed is None else r.seed):
        if (scored := score(run, which)) is not None:
            found.setdefault(run.method, {}).setdefault(run.task, []).append(scored[0])
    return {method: found[method] for method in dict.fromkeys(r.method for r in runs) if method in found}


def matrices(runs: Sequence[RunResult], which: str) -> ScoreMatrices:
    """Rectangular score matrices, which rliable needs. Where tasks have different numbers of scores, those of the lowest seeds."""
    found = returns(runs, which)
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
        if (note := _substituted([r for r in runs if r.method == method and r.task in tasks], which))
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


def _substituted(runs: Sequence[RunResult], which: str) -> str:
    """How many scores of a method are not what was asked for, or ''."""
    scored = [(r, s[1]) for r in runs if (s := score(r, which)) is not None]
    ends = [_ENDS[r.status] for r, kind in scored if kind != which]
    if not ends:
        return ""
    return f"{runs[0].method}: {len(ends)} of {len(scored)} scores are last evaluations, of runs that {' or '.join(sorted(set(ends)))}."


def aggregates(
    scores: Float[np.ndarray, "runs tasks"], *, names: Sequence[str] = METRICS, repetitions: int = REPETITIONS
) -> dict[str, Estimate]:
    """rliable's interquartile mean, mean, median (over tasks, of means over runs) and optimality gap, by their names in METRICS."""
    _, metrics = library()
    functions = [getattr(metrics, f"aggregate_{name}") for name in names]
    points, intervals = _interval(scores, lambda s: np.array([f(s) for f in functions]), repetitions)
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
    """The mean over tasks of P(a run scores above a run of the reference), ties counted half."""
    _, metrics = library()
    point, interval = _interval((scores, reference), metrics.probability_of_improvement, repetitions)
    low, high = (math.nan, math.nan) if min(len(scores), len(reference)) < 2 else map(float, np.ravel(interval))
    return Estimate(float(point), low, high)


def profile(
    scores: Float[np.ndarray, "runs tasks"], lowest: float, highest: float, *, repetitions: int = REPETITIONS
) -> Profile:
    """The run-score distribution on PROFILE_POINTS thresholds from `lowest` to `highest`."""
    rliable, _ = library()
    thresholds = np.linspace(lowest, highest, PROFILE_POINTS)
    with _seeded():
        share, band = rliable.create_performance_profile(
            {"": scores}, thresholds, reps=repetitions, confidence_interval_size=CONFIDENCE
        )
    low, high = band[""] if len(scores) > 1 else np.full((2, PROFILE_POINTS), math.nan)
    return Profile(thresholds, share[""], low, high)


def _interval(scores: Any, function: Callable, repetitions: int) -> tuple[Any, Any]:
    """One method at a time: its numbers do not depend on which others are in the report."""
    rliable, _ = library()
    with _seeded():
        points, intervals = rliable.get_interval_estimates(
            {"": scores}, function, reps=repetitions, confidence_interval_size=CONFIDENCE
        )
    return points[""], intervals[""]


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    state = np.random.get_state()
    np.random.seed(BOOTSTRAP_SEED)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of scipy, about tests whose p-value is not used
            yield
    finally:
        np.random.set_state(state)
