"""gorl evaluate"""

import pathlib
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from gorl.cli import options


def command(
    run: Annotated[pathlib.Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    episodes: Annotated[int, typer.Option("--episodes", min=1, help="Fresh episodes for each policy.")] = 128,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the episodes; not the run's.")] = 1_000_003,
    rule: Annotated[str, typer.Option("--rule", help="How the policy acts: mode, zero_noise or stochastic.")] = "mode",
    plugins: options.Plugins = None,
    debug: options.Debug = False,
) -> None:
    del debug
    import jax
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from gorl.acting.evaluator import Evaluator
    from gorl.errors import RunError
    from gorl.runs.folder import RunFolder
    from gorl.runtime import compilation
    from gorl.training.trained import confirmed_plugins

    compilation.use_persistent_cache()
    folder = RunFolder.open(run)
    evaluator = Evaluator(num_envs=episodes, rule=rule)
    typer.echo(f"{run}: {episodes} fresh episodes, rule {rule}")
    table = Table("seed", "policy", "return", "std", "min", "max")
    means: dict[str, list[float]] = {}
    loadable = []
    for member in folder.members:
        try:
            for name, m in _evaluated(member.path, plugins or [], evaluator, jax.random.key(seed)):
                table.add_row(str(member.facts("seed")["seed"]), name, *(f"{m[k]:.1f}" for k in ("return", "return_std", "return_min", "return_max")))
                means.setdefault(name, []).append(m["return"])
        except RunError as err:  # say of a seed that diverged before it had a policy: the others are shown
            if len(folder.members) == 1:
                raise
            typer.echo(str(err), err=True)
        else:
            loadable.append(member.path)
    if not loadable:
        raise RunError(f"no seed of {run} has a policy to evaluate.")
    for name, values in means.items() if len(folder.members) > 1 else ():
        table.add_row("all", name, *(f"{f(values):.1f}" for f in (np.mean, np.std, min, max)))
    Console().print(table)
    more = f", plugins={used!r}" if (used := list(confirmed_plugins(folder, plugins or []))) else ""
    typer.echo(f"in Python: gorl.load({str(loadable[0])!r}{more}).act(obs, key=jax.random.key(0))")


def _evaluated(path: pathlib.Path, plugins: list[str], evaluator: Any, key: Any) -> Iterator[tuple[str, dict[str, float]]]:
    """('best', metrics) and ('last', metrics) of one seed's policies."""
    from gorl.errors import RunError
    from gorl.runtime import seeds
    from gorl.runtime.precision import matrix_products
    from gorl.training import trained

    experiment, state = trained.restore(path, plugins)
    if state.policy is None:
        raise RunError(f"{path} has no policy yet: its first phase has not finished.")
    with matrix_products(experiment.precision):
        for name, policy in (("best", state.best), ("last", state.learner.policy)):
            metrics = evaluator.returns(experiment.task, *seeds.add_seed_axis((policy, state.decoder)), key=key[None])
            yield name, {k: float(v[0]) for k, v in metrics.items()}
