"""gorl check"""

import itertools
import shlex
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from gorl.cli import options


def command(
    files: options.Files = None,
    bindings: options.Bindings = None,
    gin_files: options.GinFiles = None,
    plugins: options.Plugins = None,
    reuse: Annotated[
        bool, typer.Option("--reuse", help="Show which phases are stored, and why the others are not.")
    ] = False,
    memory: Annotated[
        bool, typer.Option("--memory", help="Compile every program, and show what it needs of memory.")
    ] = False,
    debug: options.Debug = False,
) -> None:
    del debug
    from gorl import config

    names = [*(files or []), *(gin_files or [])]
    configuration = config.build(names, bindings or [], plugins or [])
    experiment = configuration.experiment
    for line in (
        _heading(names, configuration),
        "",
        *_table(experiment),
        "",
        *_rounded(experiment),
        *_changes(configuration.source),
    ):
        typer.echo(line)
    for note in configuration.notes:
        typer.echo(f"note: {note}")
    for line in (*(_stored(configuration) if reuse else ()), *(_memory(experiment) if memory else ())):
        typer.echo(line)
    settings = [*(f"--set {_quoted(b)}" for b in bindings or []), *(f"--plugin {_quoted(p)}" for p in plugins or [])]
    typer.echo(f"to run it: gorl train {' '.join([*map(_quoted, names), *settings])}")


def _stored(configuration: Any) -> Iterator[str]:
    """What `gorl train --reuse` and `gorl sweep` would take from the store."""
    from gorl.reuse.explain import why_not
    from gorl.reuse.identity import identities
    from gorl.reuse.store import default_store

    store = default_store()
    entries, whole = store.entries(), True
    for planned, identity in zip(configuration.experiment.planned_phases(), identities(configuration), strict=True):
        found = store.has(identity.key)
        why = "reused" if found else f"computed: {why_not(identity, entries) if whole else 'an earlier phase is'}"
        whole = whole and found
        yield f"stage {planned.stage}, {planned.name}: {why}"


def _memory(experiment: Any) -> Iterator[str]:
    """Of every program, as this machine's compiler lays it out."""
    from gorl.runtime import compilation
    from gorl.training.memory import needs

    compilation.use_persistent_cache()
    for need in needs(experiment):
        parts = f"{need.state / 2**20:,.0f} MiB of state + {need.working / 2**20:,.0f} MiB to work in"
        yield f"stage {need.planned.stage}, {need.planned.name}, {need.unit.name}: {need.total / 2**20:,.0f} MiB ({parts})"


def _quoted(word: str) -> str:
    """For a shell; in double quotes where that will do, since strings in bindings have single ones."""
    return f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else shlex.quote(word)


def _heading(names: list[str], configuration: Any) -> str:
    experiment = configuration.experiment
    env = experiment.task.environment.describe()
    where = ", ".join(str(env[k]) for k in ("library", "impl") if k in env)
    stages = len(experiment.stages)
    seeds = (
        f"seed {experiment.seed}"
        if experiment.num_seeds == 1
        else f"{experiment.num_seeds} seeds from {experiment.seed} at once (steps are each seed's)"
    )
    return (
        f"{' '.join(names)}: {env['name']} ({where}), episodes of {experiment.task.episode_length:,} steps, {stages} stage{'s' * (stages != 1)},"
        f" {seeds}, precision {experiment.precision}"
    )


def _table(experiment: Any) -> Iterator[str]:
    """Every phase of every stage, with the environment steps it will take."""
    rows = [("stage", "phase", "units", "env steps", "eval steps")]
    total = 0
    for planned in experiment.planned_phases():
        units = experiment.units(planned)
        counts = {name: len(list(group)) for name, group in itertools.groupby(sorted(u.name for u in units))}
        evaluation = sum(u.eval_steps for u in units)
        total += evaluation
        what = ", ".join(f"{count} {name}" if count > 1 else name for name, count in counts.items())
        rows.append((str(planned.stage), planned.name, what, f"{sum(u.env_steps for u in units):,}", f"{evaluation:,}"))
    rows.append(("", "total", "", f"{experiment.env_steps():,}", f"{total:,}"))
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(f"{cell:{'>' if i > 2 else '<'}{widths[i]}}" for i, cell in enumerate(row)) for row in rows]
    rule = "-" * len(lines[0])
    yield from (lines[0], rule, *lines[1:-1], rule, lines[-1])


def _rounded(experiment: Any) -> Iterator[str]:
    """Budgets that whole units exceed."""
    seen = set()
    for planned in experiment.planned_phases():
        asked, takes = (
            getattr(planned.declaration, "env_steps", None),
            sum(u.env_steps for u in experiment.units(planned)),
        )
        if asked is not None and takes != asked and (planned.name, asked) not in seen:
            seen.add((planned.name, asked))
            yield f"{planned.name}.env_steps = {asked:_} becomes {takes:_}: whole units only."


def _changes(source: Any) -> Iterator[str]:
    """What each named file, and the command line, changes of what was read before it."""
    from gorl.config.sources import COMMAND_LINE

    earlier: list[str] = []
    for name in (*source.named, COMMAND_LINE):
        parents = [*earlier, *(source.includes.get(name, []))]
        lines = [line for change in source.changes if change.origin.file == name and (line := _change(change, source))]
        if parents and lines:
            yield f"{name} changes {', '.join(parents)}:" if name != COMMAND_LINE else "--set changes:"
            width = max(len(left) for left, _ in lines)
            yield from (f"  {left:{min(width, 60)}s}   {right}".rstrip() for left, right in lines)
        earlier.append(name)


def _change(change: Any, source: Any) -> tuple[str, str] | None:
    """('Clip.epsilon = 0.2', 'was 0.1 (parts/base.gin:3)'), or None where nothing changes."""
    from gorl.config import tables
    from gorl.config.text import literal

    new = literal(change.new)
    if change.before is not None:
        old = literal(change.old)
        if old == new:
            return None
        text = "was required" if tables.is_required(change.old) else f"was {old} ({change.before})"
    elif change.inherited is not None:
        text = f"elsewhere {literal(tables.value_of(change.inherited))} ({tables.show_key(change.inherited)}, {source.origins.get(change.inherited)})"
    else:
        text = ""
    return f"{tables.show_key(change.key)} = {new}", text
