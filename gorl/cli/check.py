"""The command `gorl check`."""

import itertools
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from gorl.cli import options, terminal

if TYPE_CHECKING:
    from gorl.config import Configuration
    from gorl.config.sources import Change, Source
    from gorl.experiment import Experiment


def command(
    files: options.Files = None,
    bindings: options.Bindings = None,
    gin_files: options.GinFiles = None,
    plugins: options.Plugins = None,
    reuse: Annotated[
        bool, typer.Option("--reuse", help="Show which phases are stored, and why the others are not.")
    ] = False,
    memory: Annotated[
        bool, typer.Option("--memory", help="Compile every program, and show how much memory it needs.")
    ] = False,
    debug: options.Debug = False,
) -> None:
    del debug
    from gorl import config

    names = [*(files or []), *(gin_files or [])]
    configuration = config.build(names, bindings or [], plugins or [])
    experiment = configuration.experiment
    _check_devices(experiment, keep_device=reuse or memory)
    config.trace_phases(configuration)
    for line in (
        _heading(names, configuration),
        "",
        *_table(experiment),
        "",
        *_rounded(experiment),
        *_limited(experiment),
        *_changes(configuration.source),
    ):
        terminal.echo(line)
    for note in configuration.notes:
        terminal.echo(f"note: {note}")
    for line in (*(_stored(configuration) if reuse else ()), *(_memory(experiment) if memory else ())):
        terminal.echo(line)
    settings = [*(f"--set {_quoted(b)}" for b in bindings or []), *(f"--plugin {_quoted(p)}" for p in plugins or [])]
    if study := configuration.study:
        terminal.echo(f"note: {study} declares a study. The table above is that of its base; --dry-run shows all runs.")
    verb = "sweep" if study else "train"
    terminal.echo(f"to run it: gorl {verb} {' '.join([*map(_quoted, names), *settings])}")


def _check_devices(experiment: "Experiment", *, keep_device: bool) -> None:
    """Raises ConfigError if this machine has fewer devices than are asked for. Starts them only to count them."""
    if experiment.devices not in (None, 1):
        experiment.choose_devices()
    elif not keep_device:
        import jax

        jax.config.update("jax_platforms", "cpu")  # tracing asks for a platform, and needs no other


def _stored(configuration: "Configuration") -> Iterator[str]:
    """Yields the phases that `gorl train --reuse` and `gorl sweep` would load from the store, and why not others."""
    from gorl.reuse.explain import explain_miss
    from gorl.reuse.identity import identities
    from gorl.reuse.store import default_store

    store = default_store()
    entries, all_stored = store.entries(), True
    for planned, identity in zip(configuration.experiment.planned_phases(), identities(configuration), strict=True):
        is_stored = store.has(identity.key)
        reason = explain_miss(identity, entries) if all_stored and not is_stored else "an earlier phase is"
        all_stored = all_stored and is_stored
        yield f"stage {planned.stage}, {planned.name}: {'reused' if is_stored else f'computed: {reason}'}"


def _memory(experiment: "Experiment") -> Iterator[str]:
    """Yields the memory that each program needs, as planned by this machine's compiler."""
    from gorl.runtime import compilation
    from gorl.training.memory import memory_needs

    compilation.use_persistent_cache()
    for need in memory_needs(experiment):
        parts = f"{need.state / 2**20:,.0f} MiB of state + {need.working / 2**20:,.0f} MiB to work in"
        program = f"stage {need.planned.stage}, {need.planned.name}, {need.unit.name}"
        yield f"{program}: {need.total / 2**20:,.0f} MiB ({parts})"


def _quoted(word: str) -> str:
    """Quotes a word for a shell, in double quotes if possible, because strings in bindings have single quotes."""
    return f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else shlex.quote(word)


def _heading(names: list[str], configuration: "Configuration") -> str:
    experiment = configuration.experiment
    env = experiment.task.describe()
    where = ", ".join(str(env[k]) for k in ("library", "impl") if k in env)
    stages = len(experiment.stages)
    seeds = (
        f"seed {experiment.seed}"
        if experiment.num_seeds == 1
        else f"{experiment.num_seeds} seeds from {experiment.seed} in one program (steps are per seed)"
    )
    return (
        f"{' '.join(names)}: {env['name']} ({where}), episodes of {experiment.task.episode_length:,} steps,"
        f" {stages} stage{'s' * (stages != 1)}, {seeds}, precision {experiment.precision}"
    )


def _table(experiment: "Experiment") -> Iterator[str]:
    """Yields a table of every phase of every stage, with the environment steps that it takes."""
    rows = [("stage", "phase", "units", "env steps", "eval steps")]
    total = 0
    for planned in experiment.planned_phases():
        units = experiment.units(planned)
        counts = {name: len(list(group)) for name, group in itertools.groupby(sorted(u.name for u in units))}
        evaluation = sum(u.eval_steps for u in units)
        total += evaluation
        what = ", ".join(f"{count} {name}" if count > 1 else name for name, count in counts.items())
        what = f"at most {what}" if planned.declaration.may_end_early else what
        rows.append((str(planned.stage), planned.name, what, f"{sum(u.env_steps for u in units):,}", f"{evaluation:,}"))
    name = "at most" if experiment.may_take_fewer else "total"
    rows.append(("", name, "", f"{experiment.env_steps():,}", f"{total:,}"))
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(f"{cell:{'>' if i > 2 else '<'}{widths[i]}}" for i, cell in enumerate(row)) for row in rows]
    rule = "-" * len(lines[0])
    yield from (lines[0], rule, *lines[1:-1], rule, lines[-1])


def _rounded(experiment: "Experiment") -> Iterator[str]:
    """Yields the budgets that are rounded up to whole units."""
    seen = set()
    for planned in experiment.planned_phases():
        budget = getattr(planned.declaration, "env_steps", None)
        rounded = sum(u.env_steps for u in experiment.units(planned))
        if budget is not None and rounded != budget and (planned.name, budget) not in seen:
            seen.add((planned.name, budget))
            yield f"{planned.name}.env_steps = {budget:_} becomes {rounded:_}: whole units only."


def _limited(experiment: "Experiment") -> Iterator[str]:
    """Yields why the run may take fewer steps than its stages declare."""
    if experiment.is_adaptive:
        yield "a rule (ImprovePolicy.end) may end phases early, so units and steps are the most that will run."
    if experiment.budget is not None:
        declared = sum(u.env_steps for planned in experiment.planned_phases() for u in experiment.units(planned))
        yield f"Experiment.budget = {experiment.budget:_} limits all stages together, which declare {declared:_}."


def _changes(source: "Source") -> Iterator[str]:
    """Yields the bindings of earlier files that each named file, and the command line, changes."""
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


def _change(change: "Change", source: "Source") -> tuple[str, str] | None:
    """Returns ('Clip.epsilon = 0.2', 'was 0.1 (parts/base.gin:3)'), or None where nothing changes."""
    from gorl.config import tables
    from gorl.config.text import brief

    new = brief(change.new)
    if change.before is not None:
        old = brief(change.old)
        if old == new:
            return None
        text = "was required" if tables.is_required(change.old) else f"was {old} ({change.before})"
    elif change.inherited is not None:
        key = change.inherited
        text = f"elsewhere {brief(tables.value_of(key))} ({tables.show_key(key)}, {source.origins.get(key)})"
    else:
        text = ""
    return f"{tables.show_key(change.key)} = {new}", text
