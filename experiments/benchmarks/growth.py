"""Measures how the cost of an environment step grows with environments, observation size and decoder network calls.

    python -m experiments.benchmarks.growth --out experiments/results/growth.json

The task is CartpoleBalance at the sizes of training.py, with one size changed at a time. Reports the microseconds per
env step of a rollout and of a whole iteration, as medians over the rounds. When the hardware is fully used, they are
constant in the number of environments and linear in the other two.
"""

import argparse
import json
import pathlib
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from experiments.benchmarks.provenance import provenance
from experiments.benchmarks.timing import in_turn, rounded
from experiments.benchmarks.training import METHODS, SIZES, Iteration
from gorl.environments.base import AbstractEnvironment
from gorl.fields import structural
from gorl.runtime.precision import matrix_products
from gorl.state import EnvState

ENVIRONMENTS, OBSERVATIONS, CALLS = (64, 128, 256, 512, 1024), (5, 20, 80, 320, 1280), (2, 4, 10, 20, 40)


class Wide(AbstractEnvironment):
    """The same task with its observation repeated to another size."""

    inner: AbstractEnvironment
    size: int = structural()

    @property
    def action_size(self) -> int:
        return self.inner.action_size

    def reset(self, key: PRNGKeyArray) -> EnvState:
        return self._wide(self.inner.reset(key))

    def step(self, state: EnvState, action: Float[Array, " D_a"]) -> EnvState:
        return self._wide(self.inner.step(state, action))

    def _wide(self, state: EnvState) -> EnvState:
        return eqx.tree_at(lambda s: s.obs, state, jnp.resize(state.obs, (self.size,)))

    def describe(self) -> dict[str, Any]:
        return {**self.inner.describe(), "observation": self.size}


def with_environments(count: int) -> Iteration:
    """Returns PPO's iteration with `count` environments, each of which gives four sequences."""
    others = [b for b in SIZES if not b.startswith(("NUM_ENVS", "OnPolicy.batch_size"))]
    return Iteration(
        METHODS["PPO"],
        ["ENV = 'CartpoleBalance'", *others, f"NUM_ENVS = {count}", f"OnPolicy.batch_size = {count // 2}"],
    )


def with_observations(size: int) -> Iteration:
    return Iteration(METHODS["PPO"], ["ENV = 'CartpoleBalance'", *SIZES], lambda env: Wide(env, size))


def with_calls(count: int) -> Iteration:
    return Iteration(METHODS["GoRL-FM"], ["ENV = 'CartpoleBalance'", *SIZES, f"Midpoint.steps = {count // 2}"])


WORK = {
    "environments (PPO)": (with_environments, ENVIRONMENTS),
    "size of the observation (PPO)": (with_observations, OBSERVATIONS),
    "network calls of the decoder (GoRL-FM)": (with_calls, CALLS),
}


def measured(make: Callable[[int], Iteration], values: tuple[int, ...], rounds: int) -> list[dict[str, Any]]:
    candidates = {value: make(value) for value in values}
    times = in_turn(
        {f"{v} {what}": getattr(c, what) for v, c in candidates.items() for what in ("rollout", "iteration")}, rounds
    )
    steps = {v: c.algorithm.env_steps_per_iteration for v, c in candidates.items()}
    return [
        {
            "value": v,
            **{f"{what}_us_per_env_step": 1e6 * times[f"{v} {what}"] / steps[v] for what in ("rollout", "iteration")},
        }
        for v in values
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    results = {}
    with matrix_products("highest"):
        for name, (make, values) in WORK.items():
            results[name] = rounded(measured(make, values, args.rounds))
            print(json.dumps({name: results[name]}, indent=1), flush=True)
    if args.out:
        args.out.write_text(json.dumps({**provenance(), "sizes": SIZES, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
