"""Measures the seconds of a training iteration for 1, 2, 4, 8 and 16 seeds vmapped in one program.

    python -m experiments.benchmarks.seeds --out experiments/results/seeds.json

Each size is measured in one process, in which the numbers of seeds take turns. The numbers are medians over rounds,
without compilation. `factor` is the time of S seeds divided by that of one: S if all of the time is arithmetic, 1 if
more seeds are free. The sizes are 'toy' (required: a factor of at most 3), 'small' (parts/small.gin) and, with
--large, the published ones, for a GPU.
"""

import argparse
import json
import pathlib
import statistics
import time

import jax
import numpy as np

from experiments.benchmarks.provenance import provenance
from gorl import config
from gorl.runtime import seeds, trees

TOY = [
    "Task.environment = @Slider()",
    "NUM_ENVS = 4",
    "OnPolicy.batch_size = 4",
    "OnPolicy.num_minibatches = 4",
    "OnPolicy.unroll_length = 8",
    "policy/MLP.width = 32",
    "policy/MLP.depth = 1",
    "critic/MLP.width = 32",
    "critic/MLP.depth = 1",
]
SIZES = {
    "toy: Slider, 4 environments, width 32, minibatches of 32 steps": (["ppo.gin", "parts/small.gin"], TOY),
    "small: CartpoleBalance, 256 environments, width 64": (["ppo.gin", "parts/small.gin"], ["ENV = 'CartpoleBalance'"]),
}
LARGE = {"published: CheetahRun, 2048 environments": (["ppo.gin"], ["ENV = 'CheetahRun'"])}
SEEDS = (1, 2, 4, 8, 16)


class Iteration:
    """The training iteration of `count` seeds, compiled and ready to be timed."""

    def __init__(self, files: list[str], bindings: list[str], count: int):
        experiment = config.build(files, [*bindings, f"NUM_SEEDS = {count}"]).experiment
        self._step = next(experiment.planned_phases())
        self._phase = self._step.declaration
        numbers = np.asarray(experiment.seeds, np.int32)
        self._context = experiment.context(self._step, numbers)
        begin = lambda seed: self._phase.start(experiment.context(self._step, seed), experiment.initial_state(seed))  # noqa: E731
        self._state = trees.unshare_buffers(seeds.vmap_seeds(begin, numbers))
        self._done = 0
        self.env_steps = count * self._phase.algorithm.env_steps_per_iteration
        for _ in range(2):  # the first one compiles
            self.seconds(1)

    def seconds(self, iterations: int) -> float:
        """Returns the seconds of one iteration, as the mean over `iterations`."""
        began = time.perf_counter()
        for _ in range(iterations):
            self._state, _ = self._phase.iterate(self._context, self._state, self._done)
            self._done += 1
        jax.block_until_ready(self._state)
        return (time.perf_counter() - began) / iterations


def measured(files: list[str], bindings: list[str], rounds: int) -> list[dict]:
    candidates = {count: Iteration(files, bindings, count) for count in SEEDS}
    once = candidates[1].seconds(1)
    iterations = max(1, round(0.5 / once))
    times: dict[int, list[float]] = {count: [] for count in SEEDS}
    for _ in range(rounds):
        for count, candidate in candidates.items():
            times[count].append(candidate.seconds(max(1, iterations // count)))
    medians = {count: statistics.median(values) for count, values in times.items()}
    return [
        {
            "seeds": count,
            "ms": round(1e3 * medians[count], 3),
            "factor": round(medians[count] / medians[1], 2),
            "arithmetic_bound": count,
            "env_steps_per_s": round(candidates[count].env_steps / medians[count]),
        }
        for count in SEEDS
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    results = {}
    with jax.default_matmul_precision("highest"):
        for name, (files, bindings) in {**SIZES, **(LARGE if args.large else {})}.items():
            results[name] = measured(files, bindings, args.rounds)
            print(f"{name}\n| seeds | ms an iteration | factor | env steps/s |\n|---|---|---|---|")
            for r in results[name]:
                print(f"| {r['seeds']} | {r['ms']} | {r['factor']} | {r['env_steps_per_s']:,} |")
    if args.out:
        args.out.write_text(json.dumps({**provenance(), "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
