"""The report of a set of runs: its page, its tables and its files."""

import collections
import csv
import io
import math
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from gorl.analysis import figures, page, statistics
from gorl.analysis.csv_rows import csv_rows
from gorl.analysis.page import Heading, Listing, Picture, Table, Text
from gorl.analysis.results import Results
from gorl.analysis.runs_table import RunResult
from gorl.analysis.statistics import METRICS, Estimate, score
from gorl.errors import RunError
from gorl.runs.files import replacing
from gorl.runs.summary import SWAP_NUMBERS, mean_swaps

NONE = "—"
SUBSTITUTED = "†"
SCORE_MEANINGS = {
    "final_best": (
        "final_best: the mean return of the best policy of all stages with its decoder, which is the one with the "
        "highest evaluation during training, in its stage's Evaluate phase, on fresh evaluation episodes that were not "
        "used for model selection"
    ),
    "final_last": (
        "final_last: the mean return of the newest policy of the last stage, in the episodes of its Evaluate phase"
    ),
    "final_best_stochastic": "final_best_stochastic: that of the policy of final_best, with its actions sampled",
    "final_last_stochastic": "final_last_stochastic: that of the policy of final_last, with its actions sampled",
    "best_evaluation": (
        "best_evaluation: the highest evaluation during training. The same episodes select and score it, so it is "
        "biased upwards"
    ),
    "last_evaluation": "last_evaluation: the last evaluation during training",
}
SWAP_MEANING = (
    "Means over runs. A swap fits a new decoder at the beginning of a stage. Before: the best policy of the stage "
    "before, in its Evaluate phase. After: the new decoder with latents from its prior, by the prior's mode and "
    "sampled. KL: the divergence of the encoder that collected from the prior, a mean over states. The loss is that "
    "of the fit's last epoch, on held-out data where there are any."
)
AXIS_MEANINGS = {
    "env_steps": "environment steps, including collection and excluding evaluation",
    "wall_s": "seconds of training, including compilation and evaluation, over all resumes",
}
RULES = (
    "A finished run counts with its score. A run that diverged or was stopped counts too, because failures are part of "
    "a method's performance: with its score if an Evaluate phase came before its end, else with its last evaluation "
    "(marked †). In the curves it keeps its last value up to the end of its method's longest run. A run that has not "
    "ended (running, paused, interrupted, killed, failed) has no outcome yet: it is in the curves as far as it went, "
    "and in no score. Missing and unreadable runs are excluded from every table and plot, and listed."
)


def over_tasks(results: Results) -> list[page.Block]:
    """Returns the table of aggregates, and notes on what they exclude."""
    blocks: list[page.Block] = []
    if results.aggregates:
        blocks += [Heading(f"Over {_pluralize(len(results.matrices.tasks), 'task')}"), _aggregate_table(results)]
    return blocks + ([Listing(results.matrices.notes)] if results.matrices.notes else [])


def by_task(results: Results) -> list[page.Block]:
    """Returns the tables of the returns on each task, of unfinished runs and of runs that could not be read."""
    blocks: list[page.Block] = [Heading("By task"), _task_table(results)]
    blocks += [Listing(results.notes)] if results.notes else []
    if (policies := _policy_table(results)).rows:
        blocks += [Heading("Best policy of all stages, and newest policy"), policies]
    if (swapped := _swap_table(results)).rows:
        blocks += [Heading("Swaps"), swapped, Text(SWAP_MEANING)]
    if unfinished := [r for r in results.runs if r.status != "finished" or score(r, results.settings.score) is None]:
        blocks += [
            Heading("Runs that are not finished, or have no score"),
            _unfinished_table(unfinished, results.settings.score),
        ]
    blocks += [Heading("Not read"), Listing(results.problems)] if results.problems else []
    return blocks


