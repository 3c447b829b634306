"""gorl train"""

import pathlib
import shlex
import sys
import time
from typing import Annotated, Any

import typer

from gorl.cli import options
from gorl.errors import ConfigError
from gorl.runtime import quiet
from gorl.version import __version__

_STARTED = time.monotonic()
_REASONS = {
    "interrupted": " by a signal, the state is saved",
    "diverged": ", no sound update could be made any more, the state is saved",
}


def command(
    files: options.Files = None,
    bindings: options.Bindings = None,
    gin_files: options.GinFiles = None,
    plugins: options.Plugins = None,
    run_dir: Annotated[
        pathlib.Path | None, typer.Option("--run-dir", help="The run's folder (default: runs/NAME-TIME).")
    ] = None,
    resume: Annotated[pathlib.Path | None, typer.Option("--resume", metavar="RUN", help="Go on with this run.")] = None,
    aim: Annotated[
        bool,
        typer.Option(
            "--aim/--no-aim", help="Track in Aim and whatever else is bound, or only in the run's own record."
        ),
    ] = True,
    reuse: Annotated[
        bool,
        typer.Option(
            "--reuse/--no-reuse", help="Take phases that another run has computed, and leave this run's for others."
        ),
    ] = False,
    stages: Annotated[
        int | None, typer.Option("--stages", min=1, help="Pause after so many stages; --resume goes on.")
    ] = None,
    debug: options.Debug = False,
) -> None:
    from gorl.runtime import hosts
    from gorl.training import execution

    del debug
    hosts.initialize()
    names = [*(files or []), *(gin_files or [])]
    if resume is not None:
        if names or bindings or run_dir:
            raise ConfigError(
                "--resume goes on with what the run's own config.gin says: it takes no files, --set or --run-dir."
            )
        sys.exit(_resume(resume, plugins or [], aim, reuse, stages))
    configuration = execution.declared(names, bindings or [], plugins or [])
    if not hosts.is_primary():
        sys.exit(_follow(configuration, reuse, stages))
    imports = round(time.monotonic() - _STARTED, 3)
    folder = execution.begin_run(configuration, names, run_dir, imports_s=imports)
    sys.exit(_execute(configuration, folder, aim, reuse, stages, resumed=False))


def _resume(path: pathlib.Path, plugins: list[str], aim: bool, reuse: bool, stages: int | None) -> int:
    from gorl import runs
    from gorl.runtime import hosts
    from gorl.training.trained import reopened

    folder = runs.RunFolder.open(path)
    configuration = reopened(folder, plugins)
    if not hosts.is_primary():
        return _follow(configuration, reuse, stages)
    facts = folder.facts("name", "study", "seed", "versions", "device")
    if changed := runs.differences(facts, runs.facts()):
        typer.echo(
            "gorl: not the same as when the run began, so it goes on from the same state but not bit for bit: "
            + "; ".join(changed),
            err=True,
        )
    return _execute(configuration, folder, aim, reuse, stages, resumed=True)


def _execute(configuration: Any, folder: Any, aim: bool, reuse: bool, stages: int | None, *, resumed: bool) -> int:
    from rich.console import Console

    from gorl.cli.display import ConsoleDisplay, final_table
    from gorl.reuse.identity import reuse_of
    from gorl.runtime import compilation
    from gorl.training import execution

    compilation.use_persistent_cache()
    quiet.quiet_warp()
    _require_same(configuration, reuse, stages)
    experiment, console = configuration.experiment, Console(soft_wrap=True)
    reused = reuse_of(configuration) if reuse else None
    with execution.locked(folder), ConsoleDisplay(experiment, console) as display:
        _say_hello(console, experiment, folder, resumed)
        outcome = execution.execute(
            configuration, folder, progress=display.progress, observers=[display.entry],
            resumed=resumed, track=aim, reuse=reused, stages=stages,
        )  # fmt: skip
    table = final_table([m.record_path for m in folder.members])
    if outcome.code == 0 and table is not None:
        console.print(table)
    _say_goodbye(console, folder, outcome.status, aim and bool(experiment.trackers))
    return outcome.code


def _follow(configuration: Any, reuse: bool, stages: int | None) -> int:
    """What every process but the first of several does: it computes, and neither writes nor speaks."""
    from gorl.runtime import compilation, hosts
    from gorl.training import execution

    compilation.use_persistent_cache()
    quiet.quiet_warp()
    configuration.experiment.choose_devices()  # what is wrong with them, process 0 says too, and is gone then
    with hosts.explain_lost_process():
        _require_same(configuration, reuse, stages)
        return execution.follow(configuration.experiment, stages=stages).code


def _require_same(configuration: Any, reuse: bool, stages: int | None) -> None:
    from gorl.runtime import hosts

    if hosts.many():
        if reuse:
            raise ConfigError("--reuse shares phases between runs of one process; this one has several. Leave it out.")
        hosts.require_same("configuration", f"{__version__} {stages} {configuration.config}")


def _say_hello(console: Any, experiment: Any, folder: Any, resumed: bool) -> None:
    facts, where = folder.facts(), experiment.task.environment.describe()
    phases = sum(len(s.phases) for s in experiment.stages)
    seeds = (
        f"seed {experiment.seed}"
        if experiment.num_seeds == 1
        else f"seeds {experiment.seeds[0]} to {experiment.seeds[-1]}"
    )
    device = facts["device"]
    console.print(
        f"gorl {facts['gorl']} · {where['name']} ({where.get('impl', '')}) · {len(experiment.stages)} stages, {phases} phases,"
        f" {experiment.env_steps():,} env steps · {seeds} · {device['platform']} {device['kind']}{_times(experiment)}",
        highlight=False,
    )
    console.print(
        f"{'resuming' if resumed else 'run'}: {folder.path}   (each program's first step compiles; later starts find it cached)",
        highlight=False,
    )


def _times(experiment: Any) -> str:
    """How many devices, where there are several."""
    from gorl.runtime import hosts

    used = len(experiment.choose_devices())
    return f" x {used}{f' in {hosts.count()} processes' if hosts.many() else ''}" if used > 1 else ""


def _say_goodbye(console: Any, folder: Any, status: str, tracked: bool) -> None:
    path = shlex.join(
        [str(folder.path), *(word for plugin in folder.facts().get("plugins", []) for word in ("--plugin", plugin))]
    )
    lines = [f"{status}{_REASONS.get(status, '')}: {folder.path}"]
    if status == "finished":
        lines += (
            [f"evaluate:  gorl evaluate {path}", "browse:    gorl browse"]
            if tracked
            else [f"evaluate:  gorl evaluate {path}"]
        )
    else:
        lines += [f"resume:    gorl train --resume {path}"]
    for line in lines:
        console.print(line, markup=False, highlight=False)
