"""gorl bench"""

import json
import pathlib
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from gorl.cli import options
from gorl.errors import ConfigError, did_you_mean

KEPT = (
    "gorl",
    "created",
    "python",
    "versions",
    "git",
    "device",
    "xla_flags",
)  # of a result's origin: no paths of this machine


def command(
    what: Annotated[str, typer.Argument(metavar="physics", help="What to measure.")],
    name: Annotated[str, typer.Argument(metavar="ENV", help="A DM Control task, such as CheetahRun.")],
    impls: Annotated[list[str] | None, typer.Option("--impl", help="Only this implementation. Repeatable.")] = None,
    num_envs: Annotated[int, typer.Option("--envs", help="Environments at once.")] = 256,
    steps: Annotated[int, typer.Option("--steps", help="Steps of each in a round.")] = 50,
    rounds: Annotated[int, typer.Option("--rounds", help="The median of so many counts.")] = 5,
    out: Annotated[
        pathlib.Path | None, typer.Option("--json", metavar="FILE", help="Write the numbers, and where they come from.")
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

    found = speed.compare(name, impls, speed.Setting(num_envs, steps, rounds), lambda text: typer.echo(text, err=True))
    for line in _lines(found):
        typer.echo(line)
    if out is not None:
        known = runs.facts()
        command = [
            "gorl",
            "bench",
            "physics",
            name,
            "--envs",
            str(num_envs),
            "--steps",
            str(steps),
            "--rounds",
            str(rounds),
            *(f"--impl={i}" for i in impls),
        ]
        out.write_text(
            json.dumps({"command": command, **{k: known[k] for k in KEPT}, **found.as_json()}, indent=1) + "\n"
        )


def _lines(found: Any) -> Iterator[str]:
    slowest, best = found.speeds[-1], found.speeds[0]
    yield f"{found.name}, {found.setting.num_envs} environments, random actions, median of {found.setting.rounds} rounds of {found.setting.steps} steps"
    yield f"  {'impl':8s}{'env steps/s':>14s}{'times':>8s}{'spread':>16s}{'start':>10s}"
    for s in found.speeds:
        spread = f"{min(s.rounds):,.0f}-{max(s.rounds):,.0f}"
        yield f"  {s.impl:8s}{s.env_steps_per_s:>14,.0f}{s.env_steps_per_s / slowest.env_steps_per_s:>8.1f}{spread:>16s}{s.start_s:>8.1f} s"
    for impl, why in found.absent.items():
        yield f"  {impl:8s}not measured: {why}"
    if found.busy:
        yield f"other programs were running ({found.load:.1f} processes a core): compare the rows, not the numbers with others."
    yield f"fastest here: --set \"PlaygroundEnvironment.impl = '{best.impl}'\""


BENCHMARKS = {"physics": _physics}