def contents(results: Results, title: str, names: Iterable[str]) -> list[page.Block]:
    """Returns the whole page. `names`: the pictures that are drawn."""
    statuses = collections.Counter(r.status for r in results.runs)
    counts = ", ".join(f"{count} {status}" for status, count in statuses.most_common())
    captions = _captions(results)
    sources = collections.Counter(r.source for r in results.runs if r.source)
    return [
        Heading(title, 1),
        Text(f"{_pluralize(len(results.runs), 'run')}: {counts}. Score: {SCORE_MEANINGS[results.settings.score]}."),
        *over_tasks(results),
        *(Picture(name, captions[name]) for name in captions if name in names),
        *by_task(results),
        Heading("What the numbers mean"),
        Text(_explain_numbers(results)),
        Text(RULES),
        Heading("Made by"),
        Listing(tuple(f"{_pluralize(count, 'run')}: {source}" for source, count in sources.most_common())),
    ]


def write(results: Results, out: pathlib.Path, title: str) -> list[pathlib.Path]:
    """Writes report.md, report.html, CSV files (see `csv_rows`) and the pictures. Returns the paths.

    Raises RunError if they cannot be written, and ConfigError without matplotlib.
    """
    light, dark = (figures.draw(results, style) for style in (figures.LIGHT, figures.DARK))
    svgs = {
        name: (figures.render_figure(light[name], "svg"), figures.render_figure(dark[name], "svg")) for name in light
    }
    blocks = contents(results, title, light)
    files: dict[str, bytes] = {
        "report.md": page.markdown(blocks).encode(),
        "report.html": page.html_page(title, blocks, svgs).encode(),
    }
    for name, figure in light.items():
        files |= {f"{name}.png": figures.render_figure(figure, "png"), f"{name}.svg": svgs[name][0]}
    for name, rows in csv_rows(results).items():
        table = io.StringIO(newline="")
        csv.writer(table).writerows(rows)
        files[f"{name}.csv"] = table.getvalue().encode()
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            with replacing(out / name) as file:
                file.write(data)
    except OSError as err:
        raise RunError(f"cannot write the report to {out}: {err.strerror}. Name another folder with --out.") from err
    return [out / name for name in files]


def _task_table(results: Results) -> Table:
    header = ("method", "task", "runs used / declared", "env steps", "mean return [95 %]", "IQM [95 %]", "each run")
    rows = []
    for task in results.tasks:
        for method in results.methods:
            declared = [r for r in results.runs if (r.method, r.task) == (method, task)]
            used = [(r, *s) for r in declared if (s := score(r, results.settings.score)) is not None]
            if not declared:
                continue
            estimates = results.by_task.get((method, task), {})
            form = _return_format(results)
            mean, iqm = (
                _format_interval(estimates[name], form) if name in estimates else NONE for name in ("mean", "iqm")
            )
            values = ", ".join(
                f"{value:{form}}{'' if kind == results.settings.score else SUBSTITUTED}" for _, value, kind in used
            )
            counts, steps = f"{len(used)} / {len(declared)}", _format_steps([r for r, *_ in used])
            rows.append((method, task, counts, steps, mean, iqm, values or NONE))
    return Table(header, tuple(rows))


def _policy_table(results: Results) -> Table:
    """Returns the mean returns of the best policy of all stages and of the newest, by every rule that a run has."""
    titles = {
        "final_best": "best of all stages",
        "final_best_stochastic": "best, stochastic",
        "final_last": "newest",
        "final_last_stochastic": "newest, stochastic",
    }
    names = [name for name in titles if any(name in r.scores for r in results.runs)]
    rows = []
    for method, task, runs in _ended_runs(results):
        known = {name: [r.scores[name] for r in runs if name in r.scores] for name in names}
        if any(known.values()):
            stages = ", ".join(NONE if r.best_stage is None else str(r.best_stage) for r in runs)
            means = (
                f"{np.mean(v):{_return_format(results)}}{_of_runs(v, runs)}" if v else NONE for v in known.values()
            )
            rows.append((method, task, *means, stages))
    return Table(("method", "task", *(titles[name] for name in names), "best stage of each run"), tuple(rows))


