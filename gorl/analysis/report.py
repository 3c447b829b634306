"""The report of runs: its page, its tables and its files."""

import collections
import csv
import math
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from gorl.analysis import figures, page, statistics
from gorl.analysis.page import Heading, Listing, Picture, Table, Text
from gorl.analysis.results import Results
from gorl.analysis.runs_table import RunResult
from gorl.analysis.statistics import METRICS, PROBABILITY, Estimate, score
from gorl.errors import RunError

NONE = "—"
SUBSTITUTED = "†"
SCORE_MEANINGS = {
    "final_best": "final_best: the mean return of the best policy of the latest stage, in the episodes of its Evaluate phase, which chose nothing",
    "final_last": "final_last: the mean return of the last policy of the latest stage, in the episodes of its Evaluate phase",
    "best_evaluation": "best_evaluation: the highest evaluation during training. The same episodes choose it and score it, so it is too high",
    "last_evaluation": "last_evaluation: the last evaluation during training",
}
AXIS_MEANINGS = {
    "env_steps": "environment steps, those of collection counted and those of evaluation not",
    "wall_s": "seconds of training, compilation and evaluation included, over all resumes",
}
RULES = (
    "A finished run counts with its score. A run that diverged or was stopped counts too, since to leave it out would leave out the method's "
    "failures: with its score if an Evaluate phase came before its end, else with its last evaluation (marked †). In the curves it keeps its last "
    "value as far as the longest run of its method goes. A run that is not over (running, paused, interrupted, killed, failed) has no outcome yet: it is in "
    "the curves as far as it went, and in no score. Missing and unreadable runs are in nothing. All of them are listed."
)


def over_tasks(results: Results) -> list[page.Block]:
    """The aggregates, and what is not in them."""
    blocks: list[page.Block] = []
    if results.aggregates:
        blocks += [Heading(f"Over {_count(len(results.matrices.tasks), 'task')}"), _over_tasks(results)]
    return blocks + ([Listing(results.matrices.notes)] if results.matrices.notes else [])


def by_task(results: Results) -> list[page.Block]:
    """The returns on each task, and which runs are not finished or not read."""
    blocks: list[page.Block] = [Heading("By task"), _by_task(results)]
    if unfinished := [r for r in results.runs if r.status != "finished" or score(r, results.settings.score) is None]:
        blocks += [
            Heading("Runs that are not finished, or have no score"),
            _unfinished(unfinished, results.settings.score),
        ]
    blocks += [Heading("Not read"), Listing(results.problems)] if results.problems else []
    return blocks


def contents(results: Results, title: str, names: Iterable[str]) -> list[page.Block]:
    """The whole page. `names`: of the pictures that are drawn."""
    statuses = collections.Counter(r.status for r in results.runs)
    counts = ", ".join(f"{count} {status}" for status, count in statuses.most_common())
    captions = _captions(results)
    sources = collections.Counter(r.source for r in results.runs if r.source)
    return [
        Heading(title, 1),
        Text(f"{_count(len(results.runs), 'run')}: {counts}. Score: {SCORE_MEANINGS[results.settings.score]}."),
        *over_tasks(results),
        *(Picture(name, captions[name]) for name in captions if name in names),
        *by_task(results),
        Heading("What the numbers mean"),
        Text(_meaning(results)),
        Text(RULES),
        Heading("Made by"),
        Listing(tuple(f"{_count(count, 'run')}: {source}" for source, count in sources.most_common())),
    ]


