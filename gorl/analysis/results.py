"""The numbers of a report, computed once for its tables, files and pictures."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from gorl.analysis import naming, statistics
from gorl.analysis.curves import Curve, curves
from gorl.analysis.runs_table import SCORES, RunResult
from gorl.analysis.statistics import Estimate, Profile, ScoreMatrices
from gorl.errors import ConfigError, RunError, did_you_mean

MAX_RETURN = 1000.0  # DM Control: 1000 steps with rewards in [0, 1]
TASK_METRICS = ("mean", "iqm")  # on one task; over tasks, all of METRICS
AXES = ("env_steps", "wall_s")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a report. Scores are returns divided by `max_return`."""

    score: str = "final_best"
    x: str = "env_steps"  # one of AXES
    max_return: float = MAX_RETURN
    reference: str | None = None  # a method; None: the first one with a score
    repetitions: int = statistics.REPETITIONS

    def check(self) -> None:
        """Raises ConfigError for an unknown score or axis and for a `max_return` that is not positive."""
        for option, value, known in (("--score", self.score, SCORES), ("--x", self.x, AXES)):
            if value not in known:
                raise ConfigError(f"{option} {value}: it is one of {', '.join(known)}.{did_you_mean(value, known)}")
        if not self.max_return > 0.0:
            raise ConfigError(f"--max-return {self.max_return}: must be > 0, because scores are divided by it.")


@dataclasses.dataclass(frozen=True)
class Results:
    """The numbers of a report.

    `by_task` is in returns; `aggregates`, `better` and `profiles` are in normalized scores, over `matrices.tasks`.
    """

    runs: tuple[RunResult, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    settings: Settings
    matrices: ScoreMatrices
    by_task: dict[tuple[str, str], dict[str, Estimate]]
    aggregates: dict[str, dict[str, Estimate]]
    better: dict[str, Estimate]  # P(method above the reference)
    reference: str | None
    profiles: dict[str, Profile]
    curves: tuple[Curve, ...]

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(r.method for r in self.runs))

    @property
    def tasks(self) -> list[str]:
        return sorted({r.task for r in self.runs})


def compute(runs: Sequence[RunResult], problems: Sequence[str], settings: Settings) -> Results:
    """Computes a report's numbers. Raises ConfigError for bad settings, and RunError if no run has an evaluation."""
    settings.check()
    methods = list(dict.fromkeys(r.method for r in runs))
    if settings.reference is not None and settings.reference not in methods:
        known = ", ".join(methods)
        raise ConfigError(
            f"--reference {settings.reference}: the runs are of {known}.{did_you_mean(settings.reference, methods)}"
        )
    if not any(r.evaluations or r.scores for r in runs):
        lines = (f"{r.folder}: {r.problem or r.status}" for r in runs)
        raise RunError("\n".join([f"nothing to report: none of {len(runs)} runs has an evaluation.", *lines]))
    return _compute(runs, problems, settings)


def _compute(runs: Sequence[RunResult], problems: Sequence[str], settings: Settings) -> Results:
    n = settings.repetitions
    found = statistics.matrices(runs, settings.score)
    scores = {method: matrix / settings.max_return for method, matrix in found.scores.items()}
    reference = settings.reference or next(iter(scores), None)
    lowest = min([0.0, *(float(s.min()) for s in scores.values())])
    highest = max([1.0, *(float(s.max()) for s in scores.values())])
    better = {}
    if reference in scores:
        others = {m: s for m, s in scores.items() if m != reference}
        better = {
            m: statistics.probability_of_improvement(s, scores[reference], repetitions=n) for m, s in others.items()
        }
    return Results(
        runs=tuple(runs),
        problems=tuple(problems),
        notes=tuple(naming.notes(runs)),
        settings=settings,
        matrices=found,
        by_task={
            (method, task): statistics.aggregates(
                np.array(values, np.float64)[:, None], names=TASK_METRICS, repetitions=n
            )
            for method, by_task in statistics.scores_by_method(runs, settings.score).items()
            for task, values in by_task.items()
        },
        aggregates={m: statistics.aggregates(s, repetitions=n) for m, s in scores.items()},
        better=better,
        reference=reference if better else None,
        profiles={m: statistics.profile(s, lowest, highest, repetitions=n) for m, s in scores.items()},
        curves=tuple(curves(runs, settings.x, repetitions=n)),
    )
