"""gorl evaluate"""

import pathlib
from typing import Annotated

import typer

from gorl.cli import options


def command(
    run: Annotated[pathlib.Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    episodes: Annotated[int, typer.Option("--episodes", min=1, help="Fresh episodes for each policy.")] = 128,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the episodes; not the run's.")] = 1_000_003,
    stochastic: Annotated[bool, typer.Option("--stochastic", help="Sample the policy instead of taking its mode.")] = False,
    debug: options.Debug = False,
) -> None:
    del debug
    import jax
    from rich.console import Console
    from rich.table import Table

    from gorl import compilation, runs
    from gorl.errors import RunError
    from gorl.evaluator import Evaluator

    compilation.use_persistent_cache()
    experiment, state = runs.restore(run)
    if state.policy is None:
        raise RunError(f"{run} has no policy yet: its first phase has not finished.")
    evaluator = Evaluator(num_envs=episodes, deterministic=not stochastic)
    typer.echo(f"{run}: {episodes} fresh episodes, the policy's {'samples' if stochastic else 'mode'}")
    table = Table("policy", "return", "std", "min", "max")
    with jax.default_matmul_precision(experiment.precision):
        for name, policy in (("best", state.best), ("last", state.learner.policy)):
            m = evaluator.returns(experiment.task, policy, state.decoder, key=jax.random.key(seed))
            table.add_row(name, *(f"{float(m[k]):.1f}" for k in ("return", "return_std", "return_min", "return_max")))
    Console().print(table)
    typer.echo(f"in Python: gorl.load({str(run)!r}).act(obs, key=jax.random.key(0))")