def write(results: Results, out: pathlib.Path, title: str) -> list[pathlib.Path]:
    """Writes report.md, report.html, scores.csv, aggregates.csv, curves.csv and the pictures; returns their paths. Raises RunError."""
    light, dark = ({n: f for n, f in figures.draw(results, style).items()} for style in (figures.LIGHT, figures.DARK))
    svgs = {name: (figures.render(light[name], "svg"), figures.render(dark[name], "svg")) for name in light}
    blocks = contents(results, title, light)
    files: dict[str, bytes] = {
        "report.md": page.markdown(blocks).encode(),
        "report.html": page.html_page(title, blocks, svgs).encode(),
    }
    for name, figure in light.items():
        files |= {f"{name}.png": figures.render(figure, "png"), f"{name}.svg": svgs[name][0]}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (out / name).write_bytes(data)
        for name, rows in (
            ("scores", _score_rows(results)),
            ("aggregates", _aggregate_rows(results)),
            ("curves", _curve_rows(results)),
        ):
            with open(out / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(rows)
    except OSError as err:
        raise RunError(f"cannot write the report to {out}: {err.strerror}. Name another folder with --out.") from err
    return [out / name for name in (*files, "scores.csv", "aggregates.csv", "curves.csv")]


def _by_task(results: Results) -> Table:
    header = ("method", "task", "runs used / declared", "env steps", "mean return [95 %]", "IQM [95 %]", "each run")
    rows = []
    for task in results.tasks:
        for method in results.methods:
            declared = [r for r in results.runs if (r.method, r.task) == (method, task)]
            used = [(r, *s) for r in declared if (s := score(r, results.settings.score)) is not None]
            if not declared:
                continue
            estimates = results.by_task.get((method, task), {})
            mean, iqm = (
                _interval(estimates[name], _returns(results)) if name in estimates else NONE for name in ("mean", "iqm")
            )
            each = ", ".join(
                f"{value:{_returns(results)}}{'' if kind == results.settings.score else SUBSTITUTED}"
                for _, value, kind in used
            )
            rows.append(
                (method, task, f"{len(used)} / {len(declared)}", _steps([r for r, *_ in used]), mean, iqm, each or NONE)
            )
    return Table(header, tuple(rows))


def _over_tasks(results: Results) -> Table:
    better = f"P(above {results.reference}) [95 %]"
    header = (
        "method",
        "runs a task",
        *(f"{figures.TITLES[name]} [95 %]" for name in METRICS),
        *([better] if results.better else []),
    )
    rows = []
    for method, estimates in results.aggregates.items():
        last = (
            [_interval(results.better[method], ".2f") if method in results.better else "reference"]
            if results.better
            else []
        )
        rows.append(
            (
                method,
                str(len(results.matrices.scores[method])),
                *(_interval(estimates[name], ".3f") for name in METRICS),
                *last,
            )
        )
    return Table(header, tuple(rows))


def _unfinished(runs: Sequence[RunResult], which: str) -> Table:
    rows = [
        (
            str(r.folder),
            r.method,
            r.task,
            NONE if r.seed is None else str(r.seed),
            r.status,
            f"{r.env_steps:,}",
            _role(r, which),
        )
        for r in runs
    ]
    return Table(("run", "method", "task", "seed", "status", "came to env step", "in this report"), tuple(rows))


def _role(run: RunResult, which: str) -> str:
    """What a run that is not simply finished contributes."""
    scored = score(run, which)
    if run.status == "unreadable":
        return f"nothing: {run.problem}"
    if scored is not None:
        kind = f"its latest {which}" if scored[1] == which else f"its last evaluation {SUBSTITUTED}"
        return f"counted with {kind}"
    if run.status == "missing":
        return "nothing: not started"
    if run.status in statistics.ENDED:
        return f"curve only: its record has no {which}" if run.evaluations else "nothing: it has no evaluation"
    return "curve only, as far as it went" if run.evaluations else "nothing: no evaluation yet"


def _meaning(results: Results) -> str:
    settings = results.settings
    return (
        f"Scores are returns divided by {settings.max_return:g}. IQM is the mean of the middle half of all runs of all tasks "
        "(with fewer than four runs, of all); median is that over tasks of the means over runs; the optimality gap is by how much scores fall "
        "short of 1 on average. P(above) is the probability that a run scores above one of the reference, ties half, averaged over tasks. "
        f"Brackets are 95 % percentile intervals of rliable's bootstrap, stratified by task, {settings.repetitions:,} repetitions, numpy seed "
        f"{statistics.BOOTSTRAP_SEED}; one run has none. With few runs they are too narrow: a bootstrap of three runs knows three values."
    )


def _captions(results: Results) -> dict[str, str]:
    return {
        "curves": f"Evaluation return during training against {AXIS_MEANINGS[results.settings.x]}. Lines: mean over seeds; bands: 95 % bootstrap interval "
        "of that mean. A line goes as far as all of its runs that ended, and half of all; where an unfinished run drops out, it may jump.",
        "aggregates": f"Scores over {', '.join(results.matrices.tasks)}, with 95 % stratified bootstrap intervals.",
        "profiles": "Performance profiles: the share of runs, over all tasks, with a normalised score above τ. Bands: 95 % stratified bootstrap intervals.",
    }


def _score_rows(results: Results) -> Iterable[Sequence[Any]]:
    axes = list(dict.fromkeys(name for r in results.runs for name in r.axes))
    names = list(SCORE_MEANINGS)
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
        *names,
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
        yield [*known, r.env_steps, r.wall_s, *(r.scores.get(n, "") for n in names), value, kind, r.problem]


def _aggregate_rows(results: Results) -> Iterable[Sequence[Any]]:
    """One row a number. Units: 'return', 'score' (return / max return) or 'probability'."""
    yield ["method", "task", "metric", "unit", "value", "low", "high", "runs_per_task", "reference"]
    found = statistics.returns(results.runs, results.settings.score)
    for (method, task), estimates in results.by_task.items():
        for name, estimate in estimates.items():
            yield [method, task, name, "return", *_numbers(estimate), len(found[method][task]), ""]
    everything = " + ".join(results.matrices.tasks)
    for method, estimates in results.aggregates.items():
        count = len(results.matrices.scores[method])
        for name in METRICS:
            yield [method, everything, name, "score", *_numbers(estimates[name]), count, ""]
        if method in results.better:
            yield [
                method,
                everything,
                PROBABILITY,
                "probability",
                *_numbers(results.better[method]),
                count,
                results.reference,
            ]


def _curve_rows(results: Results) -> Iterable[Sequence[Any]]:
    yield ["method", "task", results.settings.x, "mean_return", "low", "high", "runs"]
    for c in results.curves:
        for x, mean, low, high, runs in zip(
            c.x.tolist(), c.mean.tolist(), c.low.tolist(), c.high.tolist(), c.runs.tolist(), strict=True
        ):
            yield [c.method, c.task, x, mean, _number(low), _number(high), runs]


def _numbers(estimate: Estimate) -> list[Any]:
    return [estimate.value, _number(estimate.low), _number(estimate.high)]


def _number(value: float) -> Any:
    return "" if math.isnan(value) else value


def _interval(estimate: Estimate, form: str) -> str:
    if math.isnan(estimate.low):
        return f"{estimate.value:{form}}"
    return f"{estimate.value:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"


def _returns(results: Results) -> str:
    """Decimals of returns that mean something next to the highest one."""
    return ".1f" if results.settings.max_return >= 100.0 else ".3f"


def _steps(runs: Sequence[RunResult]) -> str:
    steps = sorted({r.env_steps for r in runs})
    return NONE if not steps else f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
