"""The command `gorl train`."""

import pathlib
import shlex
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from gorl.cli import options, terminal
from gorl.errors import ConfigError
from gorl.runtime import quiet
from gorl.version import __version__

if TYPE_CHECKING:
    from rich.console import Console

    from gorl.config import Configuration
    from gorl.experiment import Experiment
    from gorl.runs import RunFolder

_STARTED = time.monotonic()
_REASONS = {
    "interrupted": " by a signal, the state is saved",
    "unsound": ", without a result: its numbers are not finite, or most of its episodes broke",
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
    resume: Annotated[pathlib.Path | None, typer.Option("--resume", metavar="RUN", help="Resume this run.")] = None,
    aim: Annotated[
        bool,
        typer.Option(
            "--aim/--no-aim", help="Use the configured trackers, such as Aim, or write only the run's record."
        ),
    ] = True,
    reuse: Annotated[
        bool,
        typer.Option(
            "--reuse/--no-reuse", help="Load phases that other runs have computed, and store this run's for others."
        ),
    ] = False,
    stages: Annotated[
        int | None, typer.Option("--stages", min=1, help="Pause after this many stages; --resume continues.")
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
                "--resume uses the run's own config.gin, so it takes no files, --set or --run-dir. Leave them out."
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
    from gorl.training.changes import name_changes, require_unchanged
    from gorl.training.trained import reopened

    folder = runs.RunFolder.open(path)
    configuration = reopened(folder, plugins)
    if not hosts.is_primary():
        return _follow(configuration, reuse, stages)
    folder.facts("name", "study", "seed", "versions", "device")
    require_unchanged(folder, configuration)
    name_changes(folder, configuration, lambda message: terminal.echo(f"gorl: {message}", err=True))
    return _execute(configuration, folder, aim, reuse, stages, resumed=True)


def _execute(
    configuration: "Configuration", folder: "RunFolder", aim: bool, reuse: bool, stages: int | None, *, resumed: bool
) -> int:
    from gorl.cli.display import ConsoleDisplay
    from gorl.cli.tables import result_tables
    from gorl.reuse.identity import reuse_of
    from gorl.runs.summary import read_results
    from gorl.runtime import compilation
    from gorl.training import execution

    compilation.use_persistent_cache()
    quiet.quiet_warp()
    _require_same(configuration, reuse, stages)
    experiment, console = configuration.experiment, terminal.console(soft_wrap=True)
    reused = reuse_of(configuration) if reuse else None
    with execution.locked(folder), ConsoleDisplay(experiment, console) as display:
        _print_start(console, experiment, folder, resumed)
        outcome = execution.execute(
            configuration,
            folder,
            progress=display.progress,
            observers=[display.entry],
            resumed=resumed,
            track=aim,
            reuse=reused,
            stages=stages,
        )
    if outcome.code in (0, execution.EXIT_CODES["unsound"]):
        for table in result_tables([read_results(m.record_path)[1] for m in folder.members]):
            console.print(table)
    _print_end(console, folder, outcome.status, aim and bool(experiment.trackers))
    return outcome.code


def _follow(configuration: "Configuration", reuse: bool, stages: int | None) -> int:
    """Runs a process other than process 0: it computes, and neither writes nor prints."""
    from gorl.runtime import compilation, hosts
    from gorl.training import execution

    compilation.use_persistent_cache()
    quiet.quiet_warp()
    configuration.experiment.choose_devices()  # raises before process 0, which reports the same error, is gone
    with hosts.explain_lost_process():
        _require_same(configuration, reuse, stages)
        return execution.follow(configuration.experiment, stages=stages).code


def _require_same(configuration: "Configuration", reuse: bool, stages: int | None) -> None:
    """Raises an error unless all processes run the same configuration, and without reuse if there are several."""
    from gorl.runtime import hosts

    if hosts.is_distributed():
        if reuse:
            raise ConfigError("--reuse shares phases between runs of one process; this one has several. Leave it out.")
        hosts.require_same("configuration", f"{__version__} {stages} {configuration.config}")


def _print_start(console: "Console", experiment: "Experiment", folder: "RunFolder", resumed: bool) -> None:
    facts, where = folder.facts(), experiment.task.describe()
    phases = sum(len(s.phases) for s in experiment.stages)
    most = "at most " if experiment.may_take_fewer else ""
    seeds = (
        f"seed {experiment.seed}"
        if experiment.num_seeds == 1
        else f"seeds {experiment.seeds[0]} to {experiment.seeds[-1]}"
    )
    device = facts["device"]
    console.print(
        f"gorl {facts['gorl']} · {where['name']} ({where.get('impl', '')})"
        f" · {most}{len(experiment.stages)} stages, {phases} phases, {experiment.env_steps():,} env steps"
        f" · {seeds} · {device['platform']} {device['kind']}{_device_count(experiment)}"
    )
    console.print(
        f"{'resuming' if resumed else 'run'}: {folder.path}"
        "   (each program's first step compiles; later starts find it cached)"
    )


def _device_count(experiment: "Experiment") -> str:
    """Returns ' x 4 in 2 processes' for several devices, else ''."""
    from gorl.runtime import hosts

    used = len(experiment.choose_devices())
    return f" x {used}{f' in {hosts.process_count()} processes' if hosts.is_distributed() else ''}" if used > 1 else ""


def _print_end(console: "Console", folder: "RunFolder", status: str, tracked: bool) -> None:
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
    elif status == "unsound":
        lines += [f"look into: gorl inspect {shlex.quote(str(folder.path))}"]
    else:
        lines += [f"resume:    gorl train --resume {path}"]
    for line in lines:
        console.print(line)