def _swap_table(results: Results) -> Table:
    """Returns the mean numbers of each swap of every method and task."""
    rows = []
    for method, task, runs in _ended_runs(results):
        for stage, (count, numbers) in mean_swaps([r.swaps for r in runs]).items():
            formats = (_return_format(results) if name.startswith("return") else ".3g" for name in SWAP_NUMBERS)
            cells = (
                f"{numbers[name]:{form}}" if name in numbers else NONE
                for name, form in zip(SWAP_NUMBERS, formats, strict=True)
            )
            rows.append((method, task, str(stage), str(count), *cells))
    return Table(("method", "task", "stage", "runs", *SWAP_NUMBERS.values()), tuple(rows))


def _ended_runs(results: Results) -> Iterable[tuple[str, str, list[RunResult]]]:
    """Yields the runs of each method and task whose outcome is known."""
    for task in results.tasks:
        for method in results.methods:
            runs = [r for r in results.runs if (r.method, r.task) == (method, task) and r.status in statistics.ENDED]
            if runs:
                yield method, task, runs


def _of_runs(values: Sequence[float], runs: Sequence[RunResult]) -> str:
    return "" if len(values) == len(runs) else f" (of {_pluralize(len(values), 'run')})"


def _aggregate_table(results: Results) -> Table:
    titles = [f"{figures.TITLES[name]} [95 %]" for name in METRICS]
    header = ("method", "runs per task", *titles, *([f"P(above {results.reference}) [95 %]"] if results.better else []))
    rows = []
    for method, estimates in results.aggregates.items():
        cells = [_format_interval(estimates[name], ".3f") for name in METRICS]
        if results.better:
            better = results.better.get(method)
            cells.append("reference" if better is None else _format_interval(better, ".2f"))
        rows.append((method, str(len(results.matrices.scores[method])), *cells))
    return Table(header, tuple(rows))


def _unfinished_table(runs: Sequence[RunResult], which: str) -> Table:
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
    """Returns what an unfinished run contributes to the report."""
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


def _explain_numbers(results: Results) -> str:
    settings = results.settings
    return (
        f"Scores are returns divided by {settings.max_return:g}. IQM is the mean of the middle half of all runs of all "
        "tasks (of all runs, if there are fewer than four). Median is the median over tasks of the means over runs. "
        "The optimality gap is the average shortfall of scores from 1. P(above) is the probability that a run scores "
        "above a run of the reference, averaged over tasks; ties count half. Brackets are 95 % percentile intervals of "
        f"rliable's bootstrap, stratified by task, with {settings.repetitions:,} repetitions and NumPy seed "
        f"{statistics.BOOTSTRAP_SEED}; a single run has none. With few runs they are too narrow, because a bootstrap "
        "of three runs only sees three values."
    )


def _captions(results: Results) -> dict[str, str]:
    return {
        "curves": f"Evaluation return during training against {AXIS_MEANINGS[results.settings.x]}. Lines: mean over "
        "seeds; bands: 95 % bootstrap interval of that mean. A line extends as far as all of its ended runs and half "
        "of all its runs. It may jump where an unfinished run ends.",
        "aggregates": f"Scores over {', '.join(results.matrices.tasks)}, with 95 % stratified bootstrap intervals.",
        "profiles": "Performance profiles: the share of runs, over all tasks, with a normalized score above τ. Bands: "
        "95 % stratified bootstrap intervals.",
    }


def _format_interval(estimate: Estimate, form: str) -> str:
    if math.isnan(estimate.low):
        return f"{estimate.value:{form}}"
    return f"{estimate.value:{form}} [{estimate.low:{form}}, {estimate.high:{form}}]"


def _return_format(results: Results) -> str:
    """Returns the format of returns, with as many decimals as the highest return warrants."""
    return ".1f" if results.settings.max_return >= 100.0 else ".3f"


def _format_steps(runs: Sequence[RunResult]) -> str:
    steps = sorted({r.env_steps for r in runs})
    return NONE if not steps else f"{steps[0]:,}" if len(steps) == 1 else f"{steps[0]:,} to {steps[-1]:,}"


def _pluralize(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
