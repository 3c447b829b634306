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
    return _execute(configuration, folder, folder.facts(), aim, resumed=False)


def _resume(path: pathlib.Path, aim: bool) -> int:
    from gorl import config, runs

    folder = runs.RunFolder.open(path)
    folder.lock()
    facts = folder.facts()
    configuration = config.build([str(folder.config_path)], plugins=facts["plugins"])
    _warn_of_differences(facts, runs.facts())
    return _execute(configuration, folder, facts, aim, resumed=True)


def _warn_of_differences(then: dict[str, Any], now: dict[str, Any]) -> None:
    changed = [f"{k} {then['versions'].get(k)} -> {v}" for k, v in now["versions"].items() if then["versions"].get(k) != v]
    changed += [f"{k} {then[k]} -> {now[k]}" for k in ("gorl", "device", "xla_flags") if then[k] != now[k]]
    if changed:
        typer.echo("gorl: not the same as when the run began, so it goes on from the same state but not bit for bit: " + "; ".join(changed), err=True)


def _execute(configuration: Any, folder: Any, facts: dict[str, Any], aim: bool, *, resumed: bool) -> int:
    from rich.console import Console

    from gorl import compilation
    from gorl.analysis.summary import final_table
    from gorl.tracking.base import RunInfo
    from gorl.tracking.console import ConsoleDisplay
    from gorl.trainer import Interrupted, Trainer

    start_up = compilation.StartUp()
    compilation.use_persistent_cache()
    quiet.quiet_warp()
    experiment, console = configuration.experiment, Console(soft_wrap=True)
    trackers = experiment.trackers if aim else ()
    info = RunInfo(
        str(folder.path.absolute()), facts["name"], facts["study"], experiment.seed, configuration.parameters(), configuration.operative, facts, resumed
    )
    _say_hello(console, experiment, folder, facts, resumed)
    for tracker in trackers:
        tracker.start(info)
    status, code = "failed", 1
    folder.set_status("running", pid=os.getpid())
    try:
        with ConsoleDisplay(experiment, console) as display:
            Trainer(experiment, folder, [start_up, display.entry, *(t.log for t in trackers)], display.progress).run()
        status, code = "finished", 0
    except Interrupted as stop:
        status, code = "interrupted", 128 + stop.signal
        console.print(f"{signal.Signals(stop.signal).name}: the state is saved.", highlight=False)
    finally:
        table, summary = final_table(folder.record_path)
        folder.set_status(status, **summary, start_up=start_up.result, compilation=compilation.totals())
        for tracker in trackers:
            tracker.close(status, {k: v for k, v in summary.items() if math.isfinite(v)})
    if code == 0 and table is not None:
        console.print(table)
    _say_goodbye(console, folder, status, bool(trackers))
    return code


def _say_hello(console: Any, experiment: Any, folder: Any, facts: dict[str, Any], resumed: bool) -> None:
    where = experiment.task.environment.describe()
    phases = sum(len(s.phases) for s in experiment.stages)
    device = facts["device"]
    console.print(
        f"gorl {facts['gorl']} · {where['name']} ({where.get('impl', '')}) · {len(experiment.stages)} stages, {phases} phases,"
        f" {experiment.env_steps():,} env steps · seed {experiment.seed} · {device['platform']} {device['kind']}",
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
