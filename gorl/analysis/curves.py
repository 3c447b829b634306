"""Learning curves: the mean return over the seeds of a method, against environment steps or seconds."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from gorl.analysis.runs_table import RunResult
from gorl.analysis.statistics import BOOTSTRAP_SEED, CONFIDENCE, CUT_SHORT, ENDED, REPETITIONS

LEAST_SHARE = 0.5  # a line ends where fewer of its runs have come that far, runs that are still going included


@dataclasses.dataclass(frozen=True)
class Curve:
    """One method on one task. All arrays [T]: x in environment steps or seconds, returns, and how many runs each point has.

    `low` and `high` are the percentile bootstrap interval of the mean over runs; NaN where there is one run.
    """

    method: str
    task: str
    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    runs: np.ndarray


def curves(runs: Sequence[RunResult], axis: str, *, repetitions: int = REPETITIONS) -> list[Curve]:
    """A curve for each method and task that has an evaluation, in the order of the runs.

    Points are where any of its runs was evaluated. A run is interpolated within its own range. Beyond it a run that diverged
    or was stopped keeps its last value as far as the longest run of its method goes. A curve has the points where all runs
    that ended are, and at least LEAST_SHARE of all: without the former, its end would be that of the slowest runs.
    """
    groups: dict[tuple[str, str], list[RunResult]] = {}
    for run in runs:
        if run.evaluations:
            groups.setdefault((run.method, run.task), []).append(run)
    found = [_curve(method, task, members, axis, repetitions) for (method, task), members in groups.items()]
    return [curve for curve in found if len(curve.x)]


def _curve(method: str, task: str, runs: Sequence[RunResult], axis: str, repetitions: int) -> Curve:
    series = [
        {getattr(e, axis): e.value for e in run.evaluations} for run in runs
    ]  # of two at one point, the policy that goes on
    x = np.array(sorted(set().union(*series)), np.float64)
    values = np.stack(
        [_on(x, points, carried=run.status in CUT_SHORT) for points, run in zip(series, runs, strict=True)]
    )
    there = np.isfinite(values)
    count = there.sum(axis=0)
    ended = np.array([run.status in ENDED for run in runs])
    kept = there[ended].all(axis=0) & (count >= LEAST_SHARE * len(runs))
    x, values, there, count = x[kept], values[:, kept], there[:, kept], count[kept]
    low, high = _band(values, there, repetitions)
    return Curve(method, task, x, np.nanmean(values, axis=0), low, high, count)


def _on(x: Float[np.ndarray, " T"], points: dict, *, carried: bool) -> Float[np.ndarray, " T"]:
    own, returns = np.array(sorted(points), np.float64), np.array([points[k] for k in sorted(points)], np.float64)
    return np.interp(x, own, returns, left=np.nan, right=returns[-1] if carried else np.nan)


def _band(
    values: np.ndarray, there: np.ndarray, repetitions: int
) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    """Whole runs are drawn with replacement, the same ones for all points that have the same runs."""
    low, high = np.full((2, values.shape[1]), np.nan)
    tail = 50.0 * (1.0 - CONFIDENCE)
    for mask in np.unique(there, axis=1).T:
        n, columns = int(mask.sum()), (there == mask[:, None]).all(axis=0)
        if n > 1:
            drawn = np.random.default_rng(BOOTSTRAP_SEED).multinomial(n, np.full(n, 1.0 / n), size=repetitions) / n
            low[columns], high[columns] = np.percentile(
                drawn @ values[np.ix_(mask, columns)], [tail, 100.0 - tail], axis=0
            )
    return low, high
