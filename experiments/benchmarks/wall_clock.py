"""Measures where a run's time goes, and what a method costs relative to Gaussian PPO.

    python -m experiments.benchmarks.wall_clock --out experiments/results/wall_clock.json

The seconds of every kind of unit are multiplied by the number of such units in a whole run. The task is CheetahRun
with the paper's hyperparameters and numbers of environment steps. Iterations have the size at which published code was
measured (256 environments, 30,720 env steps), which suits a smaller machine. Every unit runs on the state that the
previous phases produced. Two calls come first, because they compile; then the units of all methods take turns, and the
numbers are medians over the rounds. `hours` is the time of the whole run (180M env steps), as the sum of its units.
`outside_fit` is the time per env step without the fit's epochs, divided by that of PPO. Checkpoints, tracking and
pictures are not included (overhead.py measures them).
"""

import argparse
import collections
import json
import pathlib
import statistics
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from experiments.benchmarks.provenance import provenance
from experiments.benchmarks.timing import rounded, seconds
from gorl import config
from gorl.experiment import Experiment
from gorl.phases import PhaseContext, Unit
from gorl.runtime import seeds, trees
from gorl.runtime.precision import matrix_products

METHODS = {"PPO": "ppo.gin", "GoRL-FM, 10 steps": "gorl_fm.gin", "GoRL-MeanFlow, 1 step": "gorl_mean_flow.gin"}
MORE = ["presets/paper_v3.gin", "parts/tasks/CheetahRun.gin"]
SIZES = [
    "NUM_ENVS = 256",
    "OnPolicy.unroll_length = 30",
    "OnPolicy.num_minibatches = 8",
    "OnPolicy.batch_size = 128",
    "OnPolicy.num_epochs = 4",
]
STAGES = 2  # later stages repeat the second one


class Units:
    """One kind of unit of one phase. `run` runs it once more."""

    def __init__(self, name: str, unit: Unit, context: PhaseContext, state: Any):
        self.name, self._unit, self._context, self.state = name, unit, context, state

    def run(self) -> None:
        self.state, metrics = self._unit.run(self._context, self.state, 0)
        jax.block_until_ready((self.state, metrics))


def kinds(experiment: Experiment) -> Iterator[Units]:
    """Yields each kind of unit of the first stages, run twice on the state that the previous phase produced.

    Several kinds in one phase each have a copy of the phase's state. The next phase starts from the first kind's state.
    """
    numbers = np.asarray(experiment.seeds, np.int32)
    state = trees.unshare_buffers(seeds.vmap_seeds(experiment.initial_state, numbers))
    for step in experiment.planned_phases():
        if step.stage >= STAGES:
            return
        begun, context = experiment.start(step, numbers, state), experiment.context(step, numbers)
        found = [
            Units(kind(step, name), unit, context, trees.unshare_buffers(begun))
            for name, unit in {u.name: u for u in experiment.units(step)}.items()
        ]
        for units in found:
            units.run()
            units.run()
        state = trees.unshare_buffers(experiment.finish(step, numbers, trees.unshare_buffers(found[0].state)))
        yield from found


def kind(step: Any, unit: str) -> str:
    return f"{'first stage' if step.stage == 0 else 'later stages'}, {step.name}, {unit}"


def counts(experiment: Experiment) -> dict[str, int]:
    """Returns how many units of each kind the whole run has."""
    return dict(
        collections.Counter(
            kind(step, unit.name) for step in experiment.planned_phases() for unit in experiment.units(step)
        )
    )


def row(experiment: Experiment, times: dict[str, float]) -> dict[str, Any]:
    number = counts(experiment)
    hours = {name: number[name] * times[name] / 3600 for name in number}
    fit = sum(h for name, h in hours.items() if "FitDecoder" in name)
    total = sum(hours.values())
    return {
        "env_steps": experiment.env_steps(),
        "unit_s": times,
        "units": number,
        "hours_by_kind": hours,
        "hours": total,
        "fit_hours": fit,
        "fit_share": fit / total,
        "us_per_env_step_outside_fit": 3.6e9 * (total - fit) / experiment.env_steps(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", action="append", dest="bindings", default=[], metavar="BINDING")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    experiments = {
        m: config.build_here([file, *MORE], [*SIZES, *args.bindings]).experiment for m, file in METHODS.items()
    }
    with matrix_products(next(iter(experiments.values())).precision):
        units = {(m, u.name): u for m, e in experiments.items() for u in kinds(e)}
        times: dict[tuple, list[float]] = {key: [] for key in units}
        for _ in range(args.rounds):
            for key, one in units.items():
                times[key].append(seconds(one.run))
    results = {
        m: row(e, {name: statistics.median(t) for (method, name), t in times.items() if method == m})
        for m, e in experiments.items()
    }
    for result in results.values():
        result["outside_fit_over_ppo"] = (
            result["us_per_env_step_outside_fit"] / results["PPO"]["us_per_env_step_outside_fit"]
        )
    results = rounded(results)
    print(json.dumps(results, indent=1))
    if args.out:
        args.out.write_text(
            json.dumps({**provenance(), "sizes": SIZES, "files": MORE, "results": results}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
