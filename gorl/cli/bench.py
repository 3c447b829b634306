"""The command `gorl bench`."""

import json
import pathlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from gorl.cli import options, terminal
from gorl.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from gorl.environments.speed import Comparison

_PROVENANCE = ("gorl", "created", "python", "versions", "git", "device", "xla_flags")
"""The facts about a run that are saved with a result: those that contain no paths of this machine."""


def command(
    what: Annotated[str, typer.Argument(metavar="physics", help="What to measure.")],
    name: Annotated[str, typer.Argument(metavar="ENV", help="A DM Control task, such as CheetahRun.")],
    impls: Annotated[list[str] | None, typer.Option("--impl", help="Only this implementation. Repeatable.")] = None,
    num_envs: Annotated[int, typer.Option("--envs", help="Number of parallel environments.")] = 256,
    steps: Annotated[int, typer.Option("--steps", help="Steps per environment in a round.")] = 50,
    rounds: Annotated[int, typer.Option("--rounds", help="Number of rounds; the median is reported.")] = 5,
    out: Annotated[
        pathlib.Path | None,
        typer.Option("--json", metavar="FILE", help="Write the numbers and their provenance to a file."),
    ] = None,
    debug: options.Debug = False,
) -> None:
    del debug
    if what not in BENCHMARKS:
        raise ConfigError(f"`gorl bench {what}`: it measures {', '.join(BENCHMARKS)}.{did_you_mean(what, BENCHMARKS)}")
    BENCHMARKS[what](name, impls or [], num_envs, steps, rounds, out)


def _physics(name: str, impls: list[str], num_envs: int, steps: int, rounds: int, out: pathlib.Path | None) -> None:
    from gorl import runs
    from gorl.environments import speed

    setting = speed.Setting(num_envs, steps, rounds)
    comparison = speed.compare_implementations(name, impls, setting, lambda text: terminal.echo(text, err=True))
    for line in _lines(comparison):
        terminal.echo(line)
    if out is not None:
        facts = runs.facts()
        sizes = ["--envs", str(num_envs), "--steps", str(steps), "--rounds", str(rounds)]
        command = ["gorl", "bench", "physics", name, *sizes, *(f"--impl={i}" for i in impls)]
        result = {"command": command, **{k: facts[k] for k in _PROVENANCE}, **comparison.as_json()}
        out.write_text(json.dumps(result, indent=1) + "\n")


def _lines(comparison: "Comparison") -> Iterator[str]:
    slowest, best, setting = comparison.speeds[-1], comparison.speeds[0], comparison.setting
    yield (
        f"{comparison.name}, {setting.num_envs} environments, random actions,"
        f" median of {setting.rounds} rounds of {setting.steps} steps"
    )
    yield f"  {'impl':8s}{'env steps/s':>14s}{'times':>8s}{'spread':>16s}{'start':>10s}"
    for s in comparison.speeds:
        spread = f"{min(s.rounds):,.0f}-{max(s.rounds):,.0f}"
        times = s.env_steps_per_s / slowest.env_steps_per_s
        yield f"  {s.impl:8s}{s.env_steps_per_s:>14,.0f}{times:>8.1f}{spread:>16s}{s.start_s:>8.1f} s"
    for impl, why in comparison.absent.items():
        yield f"  {impl:8s}not measured: {why}"
    if comparison.busy:
        yield (
            f"other programs were running ({comparison.load:.1f} processes a core):"
            " compare the rows, not the numbers with others."
        )
    yield f"fastest here: --set \"PlaygroundEnvironment.impl = '{best.impl}'\""


BENCHMARKS = {"physics": _physics}
