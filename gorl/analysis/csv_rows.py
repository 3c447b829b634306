"""The CSV files of a report."""

import math
from collections.abc import Iterable, Sequence

from gorl.analysis import statistics
from gorl.analysis.results import Results
from gorl.analysis.runs_table import SCORES
from gorl.analysis.statistics import METRICS, PROBABILITY, Estimate, score
from gorl.runs.summary import SWAP_NUMBERS


def csv_rows(results: Results) -> dict[str, Iterable[Sequence[object]]]:
    """Returns the rows of each file by its name; that of the swaps only where a run has one."""
    files = {"scores": _score_rows(results), "aggregates": _aggregate_rows(results), "curves": _curve_rows(results)}
    return files | ({"swaps": _swap_rows(results)} if any(r.swaps for r in results.runs) else {})


def _score_rows(results: Results) -> Iterable[Sequence[object]]:
    axes = list(dict.fromkeys(name for r in results.runs for name in r.axes))
    yield [
        "folder",
        "method",
        "study",
        "variant",
        *axes,
        "task",
        "seed",
        "status",
        "env_steps",
        "wall_s",
        *SCORES,
        "best_stage",
        "score",
        "score_is",
        "problem",
    ]
    for r in results.runs:
        value, kind = score(r, results.settings.score) or ("", "")
        known = [
            r.folder,
            r.method,
            r.study,
            r.variant or "",
            *(r.axes.get(a, "") for a in axes),
            r.task,
            "" if r.seed is None else r.seed,
            r.status,
        ]
        end = ["" if r.best_stage is None else r.best_stage, value, kind, r.problem]
        yield [*known, r.env_steps, r.wall_s, *(r.scores.get(n, "") for n in SCORES), *end]


def _aggregate_rows(results: Results) -> Iterable[Sequence[object]]:
    """Yields one row per number. Units: 'return', 'score' (return / max return) or 'probability'."""
    yield ["method", "task", "metric", "unit", "value", "low", "high", "runs_per_task", "reference"]
    found = statistics.scores_by_method(results.runs, results.settings.score)
    for (method, task), estimates in results.by_task.items():
        for name, estimate in estimates.items():
            yield [method, task, name, "return", *_estimate_cells(estimate), len(found[method][task]), ""]
    everything = " + ".join(results.matrices.tasks)
    for method, estimates in results.aggregates.items():
        count = len(results.matrices.scores[method])
        for name in METRICS:
            yield [method, everything, name, "score", *_estimate_cells(estimates[name]), count, ""]
        if method in results.better:
            yield [
                method,
                everything,
                PROBABILITY,
                "probability",
                *_estimate_cells(results.better[method]),
                count,
                results.reference,
            ]


def _curve_rows(results: Results) -> Iterable[Sequence[object]]:
    yield ["method", "task", results.settings.x, "mean_return", "low", "high", "runs"]
    for c in results.curves:
        for x, mean, low, high, runs in zip(
            c.x.tolist(), c.mean.tolist(), c.low.tolist(), c.high.tolist(), c.runs.tolist(), strict=True
        ):
            yield [c.method, c.task, x, mean, _csv_cell(low), _csv_cell(high), runs]


def _swap_rows(results: Results) -> Iterable[Sequence[object]]:
    yield ["folder", "method", "task", "seed", "status", "stage", *SWAP_NUMBERS]
    for r in results.runs:
        for stage, numbers in r.swaps.items():
            known = [r.folder, r.method, r.task, "" if r.seed is None else r.seed, r.status, stage]
            yield [*known, *(numbers.get(name, "") for name in SWAP_NUMBERS)]


def _estimate_cells(estimate: Estimate) -> list[float | str]:
    return [estimate.value, _csv_cell(estimate.low), _csv_cell(estimate.high)]


def _csv_cell(value: float) -> float | str:
    return "" if math.isnan(value) else value
