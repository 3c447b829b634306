"""The command `gorl sweep`."""

import pathlib
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from gorl.cli import options, terminal
from gorl.cli.clock import clock
from gorl.runtime import quiet

if TYPE_CHECKING:
    from gorl.studies.folder import Job, StudyFolder
    from gorl.studies.plan import Plan


def command(
    files: options.Files = None,
    bindings: options.Bindings = None,
    gin_files: options.GinFiles = None,
    plugins: options.Plugins = None,
    directory: Annotated[
        pathlib.Path | None, typer.Option("--dir", help="The study's folder (default: runs/NAME).")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would run, without running it.")] = False,
    executor: Annotated[
        str | None, typer.Option("--executor", help="The executor of the runs: in_process, local_processes or ray.")
    ] = None,
    aim: Annotated[
        bool,
        typer.Option("--aim/--no-aim", help="Use the configured trackers, such as Aim, or write only runs' records."),
    ] = True,
    reuse: Annotated[
        bool, typer.Option("--reuse/--no-reuse", help="Compute shared phases once, or again in every run.")
    ] = True,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write the report at the end.")] = True,
    debug: options.Debug = False,
) -> None:
    del debug
    from gorl.cli import forecast
    from gorl.studies.folder import StudyFolder
    from gorl.studies.plan import make_plan

    names = [*(files or []), *(gin_files or [])]
    plan = make_plan(names, [*_executor_bindings(executor), *(bindings or [])], plugins or [])
    plan.sweep.executor.check()
    path = directory or pathlib.Path("runs") / plan.name
    for line in forecast.lines(plan, path, reuse):
        terminal.echo(line)
    if dry_run:
        return
    quiet.quiet_warp()
    study = StudyFolder.begin(path, plan, lambda message: terminal.echo(f"gorl: {message}", err=True))
    sys.exit(_run(plan, study, aim, reuse, report))


def _executor_bindings(executor: str | None) -> list[str]:
    from gorl.errors import ConfigError, did_you_mean
    from gorl.studies.executors import NAMES

    if executor is None:
        return []
    if executor not in NAMES:
        raise ConfigError(f"--executor {executor}: it is one of {', '.join(NAMES)}.{did_you_mean(executor, NAMES)}")
    return [f"Sweep.executor = @{NAMES[executor]}()"]


def _run(plan: "Plan", study: "StudyFolder", aim: bool, reuse: bool, report: bool) -> int:
    """Runs the study, and returns the command's exit code."""
    from gorl.studies.jobs import JobSettings
    from gorl.studies.sweep import Driver

    display = _Display(study)
    settings = JobSettings(aim, reuse, plugins=plan.source.plugins)
    try:
        result = Driver(plan, study, settings, display.watch, terminal.echo).run()
    except KeyboardInterrupt:
        terminal.echo(f"stopped: finished work is kept. The same command resumes the study: {study.path}")
        return 130
    counts = ", ".join(f"{n} {status}" for status, n in sorted(result.statuses.items()))
    terminal.echo(
        f"{study.path}: {counts} in {clock(time.monotonic() - display.began)}; reused {display.reused} phases."
    )
    for name, reason in result.failures.items():
        terminal.echo(f"gorl: {name} failed: {reason}", err=True)
    if report:
        _report(study.path)
    return 1 if result.failures else 0


def _report(path: pathlib.Path) -> None:
    from gorl.cli import report
    from gorl.errors import GorlError

    try:
        report.command([path])
    except GorlError as err:  # the runs are there; `gorl report` can be called again
        terminal.echo(f"gorl: no report: {err}", err=True)


class _Display:
    """Prints a line when a job begins or ends, and regularly one about the running jobs."""

    def __init__(self, study: "StudyFolder"):
        from gorl.studies.executors.base import Watch
        from gorl.studies.folder import ENDED

        self._study = study
        self._jobs = study.jobs()
        self._done = sum(study.status(job) in ENDED for job in self._jobs)
        self.began = self._spoke = time.monotonic()
        self.reused = 0
        self._since: dict[str, float] = {}
        self.watch = Watch(self._begin, self._end, self._tick)
        if self._done:
            terminal.echo(f"{self._done} of {len(self._jobs)} are done already.")

    def _begin(self, job: "Job") -> None:
        self._since[job.folder] = time.monotonic()
        self._say(f"{job.name}: begins")

    def _end(self, job: "Job", code: int, reason: str) -> None:
        from gorl.studies.sweep import job_outcome
        from gorl.training.execution import EXIT_CODES

        if code not in EXIT_CODES.values():
            self._say(f"{job.name}: {'stopped by a signal' if code > 128 else f'FAILED: {reason}'}")
            return
        outcome = job_outcome(self._study, job)
        self._done += outcome["status"] != "paused"
        self.reused += outcome["reused"]["phases"]
        score = f", return {outcome['return_final_best']:.1f}" if "return_final_best" in outcome else ""
        reused = f", {outcome['reused']['phases']} phases reused" if outcome["reused"]["phases"] else ""
        seconds = clock(time.monotonic() - self._since.get(job.folder, self.began))
        self._say(
            f"{job.name}: {outcome['status']}{score}, {outcome.get('env_steps', 0):,.0f} env steps{reused}, {seconds}"
        )

    def _tick(self, jobs: "Sequence[Job]") -> None:
        if jobs and time.monotonic() - self._spoke > 15.0:
            self._say("under way: " + "; ".join(f"{job.name} {_progress(self._study, job)}" for job in jobs))

    def _say(self, text: str) -> None:
        self._spoke = time.monotonic()
        terminal.echo(f"[{clock(self._spoke - self.began)}] [{self._done}/{len(self._jobs)}] {text}")


def _progress(study: "StudyFolder", job: "Job") -> str:
    """Returns the position of a job's first seed, from the last complete line of its record."""
    import json

    from gorl.errors import RunError
    from gorl.runs.files import open_plain
    from gorl.runs.folder import RunFolder

    try:
        path = RunFolder(study.path / job.folder).members[0].record_path
        with open_plain(path) as file:
            file.seek(max(0, path.stat().st_size - 20_000))
            last = json.loads([line for line in file.read().splitlines(keepends=True) if line.endswith(b"\n")][-1])
        return f"(stage {last['stage']}, {last['phase']}, {last['env_steps']:,} steps)"
    except (RunError, OSError, ValueError, IndexError, KeyError, AttributeError):
        return "(starting)"
