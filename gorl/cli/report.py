"""The command `gorl report`."""

import pathlib
from typing import Annotated

import typer

from gorl.cli import options, terminal


def command(
    paths: Annotated[
        list[pathlib.Path], typer.Argument(metavar="PATH ...", help="Studies, runs, or groups of seeds, in any mix.")
    ],
    out: Annotated[
        pathlib.Path | None,
        typer.Option("--out", help="Where to write (default: STUDY/report for one study, else ./report)."),
    ] = None,
    score: Annotated[
        str,
        typer.Option(
            "--score",
            help="The score: final_best, final_last (each also with _stochastic), best_evaluation or last_evaluation.",
        ),
    ] = "final_best",
    x: Annotated[str, typer.Option("--x", help="The horizontal axis of curves: env_steps or wall_s.")] = "env_steps",
    max_return: Annotated[
        float, typer.Option("--max-return", help="The return that corresponds to a score of 1 (1000 in DM Control).")
    ] = 1000.0,
    reference: Annotated[
        str | None,
        typer.Option(
            "--reference", metavar="METHOD", help="The method to compare the others with (default: the first)."
        ),
    ] = None,
    repetitions: Annotated[int, typer.Option("--repetitions", min=100, help="Number of bootstrap repetitions.")] = 2000,
    debug: options.Debug = False,
) -> None:
    del debug
    from gorl.analysis import naming, page, report, results
    from gorl.runs.files import require_plain

    settings = results.Settings(score, x, max_return, reference, repetitions)
    settings.check()
    runs, problems = naming.load_results(paths)
    terminal.echo(f"runs: {len(runs)}; bootstrap repetitions: {repetitions:,} ...", err=True)
    computed = results.compute(runs, problems, settings)
    study = len(paths) == 1 and (paths[0] / "study.json").is_file()
    target = out or (paths[0] / "report" if study else pathlib.Path("report"))
    if out is None and study:
        require_plain(target)
    title = runs[0].study if len({r.study for r in runs}) == 1 else "Report"
    files = report.write(computed, target, title)
    terminal.echo(page.markdown([*report.by_task(computed), *report.over_tasks(computed)]))
    terminal.echo(f"written to {target}: {', '.join(f.name for f in files)}")
