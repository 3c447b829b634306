"""The command `gorl evaluate`."""

import pathlib
from typing import Annotated

import typer

from gorl.cli import options, terminal

_SHOWN = ("return", "return_std", "return_min", "return_max")


def command(
    run: Annotated[pathlib.Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    episodes: Annotated[int, typer.Option("--episodes", min=1, help="Number of fresh episodes per policy.")] = 128,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Seed of the episodes, unrelated to the run's seed.")
    ] = 1_000_003,
    rule: Annotated[str, typer.Option("--rule", help="How the policy acts: mode, zero_noise or stochastic.")] = "mode",
    physics: Annotated[
        str | None,
        typer.Option(
            "--physics", help="Evaluate under this physics: jax (MJX) or native (default: that of the training)."
        ),
    ] = None,
    stage: Annotated[
        int | None,
        typer.Option(
            "--stage", min=0, help="Evaluate the policies of this stage (default: the best of all, and the newest)."
        ),
    ] = None,
    plugins: options.Plugins = None,
    debug: options.Debug = False,
) -> None:
    del debug
    import numpy as np
    from rich.table import Table

    from gorl.acting.evaluator import Evaluator
    from gorl.errors import RunError
    from gorl.runs.folder import RunFolder
    from gorl.runtime import compilation
    from gorl.training.trained import confirmed_plugins, evaluate_seed

    compilation.use_persistent_cache()
    folder = RunFolder.open(run)
    evaluator = Evaluator(num_envs=episodes, rule=rule)
    trained_with = folder.facts().get("environment", {}).get("impl")
    other = f" (trained with {trained_with})" if physics not in (None, trained_with) else ""
    terminal.echo(f"{run}: {episodes} fresh episodes, rule {rule}, physics {physics or trained_with}{other}")
    table = Table("seed", "policy", "stage", "return", "std", "min", "max")
    means: dict[str, list[float]] = {}
    loadable = []
    settings = {"plugins": plugins or [], "physics": physics, "stage": stage}
    for member in folder.members:
        try:
            for result in evaluate_seed(member, evaluator, seed, **settings):
                table.add_row(
                    str(result.seed),
                    result.policy,
                    str(result.stage),
                    *(f"{result.metrics[name]:.1f}" for name in _SHOWN),
                )
                means.setdefault(result.policy, []).append(result.metrics["return"])
        except RunError as err:  # for example, the seed diverged before it had a policy; the others are still shown
            if len(folder.members) == 1:
                raise
            terminal.echo(str(err), err=True)
        else:
            loadable.append(member.path)
    if not loadable:
        raise RunError(f"no seed of {run} has a policy to evaluate.")
    for name, values in means.items() if len(folder.members) > 1 else ():
        table.add_row("all", name, "", *(f"{f(values):.1f}" for f in (np.mean, np.std, min, max)))
    terminal.console().print(table)
    more = f", plugins={used!r}" if (used := list(confirmed_plugins(folder, plugins or []))) else ""
    more += "" if stage is None else f", stage={stage}"
    terminal.echo(f"in Python: gorl.load({str(loadable[0])!r}{more}).act(obs, key=jax.random.key(0))")
