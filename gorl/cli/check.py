"""gorl check"""

import itertools
from typing import Any

import typer

from gorl.cli import options


def command(
    files: options.Files = None,
    bindings: options.Bindings = None,
    gin_files: options.GinFiles = None,
    plugins: options.Plugins = None,
    debug: options.Debug = False,
) -> None:
    del debug
    from rich.console import Console
    from rich.table import Table

    from gorl import config

    names = [*(files or []), *(gin_files or [])]
    configuration = config.build(names, bindings or [], plugins or [])
    experiment, console = configuration.experiment, Console(soft_wrap=True)
    env = experiment.task.environment.describe()
    console.print(f"{' '.join(names)}: {env['name']} ({env['library']}, {env.get('impl', '-')}), seed {experiment.seed}, precision {experiment.precision}", highlight=False)
    table = Table("stage", "phase", "units", "env steps", "evaluation steps")
    for step in experiment.steps():
        units = experiment.units(step)
        counts = [f"{len(list(group))} x {name}" for name, group in itertools.groupby(sorted(u.name for u in units))]
        table.add_row(str(step.stage), step.name, ", ".join(counts), f"{sum(u.env_steps for u in units):,}", f"{sum(u.eval_steps for u in units):,}")
    table.add_section()
    evaluation = sum(u.eval_steps for s in experiment.steps() for u in experiment.units(s))
    table.add_row("", "total", "", f"{experiment.env_steps():,}", f"{evaluation:,}")
    console.print(table)
    _changes(console, configuration)
    for note in configuration.notes:
        console.print(f"note: {note}", markup=False, highlight=False)
    typer.echo(f"to run it: gorl train {' '.join(names)}")


def _changes(console: Any, configuration: Any) -> None:
    """What the named files and --set change of the files they include."""
    from gorl.config.mistakes import show_key

    last = {}
    for _, key, old, new, origin in configuration.source.changes:
        before = last[key][0] if key in last else None
        if old is not None and repr(old) != repr(new):
            last[key] = (before if before is not None else old, new, origin)
    for key, (old, new, origin) in last.items():
        console.print(f"changes {show_key(key)}: {old!r} -> {new!r}   ({origin})", markup=False, highlight=False)
