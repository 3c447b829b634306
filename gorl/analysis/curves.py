"""Learning curves: a method's mean return over seeds against environment steps or seconds."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from gorl.analysis.runs_table import RunResult
from gorl.analysis.statistics import BOOTSTRAP_SEED, CONFIDENCE, CUT_SHORT, ENDED, REPETITIONS

LEAST_SHARE = 0.5  # a curve ends where a smaller share of its runs, unfinished ones included, has data


@dataclasses.dataclass(frozen=True)
class Curve:
    """The curve of one method on one task. All arrays are [T].

    `x` is in environment steps or seconds, `runs` counts the runs of each point, and the others are returns. `low` and
    `high` are the percentile bootstrap interval of the mean over runs, NaN for a single run.
    """

    method: str
    task: str
    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    runs: np.ndarray


def curves(runs: Sequence[RunResult], axis: str, *, repetitions: int = REPETITIONS) -> list[Curve]:
    """Returns a curve for each method and task that has an evaluation, in the order of the runs.

    A curve has a point wherever one of its runs was evaluated. Each run is interpolated within its own range. A run
    that diverged or was stopped keeps its last value up to the end of the method's longest run. A point is kept if all
    ended runs have a value there, and at least LEAST_SHARE of all runs. Without the first condition only the slowest
    runs would determine the end of a curve.
    """
    groups: dict[tuple[str, str], list[RunResult]] = {}
    for run in runs:
        if run.evaluations:
            groups.setdefault((run.method, run.task), []).append(run)
    found = [_compute_curve(method, task, members, axis, repetitions) for (method, task), members in groups.items()]
    return [curve for curve in found if len(curve.x)]


def _compute_curve(method: str, task: str, runs: Sequence[RunResult], axis: str, repetitions: int) -> Curve:
    # Of two evaluations at one point the second counts: that of the policy that training continues with.
    series = [{getattr(e, axis): e.value for e in run.evaluations} for run in runs]
    x = np.array(sorted(set().union(*series)), np.float64)
    extended = [run.status in CUT_SHORT for run in runs]
    values = np.stack([_interpolate(x, points, extend=e) for points, e in zip(series, extended, strict=True)])
    present = np.isfinite(values)
    count = present.sum(axis=0)
    ended = np.array([run.status in ENDED for run in runs])
    kept = present[ended].all(axis=0) & (count >= LEAST_SHARE * len(runs))
    x, values, present, count = x[kept], values[:, kept], present[:, kept], count[kept]
    low, high = _band(values, present, repetitions)
    return Curve(method, task, x, np.nanmean(values, axis=0), low, high, count)


def _interpolate(x: Float[np.ndarray, " T"], points: dict, *, extend: bool) -> Float[np.ndarray, " T"]:
    known, returns = np.array(sorted(points), np.float64), np.array([points[k] for k in sorted(points)], np.float64)
    return np.interp(x, known, returns, left=np.nan, right=returns[-1] if extend else np.nan)


def _band(
    values: np.ndarray, present: np.ndarray, repetitions: int
) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    """Returns the bootstrap interval of each point. Points with the same runs share the resampled runs."""
    low, high = np.full((2, values.shape[1]), np.nan)
    tail = 50.0 * (1.0 - CONFIDENCE)
    for mask in np.unique(present, axis=1).T:
        n, columns = int(mask.sum()), (present == mask[:, None]).all(axis=0)
        if n > 1:
            drawn = np.random.default_rng(BOOTSTRAP_SEED).multinomial(n, np.full(n, 1.0 / n), size=repetitions) / n
            low[columns], high[columns] = np.percentile(
                drawn @ values[np.ix_(mask, columns)], [tail, 100.0 - tail], axis=0
            )
    return low, high
