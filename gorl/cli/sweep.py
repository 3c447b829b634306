"""gorl sweep"""

import pathlib
import sys
import time
from typing import Annotated, Any

import typer

from gorl.cli import options
from gorl.cli.clock import clock
from gorl.runtime import quiet


def command(
    files: options.Files = None,
    bindings: options.Bindings = None,
    gin_files: options.GinFiles = None,
    plugins: options.Plugins = None,
    directory: Annotated[
        pathlib.Path | None, typer.Option("--dir", help="The study's folder (default: runs/NAME).")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run, and run nothing.")] = False,
    executor: Annotated[
        str | None, typer.Option("--executor", help="Where runs are executed: in_process, local_processes or ray.")
    ] = None,
    aim: Annotated[
        bool,
        typer.Option(
            "--aim/--no-aim", help="Track in Aim and whatever else is bound, or only in the runs' own records."
        ),
    ] = True,
    reuse: Annotated[
        bool, typer.Option("--reuse/--no-reuse", help="Compute phases that runs share once, or in every run.")
    ] = True,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write the report in the end.")] = True,
    debug: options.Debug = False,
) -> None:
    del debug
    from gorl.cli import forecast
    from gorl.studies.folder import StudyFolder
    from gorl.studies.plan import make_plan

    names = [*(files or []), *(gin_files or [])]
    chosen = _chosen(executor)
    plan = make_plan(names, [*chosen, *(bindings or [])], plugins or [])
    plan.sweep.executor.check()
    path = directory or pathlib.Path("runs") / plan.name
    for line in forecast.lines(plan, path, reuse):
        typer.echo(line)
    if dry_run:
        return
    quiet.quiet_warp()
    study = StudyFolder.begin(path, plan)
    sys.exit(_run(plan, study, aim, reuse, report))


def _chosen(executor: str | None) -> list[str]:
    from gorl.errors import ConfigError, did_you_mean
    from gorl.studies.executors import NAMES

    if executor is None:
        return []
    if executor not in NAMES:
        raise ConfigError(f"--executor {executor}: it is one of {', '.join(NAMES)}.{did_you_mean(executor, NAMES)}")
    return [f"Sweep.executor = @{NAMES[executor]}()"]


def _run(plan: Any, study: Any, aim: bool, reuse: bool, report: bool) -> int:
    from gorl.studies.jobs import JobSettings
    from gorl.studies.sweep import Driver

    display = _Display(study)
    try:
        result = Driver(
            plan, study, JobSettings(aim, reuse, plugins=plan.source.plugins), display.watch, typer.echo
        ).run()
    except KeyboardInterrupt:
        typer.echo(f"stopped: what has run is kept. The same command goes on: {study.path}")
        return 130
    counts = ", ".join(f"{n} {status}" for status, n in sorted(result.statuses.items()))
    typer.echo(f"{study.path}: {counts} in {clock(time.monotonic() - display.began)}; reused {display.reused} phases.")
    for name, reason in result.failures.items():
        typer.echo(f"gorl: {name} failed: {reason}", err=True)
    if report:
        _report(study.path)
    return 1 if result.failures else 0


def _report(path: pathlib.Path) -> None:
    from gorl.cli import report
    from gorl.errors import GorlError

    try:
        report.command([path])
    except GorlError as err:  # the runs are there; `gorl report` can be called again
        typer.echo(f"gorl: no report: {err}", err=True)


class _Display:
    """A line when a job ends, and now and then one about those that run."""

    def __init__(self, study: Any):
        from gorl.studies.executors.base import Watch

        self._study = study
        self._jobs = study.jobs()
        self._done = sum(study.status(job) in ("finished", "diverged", "stopped") for job in self._jobs)
        self.began = self._spoke = time.monotonic()
        self.reused = 0
        self._since: dict[str, float] = {}
        self.watch = Watch(self._begin, self._end, self._tick)
        if self._done:
            typer.echo(f"{self._done} of {len(self._jobs)} are done already.")

    def _begin(self, job: Any) -> None:
        self._since[job.folder] = time.monotonic()
        self._say(f"{job.name}: begins")

    def _end(self, job: Any, code: int, reason: str) -> None:
        from gorl.studies.sweep import outcome

        if code not in (0, 3):
            self._say(f"{job.name}: {'stopped by a signal' if code > 128 else f'FAILED: {reason}'}")
            return
        found = outcome(self._study, job)
        self._done += found["status"] != "paused"
        self.reused += found["reused"]["phases"]
        score = f", return {found['return_final_best']:.1f}" if "return_final_best" in found else ""
        reused = f", {found['reused']['phases']} phases reused" if found["reused"]["phases"] else ""
        seconds = clock(time.monotonic() - self._since.get(job.folder, self.began))
        self._say(
            f"{job.name}: {found['status']}{score}, {found.get('env_steps', 0):,.0f} env steps{reused}, {seconds}"
        )

    def _tick(self, jobs: Any) -> None:
        if jobs and time.monotonic() - self._spoke > 15.0:
            self._say("under way: " + "; ".join(f"{job.name} {_progress(self._study, job)}" for job in jobs))

    def _say(self, text: str) -> None:
        self._spoke = time.monotonic()
        typer.echo(f"[{clock(self._spoke - self.began)}] [{self._done}/{len(self._jobs)}] {text}")


def _progress(study: Any, job: Any) -> str:
    """From the last whole line of the record of a job's first seed."""
    import json

    from gorl.runs.folder import RunFolder

    try:
        path = RunFolder(study.path / job.folder).members[0].record_path
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - 20_000))
            last = json.loads([line for line in file.read().splitlines(keepends=True) if line.endswith(b"\n")][-1])
        return f"(stage {last['stage']}, {last['phase']}, {last['env_steps']:,} steps)"
    except (OSError, ValueError, IndexError, KeyError, AttributeError):
        return "(starting)"
