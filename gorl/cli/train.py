"""gorl train"""

import math
import os
import pathlib
import shlex
import signal
import sys
import time
from typing import Annotated, Any

import typer

from gorl.cli import options, quiet
from gorl.errors import ConfigError

_STARTED = time.monotonic()


def command(
    files: options.Files = None,
    bindings: options.Bindings = None,
    gin_files: options.GinFiles = None,
    plugins: options.Plugins = None,
    run_dir: Annotated[pathlib.Path | None, typer.Option("--run-dir", help="The run's folder (default: runs/NAME-TIME).")] = None,
    resume: Annotated[pathlib.Path | None, typer.Option("--resume", metavar="RUN", help="Go on with this run.")] = None,
    aim: Annotated[bool, typer.Option("--aim/--no-aim", help="Track in Aim, or only in the run's own record.")] = True,
    debug: options.Debug = False,
) -> None:
    del debug
    names = [*(files or []), *(gin_files or [])]
    if resume is not None:
        if names or bindings or run_dir:
            raise ConfigError("--resume goes on with what the run's own config.gin says: it takes no files, --set or --run-dir.")
        sys.exit(_resume(resume, aim))
    sys.exit(_start(names, bindings or [], plugins or [], run_dir, aim))


def _start(names: list[str], bindings: list[str], plugins: list[str], run_dir: pathlib.Path | None, aim: bool) -> int:
    from gorl import config, runs

    configuration = config.build(names, bindings, plugins)
    stem = pathlib.Path(names[0]).stem
    _ = configuration.experiment.task.environment.action_size  # imports the simulator and builds its model, before a folder is made
    imports = round(time.monotonic() - _STARTED, 3)
    folder = runs.begin(configuration, run_dir or runs.new_path(pathlib.Path("runs"), stem), study=stem, imports_s=imports)
    return _execute(configuration, folder, aim, resumed=False)


def _resume(path: pathlib.Path, aim: bool) -> int:
    from gorl import config, runs

    folder = runs.RunFolder.open(path)
    facts = folder.facts()
    configuration = config.build([str(folder.config_path)], plugins=facts["plugins"])
    _warn_of_differences(facts, runs.facts())
    return _execute(configuration, folder, aim, resumed=True)


def _warn_of_differences(then: dict[str, Any], now: dict[str, Any]) -> None:
    changed = [f"{k} {then['versions'].get(k)} -> {v}" for k, v in now["versions"].items() if then["versions"].get(k) != v]
    changed += [f"{k} {then[k]} -> {now[k]}" for k in ("gorl", "device", "xla_flags") if then[k] != now[k]]
    if changed:
        typer.echo("gorl: not the same as when the run began, so it goes on from the same state but not bit for bit: " + "; ".join(changed), err=True)


def _execute(configuration: Any, folder: Any, aim: bool, *, resumed: bool) -> int:
    from rich.console import Console

    from gorl import compilation
    from gorl.analysis.summary import final_table
    from gorl.tracking.console import ConsoleDisplay
    from gorl.trainer import Diverged, Interrupted, Member, Trainer

    start_up = compilation.StartUp()
    compilation.use_persistent_cache()
    quiet.quiet_warp()
    experiment, console = configuration.experiment, Console(soft_wrap=True)
    folders = {f.path: f for f in (folder, *folder.members)}.values()  # the folder itself, and those of its seeds
    for each in folders:
        each.lock()
    _say_hello(console, experiment, folder, resumed)
    tracked = [_track(configuration, member, aim, resumed) for member in folder.members]
    members = [Member(seed, f, [t.log for t in ts]) for seed, f, ts in zip(experiment.seeds, folder.members, tracked)]
    status, code = "failed", 1
    for each in folders:
        each.set_status("running", pid=os.getpid())
    try:
        with ConsoleDisplay(experiment, console) as display:
            Trainer(experiment, members, display.progress, [start_up, display.entry]).run()
        status, code = "finished", 0
    except Interrupted as stop:
        status, code = "interrupted", 128 + stop.signal
        console.print(f"{signal.Signals(stop.signal).name}: the state is saved.", highlight=False)
    except Diverged:
        status, code = "diverged", 3
        console.print("no sound update could be made any more: the state is saved.", highlight=False)
    finally:
        more = {"start_up": start_up.result, "compilation": compilation.totals()}
        _close(members, tracked, status, more)
        if len(members) > 1:
            folder.set_status(status, **more)
    table = final_table([m.folder.record_path for m in members])
    if code == 0 and table is not None:
        console.print(table)
    _say_goodbye(console, folder, status, aim and bool(experiment.trackers))
    return code


def _track(configuration: Any, folder: Any, aim: bool, resumed: bool) -> list[Any]:
    """One seed's run at every tracker."""
    from gorl.tracking.base import RunInfo

    facts = folder.facts()
    own = configuration.alone(facts["seed"])
    path, study = str(folder.path.absolute()), facts["study"]
    info = RunInfo(path, facts["name"], study, facts["seed"], own.parameters(), own.operative, facts, resumed)
    return [tracker.start(info) for tracker in (configuration.experiment.trackers if aim else ())]


def _close(members: list[Any], tracked: list[list[Any]], status: str, more: dict[str, Any]) -> None:
    """Every seed's outcome, in its folder and at its trackers."""
    from gorl.analysis.summary import summary

    for member, trackers in zip(members, tracked):
        own = "diverged" if member.frozen else status
        result = summary(member.folder.record_path)
        member.folder.set_status(own, **result, **more)
        for tracker in trackers:
            tracker.close(own, {k: v for k, v in result.items() if math.isfinite(v)})


def _say_hello(console: Any, experiment: Any, folder: Any, resumed: bool) -> None:
    facts, where = folder.facts(), experiment.task.environment.describe()
    phases = sum(len(s.phases) for s in experiment.stages)
    seeds = f"seed {experiment.seed}" if experiment.num_seeds == 1 else f"seeds {experiment.seeds[0]} to {experiment.seeds[-1]}"
    device = facts["device"]
    console.print(
        f"gorl {facts['gorl']} · {where['name']} ({where.get('impl', '')}) · {len(experiment.stages)} stages, {phases} phases,"
        f" {experiment.env_steps():,} env steps · {seeds} · {device['platform']} {device['kind']}",
        highlight=False,
    )
    console.print(f"{'resuming' if resumed else 'run'}: {folder.path}   (each program's first step compiles; later starts find it cached)", highlight=False)


def _say_goodbye(console: Any, folder: Any, status: str, tracked: bool) -> None:
    path = shlex.quote(str(folder.path))
    lines = [f"{status}: {folder.path}"]
    if status == "finished":
        lines += [f"evaluate:  gorl evaluate {path}", "browse:    gorl browse"] if tracked else [f"evaluate:  gorl evaluate {path}"]
    else:
        lines += [f"resume:    gorl train --resume {path}"]
    for line in lines:
        console.print(line, markup=False, highlight=False)
