"""A phase that records the distribution of actions, and a command that draws it.

gorl train experiments/two_goals/two_goals.gin --plugin experiments/two_goals/action_density.py
python -m experiments.two_goals.action_density RUN [RUN ...] --out PICTURE.png
"""

import argparse
import pathlib
from typing import Any

import gin
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gorl.environments.task import Task
from gorl.fields import structural
from gorl.phases import AbstractPhase, PhaseContext, Unit
from gorl.phases.base import PhaseInputs
from gorl.runs.record import read
from gorl.runtime.programs import program
from gorl.state import RunState

GOAL, NEAR = 0.6, 0.2  # an action within NEAR of ± GOAL has a reward of at least exp(-2)


@gin.register(module="two_goals")
class DensityOnGrid(AbstractPhase):
    """A phase that measures the distribution of actions at the first observation, and changes nothing.

    It draws `samples` actions from the policy through the decoder, and records the masses of `bins` equal bins over
    (-1, 1), and the mass near each goal and between the goals.
    """

    bins: int = structural()
    samples: int = structural()

    def check(self, task: Task, inputs: PhaseInputs) -> PhaseInputs:
        del task
        return inputs

    def units(self, task: Task) -> tuple[Unit, ...]:
        del task
        return (Unit("density", self.measure, subset="density", axis="units"),)

    def start(self, context: PhaseContext, run: RunState) -> RunState:
        del context
        return run

    def measure(self, context: PhaseContext, run: RunState, index: int) -> tuple[RunState, dict[str, Any]]:
        return run, density((self, context.task), (run.policy, run.decoder, context.key("density", index)), ())

    def finish(self, context: PhaseContext, state: RunState) -> RunState:
        del context
        return state


@program
def density(shared: tuple, each: tuple, state: tuple) -> dict[str, Float[Array, ""]]:
    del state
    (phase, task), (policy, decoder, key) = shared, each
    obs = task.environment.reset(key).obs
    act = lambda k: jnp.tanh(decoder(obs, policy.sample(obs, key=k)[0]))[0]  # noqa: E731
    action = jax.vmap(act)(jax.random.split(key, phase.samples))
    masses = jnp.histogram(action, bins=phase.bins, range=(-1.0, 1.0))[0] / phase.samples
    near = {name: jnp.mean(jnp.abs(action - goal) < NEAR) for name, goal in (("left", -GOAL), ("right", GOAL))}
    between = jnp.mean(jnp.abs(action) < GOAL - NEAR)
    return {
        **{f"density/{i:03d}": m for i, m in enumerate(masses)},
        **{f"mass/{k}": v for k, v in near.items()},
        "mass/between": between,
    }


def main() -> None:
    import matplotlib.pyplot as plt

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    densities = [[e for e in read(run / "metrics.jsonl") if e.subset == "density"] for run in args.runs]
    columns = max(map(len, densities))
    figure, axes = plt.subplots(
        len(densities), columns, figsize=(3 * columns, 2 * len(densities)), sharex=True, squeeze=False
    )
    for run, entries, row in zip(args.runs, densities, axes):
        for entry, axis in zip(entries, row):
            masses = [v for k, v in sorted(entry.metrics.items()) if k.startswith("density/")]
            width = 2.0 / len(masses)
            axis.bar([-1.0 + width * (i + 0.5) for i in range(len(masses))], [m / width for m in masses], width=width)
            left, between, right = (entry.metrics[f"mass/{k}"] for k in ("left", "between", "right"))
            axis.set_title(
                f"{run.name}, stage {entry.stage}\n{left:.2f} left, {between:.2f} between, {right:.2f} right",
                fontsize=8,
            )
            for goal in (-GOAL, GOAL):
                axis.axvline(goal, color="black", linewidth=0.5)
        for axis in row[len(entries) :]:
            axis.axis("off")
    for axis in axes[-1]:
        axis.set_xlabel("action")
    for row in axes:
        row[0].set_ylabel("density")
    figure.tight_layout()
    figure.savefig(args.out, dpi=120)


if __name__ == "__main__":
    main()
